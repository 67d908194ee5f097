"""Run all benchmarks and write the results: ``make bench``.

``--only peers floor`` runs some sections and keeps the results of the others. ``--quick`` is a small trial that writes
nothing.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from benchmarks import limits as many_limits
from benchmarks.contenders import CONTENDERS
from benchmarks.harness import ENVIRONMENTS, ROOT, alternate, job, python, ratio, stub
from benchmarks.soak import NONZEROS, STALL, growth
from simulation import quotas, virtual
from simulation.limits import TokenBucket
from sparse_embed import Quota

RESULTS = Path(__file__).parent / "results"
console = Console(highlight=False)


@dataclass
class Size:
    """How much is measured."""

    texts: int = 10_000
    rounds: int = 5  # when a round takes seconds
    many_rounds: int = 15  # when a round takes less than a second, or the figure is close to its target
    queries: int = 2_000
    seeds: int = 9  # of a simulation
    seconds_limited: int = 60
    streamed: tuple[int, int] = (10_000, 1_000_000)
    documents: int = 100_000
    soak_minutes: float = 10.0


QUICK = Size(
    2_000, 1, 2, queries=200, seeds=1, seconds_limited=6, streamed=(10_000, 50_000), documents=2_000, soak_minutes=0.2
)


@dataclass
class Row:
    """One figure.

    Attributes:
        target: The least value if positive, the negated greatest value if negative, None if there is no target.
        case: What differs between rows of the same figure; the page of results shows the worst of them.
    """

    figure: str
    value: float
    target: float | None = None
    detail: str = ""
    case: str = ""

    @property
    def met(self) -> bool | None:
        if self.target is None:
            return None
        return self.value >= self.target if self.target > 0 else self.value <= -self.target


Section = Callable[[Size], tuple[list[Row], Any]]


def tell(line: str) -> None:
    console.print(f"  [dim]{line}[/dim]")


def walls(runs: list[dict[str, float]]) -> list[float]:
    return [run["wall"] for run in runs]


def cpus(runs: list[dict[str, float]]) -> list[float]:
    return [run["cpu"] for run in runs]


def speeds(figures: dict[str, list[dict[str, float]]], texts: int) -> dict[str, dict[str, float]]:
    """Medians: texts per second, and µs of CPU per text."""
    return {
        name: {
            "texts/s": round(texts / statistics.median(walls(runs))),
            "CPU µs/text": round(statistics.median(cpus(runs)) / texts * 1e6, 1),
        }
        for name, runs in figures.items()
    }


def throughput(
    figures: dict[str, list[dict[str, float]]], ours: str, theirs: str, case: str, target: float | None
) -> Row:
    value = ratio(walls(figures[theirs]), walls(figures[ours]))
    return Row(f"throughput at {case}: {ours} / {theirs}", value, target)


PEERS = [
    ("sparse-embed", "langchain-pinecone", 14.0),
    ("sparse-embed async", "langchain-pinecone async", 14.0),
    ("sparse-embed", "pinecone SDK", 8.0),
    ("sparse-embed, Chroma", "chromadb", 8.0),
]
LATENCIES = (50, 5, 200)


def peers(size: Size) -> tuple[list[Row], Any]:
    """Throughput against the peers."""
    rows, raw = [], {}
    names = list(dict.fromkeys(name for ours, theirs, _ in PEERS for name in (ours, theirs)))
    for ms in LATENCIES:
        with stub(latency=ms / 1000) as provider:
            figures = alternate(names, provider.address, count=size.texts, rounds=size.rounds, tell=tell)
        case = f"{ms} ms"
        for ours, theirs, target in PEERS:
            rows.append(throughput(figures, ours, theirs, case, target if ms == 50 else None))
        raw[case] = speeds(figures, size.texts)
    return rows, raw


FLOOR = ((50, 1, 0.82, 0.9), (50, 4, 0.87, 1.0), (5, 1, None, None), (200, 1, None, None))


def floor(size: Size) -> tuple[list[Row], Any]:
    """Throughput and CPU against hand-written code that checks nothing; also of a call four times as long."""
    rows, raw = [], {}
    names = ["sparse-embed", "floor", "sparse-embed async", "floor async"]
    for ms, times, *targets in FLOOR:
        texts, rounds = times * size.texts, max(1, size.many_rounds // times)
        with stub(latency=ms / 1000) as provider:
            figures = alternate(names, provider.address, count=texts, rounds=rounds, tell=tell)
        case = f"{ms} ms" if times == 1 else f"{ms} ms, {texts:,} texts"
        for ours, theirs, target in zip(names[::2], names[1::2], targets, strict=True):
            rows.append(throughput(figures, ours, theirs, case, target))
            value = ratio(cpus(figures[ours]), cpus(figures[theirs]))
            rows.append(Row(f"CPU per text at {case}: {ours} / {theirs}", value))
        raw[case] = speeds(figures, texts)
    return rows, raw


def frameworks(size: Size) -> tuple[list[Row], Any]:
    """Throughput of our LangChain and LlamaIndex classes against the core."""
    names = ["sparse-embed", "our LangChain class", "our LlamaIndex class"]
    names += [f"{name} async" for name in names]
    with stub(latency=0.05) as provider:
        figures = alternate(names, provider.address, count=size.texts, rounds=size.many_rounds, tell=tell)
    pairs = [(name, "sparse-embed async" if name.endswith("async") else "sparse-embed") for name in names]
    rows = [throughput(figures, name, core, "50 ms", 0.9) for name, core in pairs if name != core]
    return rows, speeds(figures, size.texts)


def queries(size: Size) -> tuple[list[Row], Any]:
    """Latency of one query; the stub answers without delay."""
    rows, raw = [], {}
    for way in ("sync", "async"):
        with stub() as provider:
            runs = [
                job("jobs.queries", address=provider.address, count=size.queries, way=way) for _ in range(size.rounds)
            ]
        raw[way] = {
            name: {at: round(statistics.median(run[name][at] for run in runs) * 1e6) for at in ("p50", "p99")}
            for name in runs[0]
        }
        for bare, targets in (("httpx", (-1.15, -1.3)), ("httpx + orjson", (None, None))):
            for at, target in zip(("p50", "p99"), targets, strict=True):
                value = statistics.median(run["ours"][at] / run[bare][at] for run in runs)
                detail = f"{raw[way]['ours'][at]} / {raw[way][bare][at]} µs"
                rows.append(Row(f"query {at}, {way}: sparse-embed / {bare}", value, target, detail))
    return rows, raw


class Limited(NamedTuple):
    """A rate limit in real time.

    Attributes:
        per_second: What it allows, in units of `unit`.
        capacity: What it allows at once.
        unit: "texts" or "tokens".
        texts: About how many texts per second that is.
        options: The stub's options for it.
    """

    per_second: float
    capacity: float
    unit: str
    texts: int
    options: dict[str, Any]


LIMITS = {
    "20 per second": Limited(20, 20, "texts", 20, {"rate": 20, "capacity": 20}),
    "60,000 tokens per minute": Limited(1000, 60_000, "tokens", 10, {"tokens": 60_000}),
}


def limits(size: Size) -> tuple[list[Row], Any]:
    """Rate limits: all clients at the same time for a minute of real time; thousands of requests in virtual time."""
    rows, raw = [], {}
    runs = [("20 per second", "sparse-embed", header) for header in ("honest", "whole", "absent", "zero", "tenfold")]
    runs += [("60,000 tokens per minute", "sparse-embed", header) for header in ("whole", "absent")]
    runs += [(limit, "sparse-embed async", "honest") for limit in LIMITS]
    runs += [(limit, name, "whole") for limit in LIMITS for name in ("langchain-pinecone", "pinecone SDK", "chromadb")]
    tell(f"{len(runs)} clients, {size.seconds_limited} s")

    def one(run: tuple[str, str, str]) -> tuple[int, dict[str, Any], dict[str, int]]:
        name, client, header = run
        limit = LIMITS[name]
        count = round((limit.capacity / limit.per_second + size.seconds_limited) * limit.texts)
        with stub(latency=0.005, nonzeros=20, retry_after=header, **limit.options) as provider:
            environment = CONTENDERS[client].environment
            found = job("jobs.limited", environment=environment, address=provider.address, count=count, name=client)
            return count, found, provider.stats()

    with ThreadPoolExecutor(len(runs)) as pool:
        outcomes = list(pool.map(one, runs))
    for (name, client, header), (count, found, stats) in zip(runs, outcomes, strict=True):
        limit = LIMITS[name]
        goodput = stats[limit.unit] / (limit.capacity + limit.per_second * found["seconds"])
        waste = stats.get("429", 0) / stats["requests"]
        detail = f"{found['vectors']} of {count} texts in {found['seconds']:.0f} s" + (
            f", then {found['error']}" if found["error"] else ""
        )
        ours = client.startswith("sparse-embed")
        figure, case = f"{name}, real time, {client}", f"Retry-After {header}"
        rows.append(Row(f"{figure}: goodput / allowed", goodput, 0.95 if ours else None, detail, case))
        rows.append(Row(f"{figure}: refused / sent", waste, -0.05 if ours else None, f"{stats['requests']} sent", case))
        raw[f"{figure}, {case}"] = {**found, **stats}
    for name, header, outcome in virtual.runs():
        goodput = statistics.median(run.goodput for run in outcome)
        waste = statistics.median(run.waste for run in outcome)
        figure, case = f"{name}, virtual time", f"Retry-After {header}"
        worst = f"worst of {len(outcome)} seeds: {min(run.goodput for run in outcome):.3f}"
        targets = (0.95, -0.05) if name in virtual.BUCKETS else (None, None)
        rows.append(Row(f"{figure}: goodput / allowed", goodput, targets[0], worst, case))
        worst = f"worst of {len(outcome)} seeds: {max(run.waste for run in outcome):.3f}"
        rows.append(Row(f"{figure}: refused / sent", waste, targets[1], worst, case))
    return rows, raw


LONGEST = {105: 1.25, 500: 1.10, 2000: 1.05}  # time / ideal in buckets, by number of requests
LONGEST_EXPENSIVE = {105: 1.7, 500: 1.2, 2000: 1.1}
WASTE = {60: 0.35, 105: 0.25, 500: 0.07, 2000: 0.04}  # refused / sent


def pace(size: Size) -> tuple[list[Row], Any]:
    """Short and long jobs against many limits, in virtual time; all cells go to limits.json."""
    cells = dict(many_limits.measure(size.seeds))
    if size is not QUICK:
        many_limits.write(cells)
    rows = []
    for name, group in many_limits.GROUPS.items():
        found = {cell: figure for cell, figure in cells.items() if cell.group == name}
        mean = statistics.geometric_mean(figure.time for figure in found.values())
        target = group.target and -group.target
        rows.append(Row(f"time / ideal, {name}: geometric mean", mean, target, f"{len(found)} cells"))
        for cell, (time, waste) in found.items():
            case = f"{cell.limit}, Retry-After {cell.header}"
            kind, longest = name, LONGEST if name == "buckets" else dict.fromkeys(LONGEST, 1.2)
            if name == "buckets" and many_limits.is_expensive(cell):
                kind, longest = "buckets that a pause of whole seconds overfills", LONGEST_EXPENSIVE
            if name in ("buckets", "windows") and cell.requests in longest:
                figure = f"time / ideal, {kind}, {cell.requests} requests"
                rows.append(Row(figure, time, -longest[cell.requests], "", case))
            if name in ("buckets", "windows"):
                figure = f"refused / sent, {name}, {cell.requests} requests"
                rows.append(Row(figure, waste, -WASTE[cell.requests], "", case))
    return rows, None


def short_jobs(size: Size) -> tuple[list[Row], Any]:
    """60 and 105 requests against a rate limit over real sockets; the machine should do nothing else."""
    rows = []
    for limit, header, requests, client, ratios in many_limits.sockets(size.rounds):
        target = -2.0 if header == "whole seconds" else -1.3
        detail = "all rounds: " + ", ".join(f"{value:.2f}" for value in sorted(ratios))
        figure, case = f"time / ideal over sockets, Retry-After {header}", f"{limit}, {requests} requests, {client}"
        rows.append(Row(figure, max(ratios), target, detail, case))
    return rows, None


def known_quota(size: Size) -> tuple[list[Row], Any]:
    """2,000 requests with a `Quota` that is the provider's, in virtual time."""
    rows = []
    for name, quota, allowed, request_limit, token_limit in (
        ("requests", Quota(requests_per_minute=600), 600, TokenBucket(10, 10), None),
        ("tokens", Quota(tokens_per_minute=250_000), 250_000, None, TokenBucket(250_000 / 60, 20_000)),
    ):
        run = quotas.simulate(
            quota,
            quotas.texts_of((100, 200, 500), 8, 2000, 0),
            lambda text: len(text) // 5,
            request_limit=request_limit,
            token_limit=token_limit,
        )
        used = run.per_minute(lambda tokens: tokens) if token_limit else run.per_minute(lambda _: 1)
        rows.append(Row(f"known quota of {name}: refusals", run.refused, -1e-9))
        rows.append(Row(f"known quota of {name}: used / allowed", used / allowed, 0.97))
    return rows, None


