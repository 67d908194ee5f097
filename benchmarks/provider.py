"""A stub of both sparse wires that is fast enough not to be the bottleneck: answers are joined from prepared bytes.

By itself: ``python -m benchmarks.provider --latency 0.05`` prints its port. ``GET /stats`` returns its counts.
"""

import argparse
import asyncio
import json
import math
import random
import re
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.passages import KINDS, tail
from simulation.limits import TokenBucket

NUMBER = re.compile(rb'(?<!\\)"(\d+) ')
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
FAULTS = ("500", "503", "reset", "stall", "truncated", "413")
BYTES_PER_TOKEN = 5
REASONS = {200: "OK", 413: "Payload Too Large", 429: "Too Many Requests", 500: "Internal Server Error", 503: "Busy"}


@dataclass
class Options:
    """Behaviour of the stub.

    Attributes:
        latency: Seconds from a request to its answer.
        nonzeros: Non-zeros per sparse vector.
        rate: Requests per second, from a token bucket; 0 for no limit.
        capacity: Requests that the bucket holds.
        tokens: Tokens per minute, from a bucket that holds as many; 0 for no limit.
        retry_after: The Retry-After header of a refusal: "honest", "whole" (seconds, rounded up), "absent", "zero" or
            "tenfold".
        faults: Percentage of requests that fail, each kind of fault equally often.
        stall: Seconds until the stub closes the connection of an answer that stopped halfway.
        seed: Seed of the faults.
    """

    latency: float = 0.0
    nonzeros: int = 200
    rate: float = 0.0
    capacity: float = 20.0
    tokens: float = 0.0
    retry_after: str = "honest"
    faults: float = 0.0
    stall: float = 1.0
    seed: int = 0


