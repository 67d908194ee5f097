"""Measure ``sparse_embed.bulk`` against the stub: ``python -m benchmarks.bulk time | memory | million [FOLDER]``.

``time``: `embed_file` against `embed_documents` of the same texts, in turns, in one process. ``memory``: the peak of
the command with 20,000 and with 100,000 texts. ``million``: one run of a million texts.
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
from benchmarks.passages import endless, number_of, passages
from sparse_embed import SparseEncoder
from sparse_embed.bulk import embed_file

LATENCY = 0.05
ROUNDS = 7
TEXTS = 20_000


def write_source(path: Path, count: int) -> None:
    texts = endless()
    with path.open("w") as file:
        for _ in range(count):
            file.write(json.dumps({"text": next(texts)}) + "\n")


def measure_time(address: str, folder: Path) -> None:
    source, config = folder / "docs.jsonl", {"provider": "chroma", "base_url": address, "api_key": "any"}
    write_source(source, TEXTS)
    texts = passages(TEXTS)
    for suffix in (".parquet", ".jsonl"):
        bulk, plain, bulk_cpu, plain_cpu = list[float](), list[float](), list[float](), list[float]()
        for turn in range(ROUNDS + 1):
            target = folder / f"out{turn}{suffix}"
            for one in ("bulk", "plain") if turn % 2 else ("plain", "bulk"):
                begun, cpu_begun = time.perf_counter(), time.process_time()
                if one == "bulk":
                    embed_file(source, target, sparse=config)
                else:
                    with SparseEncoder.from_config(config) as encoder:
                        vectors = encoder.embed_documents(texts)
                    assert list(map(number_of, vectors)) == list(range(TEXTS))
                    del vectors
                (bulk if one == "bulk" else plain).append(time.perf_counter() - begun)
                (bulk_cpu if one == "bulk" else plain_cpu).append(time.process_time() - cpu_begun)
        print(
            f"{suffix}: embed_file {TEXTS / statistics.median(bulk[1:]):,.0f} texts/s, embed_documents "
            f"{TEXTS / statistics.median(plain[1:]):,.0f} texts/s, ratio of times {ratio(bulk[1:], plain[1:]):.2f}, "
            f"of CPU times {ratio(bulk_cpu[1:], plain_cpu[1:]):.2f}"
        )


def run_command(address: str, source: Path, target: Path) -> tuple[float, float]:
    """Seconds, and peak memory in MB, of the command in a process of its own."""
    command = [sys.executable, "-m", "sparse_embed", "embed", str(source), str(target), "--sparse", "chroma"]
    env = os.environ | {"CHROMA_EMBED_URL": address, "CHROMA_API_KEY": "any"}
    begun = time.perf_counter()
    code = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    done = subprocess.run([sys.executable, "-c", code, *command], env=env, cwd=ROOT, check=True, stdout=subprocess.PIPE)
    *said, peak = done.stdout.decode().splitlines()
    print("\n".join(said))
    return time.perf_counter() - begun, int(peak) / 1024


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