def stream(size: Size) -> tuple[list[Row], Any]:
    """Peak resident memory (VmHWM) of streaming a million texts, against streaming ten thousand."""
    rows, raw = [], {}
    few, many = size.streamed
    for way in ("sync", "async"):
        runs: dict[int, list[dict[str, Any]]] = {few: [], many: []}
        with stub(nonzeros=8) as provider:
            for _ in range(size.rounds):
                for count, figures in runs.items():
                    figures.append(job("jobs.stream", address=provider.address, count=count, way=way))
                    last = figures[-1]
                    tell(f"{way}, {count:,}: {last['peak'] / 1024:.1f} MiB, {count / last['seconds']:,.0f} texts/s")
        value = ratio([run["peak"] for run in runs[many]], [run["peak"] for run in runs[few]])
        peaks = [statistics.median(run["peak"] for run in of) / 1024 for of in runs.values()]
        last = runs[many][-1]
        detail = (
            f"{peaks[1]:.1f} / {peaks[0]:.1f} MiB; {last['read at first vector']} texts read before the first vector, "
            f"at most {last['furthest ahead']} ahead"
        )
        rows.append(Row(f"peak memory, {way}: streaming {many:,} / {few:,} texts", value, -1.1, detail))
        raw[way] = runs
    return rows, raw


