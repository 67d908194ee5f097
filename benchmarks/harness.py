"""Starts processes: the stub, contenders that take turns, and jobs, each in the environment of its pinned packages."""

import json
import os
import shutil
import statistics
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.contenders import CONTENDERS, OURS

ROOT = Path(__file__).parent.parent
ENVIRONMENTS = {
    "langchain-pinecone": ("langchain-pinecone==0.2.13", "pinecone[asyncio]==7.3.0", "langchain-core==1.7.2"),
    "pinecone": ("pinecone==10.2.0",),
    "chromadb": ("chromadb==1.5.9",),
    "plot": ("matplotlib==3.10.7",),
}


@cache
def python(environment: str) -> str:
    """Return the interpreter of an environment, which is built on first use."""
    if environment == OURS:
        return sys.executable
    home = ROOT / f".venv-bench-{environment}"
    marker = home / "pinned.txt"
    pins = "\n".join(ENVIRONMENTS[environment])
    if not marker.exists() or marker.read_text() != pins:
        uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv") or "uv"
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", version, str(home)], check=True)
        target = str(home / "bin" / "python")
        subprocess.run([uv, "pip", "install", "--quiet", "--python", target, *ENVIRONMENTS[environment]], check=True)
        marker.write_text(pins)
    return str(home / "bin" / "python")


class Stub:
    """A running provider stub."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        assert process.stdout is not None
        self.address = f"http://127.0.0.1:{int(process.stdout.readline())}"

    def stats(self) -> dict[str, int]:
        with urllib.request.urlopen(f"{self.address}/stats", timeout=10) as answer:
            stats: dict[str, int] = json.load(answer)
        return stats


@contextmanager
def started(command: Sequence[str]) -> "Iterator[subprocess.Popen[str]]":
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True, bufsize=1) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def stub(**options: Any) -> Iterator[Stub]:
    """Start a stub with options of `benchmarks.provider.Options`."""
    given = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    with started([sys.executable, "-m", "benchmarks.provider", *given]) as process:
        yield Stub(process)


def alternate(
    names: Sequence[str], address: str, *, count: int, rounds: int, tell: Callable[[str], None]
) -> dict[str, list[dict[str, float]]]:
    """Let contenders take turns, each in its own process. Return `rounds` measurements for each, after a warm-up."""
    figures: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    with ExitStack() as stack:
        commands = [[python(CONTENDERS[name].environment), "-m", "benchmarks.worker", name, address] for name in names]
        workers = {name: stack.enter_context(started(command)) for name, command in zip(names, commands, strict=True)}
        for turn in range(-1, rounds):
            for name in names if turn % 2 else reversed(names):
                figure = ask(workers[name], start=0, count=min(count, 16 * 96) if turn < 0 else count)
                if not figure["right"]:
                    raise RuntimeError(f"{name}: wrong vectors")
                if turn >= 0:
                    figures[name].append(figure)
                    tell(
                        f"{name}: {count / figure['wall']:,.0f} texts/s, {figure['cpu'] / count * 1e6:.0f} µs CPU/text"
                    )
    return figures


def ask(worker: "subprocess.Popen[str]", **command: int) -> dict[str, float]:
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write(json.dumps(command) + "\n")
    answer = worker.stdout.readline()
    if not answer:
        raise RuntimeError(f"{worker.args!r} has ended")
    figure: dict[str, float] = json.loads(answer)
    return figure


def job(name: str, /, *, environment: str = OURS, **arguments: Any) -> Any:
    """Run a function, such as ``"jobs.stream"``, in its own process and return its result."""
    command = [python(environment), "-m", "benchmarks.jobs", name, json.dumps(arguments)]
    # Let Python write bytecode, so that import times are those of an installed package.
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(command, cwd=ROOT, env=environ, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def ratio(over: Sequence[float], under: Sequence[float]) -> float:
    """The median of the ratios within each round, so that a slow round of the machine affects both sides."""
    return statistics.median(a / b for a, b in zip(over, under, strict=True))
