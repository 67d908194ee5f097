"""Measure everything and say what was reached: ``make bench``.

``--only peers floor`` measures some sections and keeps the other results, ``--quick`` is a small trial that writes
nothing.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from benchmarks import virtual
from benchmarks.contenders import CONTENDERS
from benchmarks.harness import ENVIRONMENTS, ROOT, alternate, job, python, ratio, stub

RESULTS = Path(__file__).parent / "results"
console = Console(highlight=False)


@dataclass
class Size:
    """How much is measured."""

    texts: int = 10_000
    rounds: int = 5  # of what takes seconds
    many_rounds: int = 15  # of what takes less than one, or is close to its target
    queries: int = 2_000
    seconds_limited: int = 60
    streamed: tuple[int, int] = (10_000, 1_000_000)


QUICK = Size(texts=2_000, rounds=1, many_rounds=2, queries=200, seconds_limited=6, streamed=(10_000, 50_000))


@dataclass
class Row:
    """One figure. Positive targets are to be reached, negative ones not to be passed; None: only for information."""

    figure: str
    value: float
    target: float | None = None
    detail: str = ""

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
    """Medians: texts a second, and µs of CPU a text."""
    return {
        name: {
            "texts/s": round(texts / statistics.median(walls(runs))),
            "CPU µs/text": round(statistics.median(cpus(runs)) / texts * 1e6, 1),
        }
        for name, runs in figures.items()
    }


def faster(figures: dict[str, list[dict[str, float]]], ours: str, theirs: str, ms: int, target: float | None) -> Row:
    value = ratio(walls(figures[theirs]), walls(figures[ours]))
    return Row(f"throughput at {ms} ms: {ours} / {theirs}", value, target)


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
        rows += [faster(figures, ours, theirs, ms, target if ms == 50 else None) for ours, theirs, target in PEERS]
        raw[f"{ms} ms"] = speeds(figures, size.texts)
    return rows, raw


def floor(size: Size) -> tuple[list[Row], Any]:
    """Throughput and CPU against hand-written loops that check nothing."""
    rows, raw = [], {}
    for ms in LATENCIES:
        names = ["sparse-embed", "floor", "sparse-embed async", "floor async"]
        with stub(latency=ms / 1000) as provider:
            figures = alternate(names, provider.address, count=size.texts, rounds=size.many_rounds, tell=tell)
        for ours, theirs, target in (("sparse-embed", "floor", 0.95), ("sparse-embed async", "floor async", 0.9)):
            rows.append(faster(figures, ours, theirs, ms, target))
            value = ratio(cpus(figures[ours]), cpus(figures[theirs]))
            rows.append(Row(f"CPU a text at {ms} ms: {ours} / {theirs}", value, -1.2))
        raw[f"{ms} ms"] = speeds(figures, size.texts)
    return rows, raw


def frameworks(size: Size) -> tuple[list[Row], Any]:
    """The classes of the two frameworks against the bare core."""
    names = ["sparse-embed", "our LangChain class", "our LlamaIndex class"]
    names += [f"{name} async" for name in names]
    with stub(latency=0.05) as provider:
        figures = alternate(names, provider.address, count=size.texts, rounds=size.many_rounds, tell=tell)
    pairs = [(name, "sparse-embed async" if name.endswith("async") else "sparse-embed") for name in names]
    rows = [faster(figures, name, core, 50, 0.95) for name, core in pairs if name != core]
    return rows, speeds(figures, size.texts)


def queries(size: Size) -> tuple[list[Row], Any]:
    """Latency of one query, the stub without a delay."""
    rows, raw = [], {}
    for way in ("sync", "async"):
        with stub() as provider:
            runs = [job("queries", address=provider.address, count=size.queries, way=way) for _ in range(size.rounds)]
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
    """A limit in real time: what it allows, of what, and about how many texts a second that is."""

    per_second: float
    capacity: float
    of: str
    texts: int
    options: dict[str, Any]


LIMITS = {
    "20 a second": Limited(20, 20, "texts", 20, {"rate": 20, "capacity": 20}),
    "60,000 tokens a minute": Limited(1000, 60_000, "tokens", 10, {"tokens": 60_000}),
}


def limits(size: Size) -> tuple[list[Row], Any]:
    """A provider with a limit: a minute of real time, all at once; and thousands of requests in virtual time."""
    rows, raw = [], {}
    runs = [("20 a second", "sparse-embed", header) for header in ("honest", "whole", "absent", "zero", "tenfold")]
    runs += [("60,000 tokens a minute", "sparse-embed", header) for header in ("whole", "absent")]
    runs += [(limit, "sparse-embed async", "honest") for limit in LIMITS]
    runs += [(limit, name, "whole") for limit in LIMITS for name in ("langchain-pinecone", "pinecone SDK", "chromadb")]
    tell(f"{len(runs)} clients, {size.seconds_limited} s")

    def one(run: tuple[str, str, str]) -> tuple[int, dict[str, Any], dict[str, int]]:
        name, client, header = run
        limit = LIMITS[name]
        count = round((limit.capacity / limit.per_second + size.seconds_limited) * limit.texts)
        with stub(latency=0.005, nonzeros=20, retry_after=header, **limit.options) as provider:
            environment = CONTENDERS[client].environment
            found = job("limited", environment=environment, address=provider.address, count=count, name=client)
            return count, found, provider.stats()

    with ThreadPoolExecutor(len(runs)) as pool:
        outcomes = list(pool.map(one, runs))
    for (name, client, header), (count, found, stats) in zip(runs, outcomes, strict=True):
        limit = LIMITS[name]
        goodput = stats[limit.of] / (limit.capacity + limit.per_second * found["seconds"])
        waste = stats.get("429", 0) / stats["requests"]
        detail = f"{found['vectors']} of {count} texts in {found['seconds']:.0f} s" + (
            f", then {found['error']}" if found["error"] else ""
        )
        ours = client.startswith("sparse-embed")
        place = f"{name}, Retry-After {header}, real time: {client}"
        rows.append(Row(f"{place}: goodput / allowed", goodput, 0.95 if ours else None, detail))
        rows.append(Row(f"{place}: wasted / sent", waste, -0.05 if ours else None, f"{stats['requests']} sent"))
        raw[place] = {**found, **stats}
    for name, header, outcome in virtual.runs():
        goodput = statistics.median(run.goodput for run in outcome)
        waste = statistics.median(run.waste for run in outcome)
        place = f"{name}, Retry-After {header}, virtual time"
        worst = f"worst of {len(outcome)}: {min(run.goodput for run in outcome):.3f}"
        targets = (0.95, -0.05) if name in virtual.BUCKETS else (None, None)
        rows.append(Row(f"{place}: goodput / allowed", goodput, targets[0], worst))
        worst = f"worst of {len(outcome)}: {max(run.waste for run in outcome):.3f}"
        rows.append(Row(f"{place}: wasted / sent", waste, targets[1], worst))
    return rows, raw


def stream(size: Size) -> tuple[list[Row], Any]:
    """Highest resident memory (VmHWM) of streaming a million texts, over that of ten thousand."""
    rows, raw = [], {}
    few, many = size.streamed
    for way in ("sync", "async"):
        runs: dict[int, list[dict[str, Any]]] = {few: [], many: []}
        with stub(nonzeros=8) as provider:
            for _ in range(size.rounds):
                for count, figures in runs.items():
                    figures.append(job("stream", address=provider.address, count=count, way=way))
                    last = figures[-1]
                    tell(f"{way}, {count:,}: {last['peak'] / 1024:.1f} MiB, {count / last['seconds']:,.0f} texts/s")
        value = ratio([run["peak"] for run in runs[many]], [run["peak"] for run in runs[few]])
        peaks = [statistics.median(run["peak"] for run in of) / 1024 for of in runs.values()]
        last = runs[many][-1]
        detail = (
            f"{peaks[1]:.1f} / {peaks[0]:.1f} MiB; first vector when {last['read at first vector']} were read, "
            f"at most {last['furthest ahead']} ahead"
        )
        rows.append(Row(f"peak memory, {way}: streaming {many:,} / {few:,} texts", value, -1.1, detail))
        raw[way] = runs
    return rows, raw


def held(size: Size) -> tuple[list[Row], Any]:
    """Resident memory (VmRSS) of vectors that are held, against the SDK's own objects."""
    raw: dict[str, list[dict[str, float]]] = {"sparse-embed": [], "sparse-embed async": [], "pinecone SDK": []}
    with stub() as provider:
        for _ in range(size.rounds):
            for name, figures in raw.items():
                environment = CONTENDERS[name].environment
                figures.append(
                    job("held", environment=environment, address=provider.address, count=size.texts, name=name)
                )
    rows = []
    for name in ("sparse-embed", "sparse-embed async"):
        for what, target, note in (
            ("KiB a vector", -1.0, ""),
            ("trimmed", None, "; after malloc_trim: without the free memory that glibc keeps"),
        ):
            ours, theirs = ([run[what] for run in raw[of]] for of in (name, "pinecone SDK"))
            detail = f"{statistics.median(ours):.1f} / {statistics.median(theirs):.1f} KiB{note}"
            rows.append(Row(f"memory of a held vector: {name} / pinecone SDK", ratio(ours, theirs), target, detail))
    return rows, raw