class Stub:
    def __init__(self, options: Options) -> None:
        self.options = options
        self.rng = random.Random(options.seed)
        self.stats: Counter[str] = Counter()
        self.in_flight = 0
        self.requests = TokenBucket(options.rate, options.capacity) if options.rate else None
        self.tokens = TokenBucket(options.tokens / 60, options.tokens) if options.tokens else None
        terms = [tail(kind, options.nonzeros) for kind in range(KINDS)]
        # For each wire: start of an answer, start of an item, remainders of items by kind, end of an answer.
        self.chroma = _form(
            '{"embeddings":[',
            '{"indices":[',
            [f'{_more(i)}],"values":[1.5{_more(v)}]}}' for i, v in terms],
            '],"num_tokens":%d}',
        )
        self.pinecone = _form(
            '{"model":"pinecone-sparse-english-v0","vector_type":"sparse","data":[',
            '{"vector_type":"sparse","sparse_indices":[',
            [f'{_more(i)}],"sparse_values":[1.5{_more(v)}]}}' for i, v in terms],
            '],"usage":{"total_tokens":%d}}',
        )

    def answer(self, head: bytes, body: bytes) -> "tuple[bytes, Callable[[asyncio.Transport, bytes], None]]":
        """Return an answer's bytes and the function that sends them."""
        if head.startswith(b"GET /stats"):
            counts = {**self.stats, "in flight": self.in_flight, "CPU ms": int(time.process_time() * 1000)}
            return _http(200, json.dumps(counts).encode()), _whole
        numbers = NUMBER.findall(body)
        tokens = len(body) // BYTES_PER_TOKEN
        self.stats["requests"] += 1
        self.stats["last ms"] = int(time.monotonic() * 1000)
        self.stats.setdefault("first ms", self.stats["last ms"])
        self.stats["most in flight"] = max(self.stats["most in flight"], self.in_flight)
        if self.requests is not None or self.tokens is not None:
            wait = self._seconds_to_wait(tokens)
            if wait:
                self.stats["429"] += 1
                return _http(429, b'{"error":"max embedding tokens per minute"}', self._retry_after(wait)), _whole
        if self.rng.random() * 100 < self.options.faults:
            kind = self.rng.choice(FAULTS)
            if kind != "413" or len(numbers) > 1:  # a single text cannot be split
                self.stats[kind] += 1
                return self._fault(kind, head, body, numbers)
        self.stats["200"] += 1
        self.stats["texts"] += len(numbers)
        self.stats["tokens"] += tokens
        return self._vectors(head, body, numbers), _whole

    def _seconds_to_wait(self, tokens: int) -> float:
        now = asyncio.get_running_loop().time()
        wait = self.requests.take(now) if self.requests is not None else 0.0
        if not wait and self.tokens is not None:
            wait = self.tokens.take(now, tokens)
        return wait

    def _retry_after(self, wait: float) -> str:
        match self.options.retry_after:
            case "absent":
                return ""
            case "zero":
                seconds = 0.0
            case "tenfold":
                seconds = 10 * wait
            case "whole":
                return f"retry-after: {math.ceil(wait)}\r\n"
            case _:
                seconds = wait
        return f"retry-after: {seconds:.3f}\r\n"

    def _vectors(self, head: bytes, body: bytes, numbers: list[bytes]) -> bytes:
        start, item, rests, end = self.chroma if head.startswith(b"POST /embed_sparse") else self.pinecone
        items = b",".join([b"%b%b%b" % (item, number, rests[int(number) % KINDS]) for number in numbers])
        return _http(200, b"%b%b%b" % (start, items, end % (len(body) // BYTES_PER_TOKEN)))

    def _fault(
        self, kind: str, head: bytes, body: bytes, numbers: list[bytes]
    ) -> "tuple[bytes, Callable[[asyncio.Transport, bytes], None]]":
        match kind:
            case "reset":
                return b"", _reset
            case "stall":
                answer = self._vectors(head, body, numbers)
                return answer[: len(answer) // 2], self._stall
            case "truncated":
                _, _, content = self._vectors(head, body, numbers).partition(b"\r\n\r\n")
                return _http(200, content[: len(content) // 2]), _whole
            case _:
                return _http(int(kind), b'{"error":"an injected fault"}'), _whole

    def _stall(self, transport: asyncio.Transport, part: bytes) -> None:
        transport.write(part)
        asyncio.get_running_loop().call_later(self.options.stall, transport.abort)


Form = tuple[bytes, bytes, list[bytes], bytes]


def _form(start: str, item: str, rests: list[str], end: str) -> Form:
    return start.encode(), item.encode(), [rest.encode() for rest in rests], end.encode()


def _more(numbers: list[int] | list[float]) -> str:
    return "".join(f",{number}" for number in numbers)


def _http(status: int, body: bytes, header: str = "") -> bytes:
    head = (
        f"HTTP/1.1 {status} {REASONS[status]}\r\n{header}"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _whole(transport: asyncio.Transport, answer: bytes) -> None:
    transport.write(answer)


def _reset(transport: asyncio.Transport, _: bytes) -> None:
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


@dataclass
class Connection(asyncio.Protocol):
    stub: Stub
    buffer: bytearray = field(default_factory=bytearray)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**20)
        self.stub.stats["connections"] += 1
        self.stub.stats["open connections"] += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self.stub.stats["open connections"] -= 1

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n") + 4
        if end < 4:
            return
        length = LENGTH.search(self.buffer, 0, end)
        size = end + (int(length[1]) if length else 0)
        if len(self.buffer) < size:
            return
        head, body = bytes(self.buffer[:end]), bytes(self.buffer[end:size])
        del self.buffer[:size]
        self.stub.in_flight += 1
        answer, send = self.stub.answer(head, body)
        if self.stub.options.latency:
            asyncio.get_running_loop().call_later(self.stub.options.latency, self.reply, answer, send)
        else:
            self.reply(answer, send)

    def reply(self, answer: bytes, send: Callable[[asyncio.Transport, bytes], None]) -> None:
        self.stub.in_flight -= 1
        if not self.transport.is_closing():
            send(self.transport, answer)


async def serve(options: Options) -> None:
    stub = Stub(options)
    server = await asyncio.get_running_loop().create_server(lambda: Connection(stub), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in vars(Options()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    asyncio.run(serve(Options(**vars(parser.parse_args()))))


if __name__ == "__main__":
    main()
