"""Long run of the reliability tests, with counts: ``python -m tests.reliability`` writes docs/reliability.json.

Faults over a real socket, concurrent callers, forks and cancellations are counted here. For generated data, the tests
themselves are run with more examples. The exit status is 1 if a count that must be zero is not.

``--quick`` runs a short form without the generated data, which ``make test`` covers, and writes nothing.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from sparse_embed import DenseEncoder, InvalidResponseError, SparseEmbedError, SparseEncoder
from sparse_embed.testing import no_wait
from tests.faultserver import GOOD, RESET, Action, FaultServer, Gate, Script, Seen, sparse_of, stall, status
from tests.test_faults import ONCE, PASSING
from tests.test_parity import SEEDS
from tests.test_secrets import SUBJECTS
from tests.test_specifications import SPECS, try_out
from tests.test_wrong_answers import ANY_KIND, DENSE, SPARSE
from tests.ways import KEY, asynchronous, meeting, right, sync

Counts = dict[str, int]
WAYS = {"sync": sync, "async": asynchronous}
WIRES = list(product(("chroma", "pinecone"), (SparseEncoder, DenseEncoder)))
MUST_BE_ZERO = {
    *("lost", "misplaced", "duplicated", "wrong type", "wrong vectors", "wrong", "failed"),
    *("permits lost", "connections left", "unhandled errors"),
}
ROOT = Path(__file__).parents[1]
COUNTS = ROOT / "docs" / "reliability.json"


@dataclass
class Size:
    """How much is tried."""

    texts: int = 240  # per call with transient faults, four per request
    stalled: int = 48  # the same, when the fault is a stall
    calls: int = 200  # per thread and per task, of 32 each
    forks: int = 200
    rounds: int = 50  # each cancels up to 100 calls
    profile: str = "long"  # Hypothesis profile, see tests/conftest.py
    examples: int = 200  # schemathesis, per operation


QUICK = Size(texts=24, stalled=16, calls=20, forks=20, rounds=5, profile="untimed", examples=10)


# --- faults over a real socket -----------------------------------------------------------------------------------


def inject(fault: Action) -> Script:
    """Inject the fault into a third of the requests, and twice into half of those."""

    def script(seen: Seen) -> Action:
        number = zlib.crc32(seen.texts[0].encode()) % 6
        return fault if number < 2 and seen.attempt <= number + 1 else GOOD

    return script


def too_large(seen: Seen) -> Action:
    return status(413) if len(seen.texts) > 1 and zlib.crc32(seen.texts[0].encode()) % 2 else GOOD


TRANSIENT: dict[str, Script] = {
    **{name: inject(fault) for name, fault in PASSING.items()},
    "stall": inject(stall()),
    "stall in the body": inject(stall("half")),
    "413": too_large,
}


def count_recovery(script: Script, way: str, wire: tuple[str, Any], method: str, texts: list[str]) -> Counts:
    """Make one call with transient faults: every vector must arrive once, at its position."""
    provider, kind = wire
    answered: Counter[str] = Counter()
    faults = 0

    def counted(seen: Seen) -> Action:
        nonlocal faults
        action = script(seen)
        if action is GOOD:
            answered.update(seen.texts)
        else:
            faults += 1
        return action

    with meeting(counted, provider, kind, batch_size=4, timeout=0.5 if "stall" in texts[0] else 20.0) as (
        server,
        encoder,
    ):
        vectors = WAYS[way](encoder, method, texts)
        expected = right(encoder, texts)
        return {
            "requests": len(server.requests),
            "faults": faults,
            "vectors": len(vectors),
            "lost": len(texts) - len(vectors),
            "misplaced": sum(one != other for one, other in zip(vectors, expected, strict=False)),
            "duplicated": sum(answered.values()) - len(answered),  # answered, and so billed, twice
        }


def count_final(fault: Action, way: str, wire: tuple[str, Any], expected: type[SparseEmbedError]) -> Counts:
    """Make one call of twelve requests, one with a final fault: the error must have its type and only right vectors."""
    provider, kind = wire
    texts = [f"{fault.status} text {number}" for number in range(48)]
    bad: list[str] = []

    def script(seen: Seen) -> Action:
        if seen.number != 6:
            return GOOD
        bad.extend(seen.texts)
        return fault

    with meeting(script, provider, kind, batch_size=4, max_concurrency=4) as (server, encoder):
        expected_vectors = right(encoder, texts)
        wrong_type = wrong_vectors = 0
        partial_vectors: dict[int, Any] = {}
        try:
            WAYS[way](encoder, "embed_documents", texts)
        except SparseEmbedError as error:
            wrong_type = int(type(error) is not expected or error.attempts != 1)
            partial_vectors = error.partial
        else:
            wrong_vectors = len(bad)
        wrong_vectors += sum(texts[at] in bad or one != expected_vectors[at] for at, one in partial_vectors.items())
        counts = {"requests": len(server.requests), "faults": 1, "vectors": len(partial_vectors)}
        return counts | {"wrong type": wrong_type, "wrong vectors": wrong_vectors}


def faults(size: Size) -> dict[str, Counts]:
    """Transient faults: each kind with sync and async, sparse and dense, both providers, over a real socket."""
    found: dict[str, Counts] = {}
    for name, script in TRANSIENT.items():
        stalls = "stall" in name
        cells = product(WAYS, WIRES, ["embed_documents"] if stalls else ["embed_documents", "stream_documents"])
        texts = [f"{name} {number}" for number in range(size.stalled if stalls else size.texts)]
        with no_wait():
            found[name] = total(count_recovery(script, way, wire, method, texts) for way, wire, method in cells)
    return found


def final_faults(_: Size) -> dict[str, Counts]:
    """Final statuses and invalid answers: each kind with sync and async, sparse and dense, both providers."""
    found: dict[str, Counts] = {}
    for code, error in ONCE.items():
        if code != 413:  # with several texts the client splits the request and goes on
            found[str(code)] = total(count_final(status(code), way, wire, error) for way, wire in product(WAYS, WIRES))
    for name, change in {**ANY_KIND, **SPARSE, **DENSE}.items():
        kinds = [SparseEncoder] * (name not in DENSE) + [DenseEncoder] * (name not in SPARSE)
        cells = [(way, wire) for way, wire in product(WAYS, WIRES) if wire[1] in kinds]
        fault = Action(change=change)
        found[f"answer: {name}"] = total(count_final(fault, way, wire, InvalidResponseError) for way, wire in cells)
    return found


def total(counts: Iterable[Counts]) -> Counts:
    """Add the counts by name."""
    added: Counter[str] = Counter()
    for one in counts:
        added.update(one)
    return dict(added)


# --- threads, forks, cancellations -------------------------------------------------------------------------------


def fail_one_in_ten(seen: Seen) -> Action:
    """Answer every tenth request with a reset or a 503."""
    return {0: RESET, 10: status(503)}.get(seen.number % 20, GOOD)


def shared_encoder(size: Size) -> dict[str, Counts]:
    """One encoder, called by 32 threads or 32 tasks, while a tenth of the requests fail."""

    def texts_of(caller: int, number: int) -> list[str]:
        return [f"{caller} {number} {at}" for at in range(3)]

    def in_thread(encoder: Any, caller: int) -> int:
        calls = [texts_of(caller, number) for number in range(size.calls)]
        return sum(encoder.embed_documents(texts) != right(encoder, texts) for texts in calls)

    async def in_task(encoder: Any, caller: int) -> int:
        calls = [texts_of(caller, number) for number in range(size.calls)]
        return sum([await encoder.aembed_documents(texts) != right(encoder, texts) for texts in calls])

    async def on_one_loop(encoder: Any) -> Sequence[int]:
        return await asyncio.gather(*(in_task(encoder, caller) for caller in range(32)))

    found = {}
    for name in ("32 threads", "32 tasks"):
        with meeting(fail_one_in_ten, max_retries=20) as (server, encoder), no_wait(), ThreadPoolExecutor(32) as pool:
            if name == "32 threads":
                wrong = list(pool.map(partial(in_thread, encoder), range(32)))
            else:
                wrong = list(asyncio.run(on_one_loop(encoder)))
            found[name] = {"calls": 32 * size.calls, "requests": len(server.requests), "wrong": sum(wrong)}
    return found


def count_wrong_after_forks(url: str, count: int) -> int:
    """Fork with open connections; parent and children send at the same time. How many of them got a wrong answer."""
    encoder = SparseEncoder("chroma", api_key=KEY, base_url=url, batch_size=1)

    def wrong_answers(who: int) -> int:
        texts = [f"{who} {number}" for number in range(8)]
        answer = (sync, asynchronous)[who % 2](encoder, "embed_documents", texts)
        return int(answer != right(encoder, texts))

    sync(encoder, "embed_documents", [f"warm {number}" for number in range(16)])
    wrong = 0
    for first in range(0, count, 10):
        children = []
        for who in range(first, min(first + 10, count)):
            child = os.fork()
            if not child:
                signal.alarm(60)  # a child that hangs counts as wrong
                code = 1
                try:
                    code = wrong_answers(who)
                finally:
                    os._exit(code)
            children.append(child)
        wrong += wrong_answers(2 * count)
        wrong += sum(os.waitpid(child, 0)[1] != 0 for child in children)
    return wrong


def forks(size: Size) -> dict[str, Counts]:
    """Forks of a process that has open connections."""
    spawn = multiprocessing.get_context("spawn")  # the parent that forks has no other threads
    with FaultServer() as server, ProcessPoolExecutor(1, mp_context=spawn) as pool:
        wrong = pool.submit(count_wrong_after_forks, server.url, size.forks).result()
        return {"forks": {"forks": size.forks, "requests": len(server.requests), "wrong": wrong}}


def cancellations(size: Size) -> dict[str, Counts]:
    """Rounds of a hundred concurrent calls, cancelled after 20 ms; afterwards all 16 permits must be free."""
    script = [GOOD, stall(), RESET, stall("half"), status(503)]

    async def storm(server: FaultServer, encoder: Any) -> Counts:
        counts = Counter({"unhandled errors": 0})  # exceptions that asyncio would log, because no code retrieved them

        def count_unhandled(*_: object) -> None:
            counts["unhandled errors"] += 1

        asyncio.get_running_loop().set_exception_handler(count_unhandled)

        async def ask_for_20_ms(text: str) -> None:
            try:
                async with asyncio.timeout(0.02):
                    counts["wrong"] += await encoder.aembed_query(text) != sparse_of(text)
                    counts["answered"] += 1
            except TimeoutError:
                counts["cancelled"] += 1

        for number in range(size.rounds):
            await asyncio.gather(*(ask_for_20_ms(f"question {number} {at}") for at in range(100)))
        gate = Gate()
        server.script = lambda _: Action(gate=gate)
        calls = [asyncio.ensure_future(encoder.aembed_query(f"after {number}")) for number in range(40)]
        try:
            await server.auntil(lambda: server.in_flight == 16)
        finally:
            counts["permits lost"] = 16 - server.in_flight
            counts["connections left"] = max(0, server.connections - 16)
            gate.open()
        counts["wrong"] += sum(one != sparse_of(f"after {at}") for at, one in enumerate(await asyncio.gather(*calls)))
        await encoder.aclose()
        return {"calls": 100 * size.rounds, **counts}

    with meeting(lambda seen: script[seen.number % len(script)], timeout=60) as (server, encoder):
        return {"cancellations": asyncio.run(storm(server, encoder))}


# --- generated data: the tests themselves, with more examples ------------------------------------------------------


def run_tests(size: Size, *arguments: str) -> Counts:
    """Run tests; count them, and the examples that Hypothesis tried."""
    command = [sys.executable, "-m", "pytest", "-q", "--hypothesis-show-statistics", *arguments]
    command += [f"--hypothesis-profile={size.profile}", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stdout[-5000:], done.stderr[-2000:])
    examples = sum(int(number) for number in re.findall(r"^ +- (\d+) passing", done.stdout, re.MULTILINE))
    passed = re.search(r"(\d+) passed", done.stdout)
    counts = {"tests": int(passed[1]) if passed else 0, "examples": examples, "failed": int(done.returncode != 0)}
    return {name: count for name, count in counts.items() if count or name == "failed"}


def generated(size: Size) -> dict[str, Counts]:
    """Examples from Hypothesis and schemathesis, seeds of the parity test, and the search for leaked secrets."""
    found = {
        "batching, retry and pace in virtual time": run_tests(size, "tests/test_retry.py", "tests/test_pace.py"),
        "decoders": run_tests(size, "tests/test_decoders.py"),
        "client against both specifications": run_tests(
            QUICK, "tests/test_specifications.py", "-k", "not local_provider"
        ),
        # Each seed runs with transient faults and with a final one, a quarter of them also as streams.
        "sync and async agree": run_tests(size, "tests/test_parity.py") | {"seeds": 2 * SEEDS + SEEDS // 4},
        "secrets": run_tests(size, "tests/test_secrets.py") | {"classes": len({one.name for one in SUBJECTS})},
    }
    for name in SPECS:
        with tempfile.TemporaryDirectory() as home:
            clean, cases, said = try_out(name, size.examples, Path(home))
        if not clean:
            print(said)
        found[f"local provider, {name}'s specification"] = {"requests": cases, "failed": int(not clean)}
    return found


SECTIONS: dict[str, Callable[[Size], dict[str, Counts]]] = {
    section.__name__: section for section in (faults, final_faults, shared_encoder, forks, cancellations, generated)
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, help="run only these sections")
    parser.add_argument("--quick", action="store_true", help="a short form without generated data; writes nothing")
    given = parser.parse_args()
    console = Console(highlight=False, width=120)
    results = json.loads(COUNTS.read_text())
    results["machine"] = {
        "measured": datetime.now(UTC).date().isoformat(),
        "system": platform.platform(),
        "Python": platform.python_version(),
        "packages": ", ".join(f"{name} {version(name)}" for name in ("httpx", "httpcore", "pydantic")),
    }
    clean = True
    for name in given.only or [name for name in SECTIONS if not given.quick or name != "generated"]:
        start = time.monotonic()
        rows = SECTIONS[name](QUICK if given.quick else Size())
        if name in ("faults", "final_faults"):
            rows["total"] = total(rows.values())
        columns = list(dict.fromkeys(column for counts in rows.values() for column in counts))
        table = Table(name, *columns, title=f"{SECTIONS[name].__doc__} ({time.monotonic() - start:.0f} s)")
        for row, counts in rows.items():
            table.add_row(row, *(f"{counts[column]:,}" if column in counts else "" for column in columns))
        console.print(table)
        clean = clean and not any(counts.get(column) for counts in rows.values() for column in MUST_BE_ZERO)
        results["sections"][name] = rows
        if not given.quick:
            COUNTS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    console.print("Every count that must be zero is zero." if clean else "[red]A count that must be zero is not.")
    return 0 if clean else 1


if __name__ == "__main__":
    sys.exit(main())