IMPORTS = {  # ours, what the target names, and the same with the class that every user of LangChain loads
    "langchain_sparse_embed": (
        "from langchain_sparse_embed import PineconeInferenceSparseEmbeddings",
        "import langchain_core.embeddings, httpx, pydantic",  # an almost empty package: langchain-core 1.7 loads on use
        "from langchain_core.embeddings import Embeddings\nimport httpx, pydantic",
    ),
    "sparse_embed": ("from sparse_embed import SparseEncoder", "import httpx, pydantic", None),
}


def imports(size: Size) -> tuple[list[Row], Any]:
    """Time of importing, against importing what is needed anyway."""
    rows, raw = [], {}
    for name, (ours, base, loaded) in IMPORTS.items():
        times: dict[str, list[float]] = {statements: [] for statements in (ours, base, loaded) if statements}
        for _ in range(2 * size.many_rounds):
            for statements, figures in times.items():
                figures.append(job("imported", statements=statements))
        raw[name] = {statements: statistics.median(figures) * 1000 for statements, figures in times.items()}
        for over, target, what in (
            (base, -1.15, "what it stands on"),
            (loaded, None, "the same with Embeddings loaded"),
        ):
            if over:
                detail = f"{raw[name][ours]:.0f} / {raw[name][over]:.0f} ms"
                rows.append(Row(f"import time: {name} / {what}", ratio(times[ours], times[over]), target, detail))
    return rows, raw


