"""Kill the command ten times at random moments, and count: ``python -m tests.bulk.kills [SEED]``.

Prints, for each format: rows lost, doubled, out of order or wrong in the finished target, and the most texts of one
kind that a kill made to be paid for again.
"""

import json
import random
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

from tests.bulk.conftest import Command, read_target
from tests.faultserver import FaultServer, dense_of, sparse_of

ROWS = 20_000
KILLS = 10
IN_FLIGHT, BATCH, PART = 16, 100, 2000


def text_of(row: int) -> str:
    return f"text {row}"


def kill_and_count(target: str, chance: random.Random, folder: Path, server: FaultServer) -> str:
    command = Command(server, folder)
    source = folder / "docs.jsonl"
    source.write_text("".join(json.dumps({"text": text_of(row)}) + "\n" for row in range(ROWS)))
    arguments = ("embed", source.name, target, "--sparse", "chroma", "--dense", "chroma", "--part-rows", str(PART))
    sent: list[set[tuple[str, str]]] = []
    for _ in range(KILLS):
        before, last = len(server.requests), len(server.requests) + chance.randint(1, 70)
        process = command.start(*arguments)
        server.until(lambda before=before: len(server.requests) > before)
        server.until(lambda last=last, process=process: len(server.requests) >= last or process.poll() is not None)
        time.sleep(chance.random() / 10)
        process.kill()
        process.communicate()
        sent.append({(seen.path, text) for seen in server.requests[before:] for text in seen.texts})
    before = len(server.requests)
    assert command(*arguments).returncode == 0
    sent.append({(seen.path, text) for seen in server.requests[before:] for text in seen.texts})
    again = [run & set().union(*sent[at + 1 :]) for at, run in enumerate(sent[:-1])]
    worst = max(sum(path == kind for path, _ in run) for run in again for kind in {path for path, _ in run} or {""})
    rows = read_target(folder / target)
    numbers = [row["id"] for row in rows]
    wrong = sum(
        row["sparse"] != sparse_of(text_of(row["id"]))
        or max(abs(a - b) for a, b in zip(row["dense"], dense_of(text_of(row["id"])), strict=True)) > 1e-6
        for row in rows
    )
    return (
        f"{target}: {KILLS} kills, {ROWS - len(set(numbers))} lost, {len(numbers) - len(set(numbers))} doubled, "
        f"{sum(a > b for a, b in pairwise(numbers))} out of order, {wrong} wrong; "
        f"worst kill: {worst} texts again (bound {IN_FLIGHT * BATCH + PART})"
    )


if __name__ == "__main__":
    chance = random.Random(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
    for target in ("out.parquet", "out.jsonl"):
        with FaultServer() as server, tempfile.TemporaryDirectory() as folder:
            print(kill_and_count(target, chance, Path(folder), server), flush=True)