def held(size: Size) -> tuple[list[Row], Any]:
    """Resident memory (VmRSS) per vector held, against the SDK's own objects."""
    raw: dict[str, list[dict[str, float]]] = {"sparse-embed": [], "sparse-embed async": [], "pinecone SDK": []}
    with stub() as provider:
        for _ in range(size.rounds):
            for name, figures in raw.items():
                environment = CONTENDERS[name].environment
                figures.append(
                    job("jobs.held", environment=environment, address=provider.address, count=size.texts, name=name)
                )
    rows = []
    for name in ("sparse-embed", "sparse-embed async"):
        for what, target, note in (
            ("KiB per vector", -1.0, ""),
            ("trimmed", None, "; after malloc_trim, which returns free memory to the system"),
        ):
            ours, theirs = ([run[what] for run in raw[of]] for of in (name, "pinecone SDK"))
            detail = f"{statistics.median(ours):.1f} / {statistics.median(theirs):.1f} KiB{note}"
            rows.append(Row(f"memory per held vector: {name} / pinecone SDK", ratio(ours, theirs), target, detail))
    return rows, raw


IMPORTS = {  # our statement; that of the target; and for LangChain the same with the class that every user loads
    "langchain_sparse_embed": (
        "from langchain_sparse_embed import PineconeInferenceSparseEmbeddings",
        "import langchain_core.embeddings, httpx, pydantic",  # langchain-core 1.7 loads almost nothing here
        "from langchain_core.embeddings import Embeddings\nimport httpx, pydantic",
    ),
    "sparse_embed": ("from sparse_embed import SparseEncoder", "import httpx, pydantic", None),
}


