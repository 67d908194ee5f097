"""Runs one contender: ``python -m benchmarks.worker NAME ADDRESS``.

Reads commands such as ``{"start": 0, "count": 10000}``, one per line, and prints the measurements of each as JSON. Only
the call itself is measured: wall time, and CPU time of all threads of the process. Every vector is checked afterwards.
"""

import gc
import json
import os
import sys
import time

from benchmarks.contenders import caller
from benchmarks.passages import number_of, passages


def main(name: str, address: str) -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints must not be read as a result
    embed = caller(name, address)
    for line in sys.stdin:
        command = json.loads(line)
        numbers = range(command["start"], command["start"] + command["count"])
        texts = passages(command["count"], command["start"])
        gc.collect()
        wall, cpu = time.perf_counter(), time.process_time()
        vectors = embed(texts)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        right = list(map(number_of, vectors)) == list(numbers)
        del vectors
        answers.write(json.dumps({"wall": wall, "cpu": cpu, "right": right}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
