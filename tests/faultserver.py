"""A provider on a real loopback socket that misbehaves as told.

It speaks both wires in raw HTTP/1.1 from a thread of its own. Its vectors are made of the text, so that a vector at
another text's place shows.
"""

import asyncio
import json
import socket
import struct
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Self

from sparse_embed import SparseVector

PATIENCE = 20  # seconds until a test that waits for the server gives up: never reached when all is well


def sparse_of(text: str) -> SparseVector:
    """The sparse vector of a text; most have an index of more than 31 bits."""
    pairs = {zlib.crc32(text.encode()): 1.5, zlib.crc32(f"{text}!".encode()): 0.25}
    return SparseVector(sorted(pairs), [pairs[index] for index in sorted(pairs)])


def dense_of(text: str) -> list[float]:
    """The dense vector of a text."""
    return [zlib.crc32(f"{at} {text}".encode()) / 2**32 for at in range(4)]


class Seen(NamedTuple):
    """A request: `attempt` counts from 1 for the same texts, `number` from 1 for all."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    texts: list[str]
    attempt: int
    number: int
    time: float


class Gate:
    """Closed until a test opens it, from any thread."""

    def __init__(self) -> None:
        self._opened: Future[None] = Future()

    def open(self) -> None:
        if not self._opened.done():
            self._opened.set_result(None)

    async def passed(self) -> None:
        await asyncio.shield(asyncio.wrap_future(self._opened))


@dataclass(frozen=True)
class Action:
    """What the server does with a request.

    Attributes:
        body: What it answers; None is the right answer, changed by `change`.
        change: Told the items of the right answer, to spoil them in place.
        rewrite: Told the bytes of the body, to spoil them; the content length follows.
        early: How much leaves before `gate` and `ending`: nothing, or the head and half of the body.
        gate: Waited for before the rest leaves.
        ending: Whether the rest leaves and the connection stays ("keep"), or is closed or reset before it.
    """

    status: int = 200
    body: dict[str, Any] | str | bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    change: Callable[[list[Any]], object] | None = None
    rewrite: Callable[[bytes], bytes] = bytes
    early: Literal["nothing", "half"] = "nothing"
    gate: Gate | None = None
    ending: Literal["keep", "close", "reset"] = "keep"

    def content(self, seen: Seen) -> bytes:
        body = self._right_answer(seen) if self.body is None else self.body
        content = json.dumps(body).encode() if isinstance(body, dict) else body
        return self.rewrite(content.encode() if isinstance(content, str) else content)

    def _right_answer(self, seen: Seen) -> dict[str, Any]:
        chroma, sparse = "texts" in seen.body, seen.path == "/embed_sparse" or "sparse" in seen.body.get("model", "")
        items: list[Any]
        if sparse:
            prefix = "" if chroma else "sparse_"
            vectors = map(sparse_of, seen.texts)
            items = [{f"{prefix}indices": [*vector.indices], f"{prefix}values": [*vector.values]} for vector in vectors]
        else:
            items = [dense_of(text) if chroma else {"values": dense_of(text)} for text in seen.texts]
        if self.change is not None:
            self.change(items)
        tokens = len(seen.texts)
        return {"embeddings": items, "num_tokens": tokens} if chroma else {
            "data": items,
            "usage": {"total_tokens": tokens},
        }  # fmt: skip


GOOD = Action()
RESET = Action(ending="reset")
RESET_IN_BODY = Action(early="half", ending="reset")
CLOSED = Action(ending="close")
SHORT_BODY = Action(early="half", ending="close")  # less than its content-length says
CUT_JSON = Action(rewrite=lambda content: content[: len(content) // 2])
HTML_502 = Action(502, "<html><style>p{}</style><body><h1>502 Bad Gateway</h1>cloud</body></html>")


def stall(early: Literal["nothing", "half"] = "nothing") -> Action:
    """Silence in the head or in the body, until the client leaves."""
    return Action(early=early, gate=Gate())


def status(code: int, message: str = "scripted", headers: dict[str, str] | None = None) -> Action:
    """An error in the shape that both providers' readers know."""
    return Action(code, {"error": {"code": f"CODE_{code}", "message": message}}, headers or {})