def imports(size: Size) -> tuple[list[Row], Any]:
    """Import time, against importing the dependencies alone."""
    rows, raw = [], {}
    for name, (ours, base, loaded) in IMPORTS.items():
        times: dict[str, list[float]] = {statements: [] for statements in (ours, base, loaded) if statements}
        for _ in range(2 * size.many_rounds):
            for statements, figures in times.items():
                figures.append(job("jobs.imported", statements=statements))
        raw[name] = {statements: statistics.median(figures) * 1000 for statements, figures in times.items()}
        for over, target, what in (
            (base, -1.15, "its dependencies"),
            (loaded, None, "its dependencies, with Embeddings loaded"),
        ):
            if over:
                detail = f"{raw[name][ours]:.0f} / {raw[name][over]:.0f} ms"
                rows.append(Row(f"import time: {name} / {what}", ratio(times[ours], times[over]), target, detail))
    return rows, raw


def bm25(size: Size) -> tuple[list[Row], Any]:
    """The local provider's BM25 against chromadb's function, in the same process."""
    raw = job("jobs.bm25", rounds=size.rounds)
    rows = []
    for name, target in (("ours, cold", 3.0), ("ours, warm", None)):
        detail = f"{statistics.median(raw[name]):,.0f} / {statistics.median(raw['chromadb']):,.0f} texts/s"
        rows.append(Row(f"BM25: {name} / chromadb", ratio(raw[name], raw["chromadb"]), target, detail))
    return rows, raw