def bm25(size: Size) -> tuple[list[Row], Any]:
    """The local provider's BM25 against chromadb's function, in one process."""
    raw = job("bm25", rounds=size.rounds)
    rows = []
    for name, target in (("ours, cold", 3.0), ("ours, warm", None)):
        detail = f"{statistics.median(raw[name]):,.0f} / {statistics.median(raw['chromadb']):,.0f} texts/s"
        rows.append(Row(f"BM25: {name} / chromadb", ratio(raw[name], raw["chromadb"]), target, detail))
    return rows, raw


SECTIONS: dict[str, Section] = {
    section.__name__: section for section in (peers, floor, frameworks, queries, limits, stream, held, imports, bm25)
}


def machine() -> dict[str, str]:
    with open("/proc/cpuinfo") as info:
        model = next((line.partition(":")[2].strip() for line in info if line.startswith("model name")), "?")
    packages = ("httpx", "httpcore", "pydantic", "orjson", "langchain-core", "llama-index-core")
    return {
        "measured": datetime.now(UTC).date().isoformat(),
        "processor": f"{os.cpu_count()} of {model}",
        "system": platform.platform(),
        "Python": platform.python_version(),
        "packages": ", ".join(f"{name} {version(name)}" for name in packages),
        "peers": ", ".join(pin for name, pins in ENVIRONMENTS.items() if name != "plot" for pin in pins),
    }


def shown_target(row: dict[str, Any]) -> str:
    target = row["target"]
    return "" if target is None else f"{'≥' if target > 0 else '≤'} {abs(target):g}"


def write(results: dict[str, Any]) -> None:
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "results.json").write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    command = [python("plot"), "-m", "benchmarks.plot", str(RESULTS / "results.json"), str(RESULTS / "results.png")]
    subprocess.run(command, cwd=ROOT, check=True)
    lines = ["| figure | reached | target | |", "|---|---|---|---|"]
    for section in results["sections"].values():
        for row in section["rows"]:
            mark = {True: "✓", False: "**missed**", None: ""}[row["met"]]
            lines.append(f"| {row['figure']} | {row['value']:.3g} | {shown_target(row)} | {mark} {row['detail']} |")
    facts = [f"- {name}: {fact}" for name, fact in results["machine"].items()]
    page = RESULTS / "README.md"
    start, _, rest = page.read_text().partition("<!-- generated -->\n")
    _, _, end = rest.partition("<!-- end -->\n")
    page.write_text("\n".join([f"{start}<!-- generated -->", *facts, "", *lines, f"<!-- end -->\n{end}"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--quick", action="store_true", help="a small trial that writes nothing")
    given = parser.parse_args()
    size = QUICK if given.quick else Size()
    kept = RESULTS / "results.json"
    results = json.loads(kept.read_text()) if kept.exists() and not given.quick else {"sections": {}}
    results["machine"] = machine()
    for name, section in SECTIONS.items():
        if name not in given.only:
            continue
        console.print(f"\n[bold]{name}[/bold]: {section.__doc__}")
        start = time.monotonic()
        rows, raw = section(size)
        tell(f"took {time.monotonic() - start:.0f} s")
        table = Table("figure", "reached", "target", "", "detail")
        shown = [asdict(row) | {"met": row.met} for row in rows]
        for row in shown:
            mark = {True: "[green]✓", False: "[red]missed", None: ""}[row["met"]]
            table.add_row(row["figure"], f"{row['value']:.3g}", shown_target(row), mark, row["detail"])
        console.print(table)
        if not given.quick:
            results["sections"][name] = {"rows": shown, "raw": raw}
            write(results)


if __name__ == "__main__":
    main()