Script = Callable[[Seen], Action]


def first(*actions: Action) -> Script:
    """These for the first requests, then good answers."""
    return lambda seen: actions[seen.number - 1] if seen.number <= len(actions) else GOOD


class FaultServer:
    """Serves a script while its ``with`` lasts.

    Attributes:
        url: Where.
        requests: What has arrived so far, in order.
        in_flight: Requests that are not answered yet and whose client is still there.
        max_in_flight: The most there have been at once.
        connections: Open connections.
    """

    def __init__(self, script: Script = lambda seen: GOOD) -> None:
        self.script = script
        self.requests: list[Seen] = []
        self.in_flight = self.max_in_flight = self.connections = 0
        self.url = ""
        self._attempts: Counter[tuple[str, ...]] = Counter()
        self._changed = threading.Condition()
        self._loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Event
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), name="faultserver")

    def __enter__(self) -> Self:
        self._thread.start()
        self.until(lambda: self.url)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def until(self, happened: Callable[[], object]) -> None:
        """Wait until `happened()`, which is looked at after everything that the server does."""
        with self._changed:
            assert self._changed.wait_for(happened, PATIENCE), "the server waited in vain"

    async def auntil(self, happened: Callable[[], object]) -> None:
        """The same, without blocking the loop."""
        await asyncio.to_thread(self.until, happened)

    @property
    def texts(self) -> list[list[str]]:
        """The texts of each request."""
        return [seen.texts for seen in self.requests]

    async def _main(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._connection, "127.0.0.1", backlog=1024)
        with self._changed:
            self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            self._changed.notify_all()
        await self._stop.wait()
        server.close()
        await asyncio.sleep(0.01)  # a task that is cancelled before it has begun would leave its connection open

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._count(connections=1)
        try:
            while await self._exchange(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the client left, or the test is over
        finally:
            writer.close()
            self._count(connections=-1)

    def _count(self, *, connections: int = 0, in_flight: int = 0) -> None:
        with self._changed:
            self.connections += connections
            self.in_flight += in_flight
            self.max_in_flight = max(self.max_in_flight, self.in_flight)
            self._changed.notify_all()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request and what becomes of it; whether the connection lives on."""
        start, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        body = json.loads(await reader.readexactly(int(headers["content-length"])))
        seen = self._arrived(start.split()[1], headers, body)
        try:
            action = self.script(seen)
            content = action.content(seen)
            said = {"content-length": str(len(content)), "connection": "keep-alive", **action.headers}
            head = "".join(f"{name}: {value}\r\n" for name, value in said.items())
            answer = f"HTTP/1.1 {action.status} Scripted\r\n{head}\r\n".encode() + content
            early = len(answer) - len(content) // 2 - 1 if action.early == "half" else 0
            writer.write(answer[:early])
            if action.gate is not None and not await _opened(action.gate, reader):
                return False
        finally:
            self._count(in_flight=-1)
        if action.ending == "reset":
            linger = struct.pack("ii", 1, 0)  # closing then sends RST instead of FIN
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
        if action.ending != "keep":
            return False
        writer.write(answer[early:])
        await writer.drain()
        return True

    def _arrived(self, path: str, headers: dict[str, str], body: dict[str, Any]) -> Seen:
        texts = body["texts"] if "texts" in body else [item["text"] for item in body["inputs"]]
        self._attempts[tuple(texts)] += 1
        attempt, number = self._attempts[tuple(texts)], len(self.requests) + 1
        seen = Seen(path, headers, body, texts, attempt, number, time.monotonic())
        self.requests.append(seen)
        self._count(in_flight=1)
        return seen


async def _opened(gate: Gate, reader: asyncio.StreamReader) -> bool:
    """Wait for the gate; False when the client leaves first, which shows as the end of what it sends."""
    waits = [asyncio.ensure_future(gate.passed()), asyncio.ensure_future(reader.read(1))]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        return waits[0].done()
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