def index_search(size: Size) -> tuple[list[Row], Any]:
    """Search time of InvertedIndex against a hand-written numpy scan and Qdrant's local mode: exact top 10."""
    rows, raw = [], {}
    for terms in ("uniform", "Zipf"):
        times = job("index_search.search", documents=size.documents, terms=terms, rounds=size.rounds)
        raw[terms] = {name: round(statistics.median(of), 3) for name, of in times.items()}
        ours = times.pop("InvertedIndex")
        for (name, theirs), target in zip(times.items(), (-2.0, -1 / 500), strict=True):
            detail = f"{raw[terms]['InvertedIndex']:.3g} / {raw[terms][name]:.3g} ms per query"
            figure = f"search in {size.documents:,} documents: InvertedIndex / {name}"
            rows.append(Row(figure, ratio(ours, theirs), target, detail, f"{terms} terms"))
    return rows, raw


def soak(size: Size) -> tuple[list[Row], Any]:
    """Stream for minutes while 5 % of the requests fail, sync and async at the same time: nothing may grow."""

    def one(way: str) -> dict[str, Any]:
        with stub(latency=0.02, faults=5, stall=STALL, nonzeros=NONZEROS, seed=len(way)) as provider:
            outcome = job("soak.run", address=provider.address, way=way, seconds=60 * size.soak_minutes)
            return {**outcome, "provider": provider.stats()}

    with ThreadPoolExecutor() as pool:
        raw = dict(zip(("sync", "async"), pool.map(one, ("sync", "async")), strict=True))
    rows = []
    for way, outcome in raw.items():
        for name in ("MiB", "sockets", "threads", "tasks", "objects"):
            early, late = growth(outcome["samples"], name)
            if early:
                detail = f"{late:,.1f} / {early:,.1f}; {outcome['vectors']:,} vectors, {outcome['retries']:,} retries"
                rows.append(Row(f"soak, {way}: last / second quarter", late / early, -1.05, detail, name))
        outcome["samples"] = outcome["samples"][::10]
    return rows, raw


