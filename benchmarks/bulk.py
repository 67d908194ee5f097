"""Measure ``sparse-embed embed`` against the stub: ``python -m benchmarks.bulk time | memory | million [FOLDER]``.

``time``: the command against `embed_documents` of the same texts, in turns, each in a process of its own, without what
it needs to start (the command: the same with one row). ``memory``: the peak of the command with 20,000 and with 100,000
texts. ``million``: one run of a million texts.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.harness import ROOT, ratio, stub
from benchmarks.passages import endless

LATENCY = 0.05
ROUNDS = 7
TEXTS = 20_000


def write_source(path: Path, count: int) -> None:
    texts = endless()
    with path.open("w") as file:
        for _ in range(count):
            file.write(json.dumps({"text": next(texts)}) + "\n")


PLAIN = """
import json, sys, time
from sparse_embed import SparseEncoder
texts = [json.loads(line)["text"] for line in open(sys.argv[1])]
with SparseEncoder("chroma") as encoder:
    begun = time.perf_counter()
    vectors = encoder.embed_documents(texts)
    print(time.perf_counter() - begun)
assert [vector.indices[0] for vector in vectors] == list(range(len(texts)))
"""


def measure_time(address: str, folder: Path) -> None:
    source, one = folder / "docs.jsonl", folder / "one.jsonl"
    write_source(source, TEXTS)
    write_source(one, 1)
    env = os.environ | {"CHROMA_EMBED_URL": address, "CHROMA_API_KEY": "any"}
    for suffix in (".parquet", ".jsonl"):
        bulk, plain = list[float](), list[float]()
        for turn in range(ROUNDS + 1):
            for what in ("bulk", "plain") if turn % 2 else ("plain", "bulk"):
                if what == "bulk":
                    targets = [folder / f"{path.stem}{turn}{suffix}" for path in (source, one)]
                    seconds = [run_command(address, *pair)[0] for pair in zip((source, one), targets, strict=True)]
                    bulk.append(seconds[0] - seconds[1])
                else:
                    command = [sys.executable, "-c", PLAIN, str(source)]
                    done = subprocess.run(command, env=env, cwd=ROOT, check=True, stdout=subprocess.PIPE)
                    plain.append(float(done.stdout))
        print(
            f"{suffix}: command {TEXTS / statistics.median(bulk[1:]):,.0f} texts/s, embed_documents "
            f"{TEXTS / statistics.median(plain[1:]):,.0f} texts/s, ratio of times {ratio(bulk[1:], plain[1:]):.2f}"
        )


def run_command(address: str, source: Path, target: Path) -> tuple[float, float]:
    """Seconds, and peak memory in MB, of the command in a process of its own."""
    command = [sys.executable, "-m", "sparse_embed", "embed", str(source), str(target), "--sparse", "chroma", "--quiet"]
    env = os.environ | {"CHROMA_EMBED_URL": address, "CHROMA_API_KEY": "any"}
    begun = time.perf_counter()
    code = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    done = subprocess.run([sys.executable, "-c", code, *command], env=env, cwd=ROOT, check=True, stdout=subprocess.PIPE)
    return time.perf_counter() - begun, int(done.stdout) / 1024


def measure_memory(address: str, folder: Path) -> None:
    peaks = {}
    for count in (20_000, 100_000):
        write_source(folder / "docs.jsonl", count)
        _, peaks[count] = run_command(address, folder / "docs.jsonl", folder / f"{count}.parquet")
        print(f"{count:,} texts: peak {peaks[count]:,.0f} MB")
    print(f"ratio {peaks[100_000] / peaks[20_000]:.2f}")


def measure_million(address: str, folder: Path) -> None:
    write_source(folder / "docs.jsonl", 1_000_000)
    seconds, peak = run_command(address, folder / "docs.jsonl", folder / "million.parquet")
    size = (folder / "million.parquet").stat().st_size / 2**20
    print(f"a million texts: {seconds:,.0f} s, peak {peak:,.0f} MB, file {size:,.0f} MB")


if __name__ == "__main__":
    measures = {"time": measure_time, "memory": measure_memory, "million": measure_million}
    given = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(tempfile.mkdtemp())
    with stub(latency=LATENCY) as provider:
        measures[sys.argv[1]](provider.address, given)