SECTIONS: dict[str, Section] = {
    section.__name__: section
    for section in (
        peers,
        floor,
        frameworks,
        queries,
        limits,
        pace,
        short_jobs,
        known_quota,
        stream,
        held,
        imports,
        bm25,
        index_search,
        soak,
    )
}


def machine() -> dict[str, str]:
    with open("/proc/cpuinfo") as info:
        model = next((line.partition(":")[2].strip() for line in info if line.startswith("model name")), "?")
    packages = ("httpx", "httpcore", "pydantic", "orjson", "langchain-core", "llama-index-core")
    return {
        "processor": f"{os.cpu_count()} of {model}",
        "system": platform.platform(),
        "Python": platform.python_version(),
        "packages": ", ".join(f"{name} {version(name)}" for name in packages),
        "peers": ", ".join(pin for name, pins in ENVIRONMENTS.items() if name != "plot" for pin in pins),
    }


def machines(sections: dict[str, Any]) -> Iterator[str]:
    """Markdown lines of what was measured with; where sections differ, with their names."""
    for fact in machine():
        found: dict[str, list[str]] = {}
        for name, section in sections.items():
            found.setdefault(section["machine"][fact], []).append(name)
        if len(found) == 1:
            yield f"- {fact}: {', '.join(found)}"
        else:
            yield f"- {fact}: " + "; ".join(f"{value} ({', '.join(names)})" for value, names in found.items())


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Markdown lines, one for each figure that has a target; of several cases, the worst."""
    lines = ["| figure | result | target | | |", "|---|---|---|---|---|"]
    figures: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if row["target"] is not None:
            figures.setdefault(row["figure"], []).append(row)
    for figure, cases in figures.items():
        target = cases[0]["target"]
        worst = min(cases, key=lambda row: row["value"] if target > 0 else -row["value"])
        bound = f"{'≥' if target > 0 else '≤'} {abs(target):g}"
        note = f"worst of {len(cases)}: {worst['case']}; " if len(cases) > 1 else ""
        mark = "✓" if worst["met"] else "**missed**"
        lines.append(f"| {figure} | {worst['value']:.3g} | {bound} | {mark} | {note}{worst['detail']} |")
    return lines


def write(results: dict[str, Any]) -> None:
    (RESULTS / "results.json").write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    command = [python("plot"), "-m", "benchmarks.plot", str(RESULTS / "results.json"), str(RESULTS / "results.png")]
    subprocess.run(command, cwd=ROOT, check=True)
    days = sorted({section["measured"] for section in results["sections"].values()})
    facts = [f"- measured: {' and '.join(days)}", *machines(results["sections"])]
    rows = [row for section in results["sections"].values() for row in section["rows"]]
    page = RESULTS / "README.md"
    start, _, rest = page.read_text().partition("<!-- generated -->\n")
    _, _, end = rest.partition("<!-- end -->\n")
    page.write_text("\n".join([f"{start}<!-- generated -->", *facts, "", *table(rows), f"<!-- end -->\n{end}"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--quick", action="store_true", help="a small trial that writes nothing")
    given = parser.parse_args()
    results = json.loads((RESULTS / "results.json").read_text())
    today = datetime.now(UTC).date().isoformat()
    for name in given.only:
        console.print(f"\n[bold]{name}[/bold]: {SECTIONS[name].__doc__}")
        rows, raw = SECTIONS[name](QUICK if given.quick else Size())
        for row in rows:
            mark = {True: "[green]met[/]", False: "[red]missed[/]", None: ""}[row.met]
            figure = ", ".join(filter(None, (row.figure, row.case)))
            console.print(f"{figure}: [bold]{row.value:.3g}[/] {mark} {row.detail}")
        if not given.quick:
            shown = [asdict(row) | {"met": row.met} for row in rows]
            results["sections"][name] = {"measured": today, "machine": machine(), "rows": shown, "raw": raw}
            write(results)


if __name__ == "__main__":
    main()
