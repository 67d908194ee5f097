"""A stream gives vectors as they come, reads no further than it must, and loses nothing when its source fails."""

import asyncio
import threading
from itertools import count, islice

import pytest

from sparse_embed import AuthenticationError, ConfigurationError, DenseEncoder, SparseEmbedError
from sparse_embed.testing import no_wait
from tests.faultserver import GOOD, Action, Gate, first, sparse_of, stall, status
from tests.ways import both_ways, meeting, right, sync, workers_end

AHEAD = 4  # requests that a stream runs ahead of its consumer, for each of max_concurrency


class Source:
    """An endless source that counts how far it was read, and fails where it is told to."""

    def __init__(self, fails_at=None, failure=None):
        self.read = 0
        self.fails_at = fails_at
        self.failure = failure

    def __iter__(self):
        for number in count():
            if number == self.fails_at:
                if isinstance(self.failure, Exception):
                    raise self.failure
                yield self.failure
            self.read += 1
            yield f"text {number}"

    async def __aiter__(self):
        for text in self:
            yield text


def take(use, encoder, source, wanted):
    """The first vectors of a stream, which is then left."""
    if use is sync:
        return list(islice(encoder.stream_documents(source), wanted))

    async def some():
        got = []
        async for vector in encoder.astream_documents(source):
            got.append(vector)
            if len(got) == wanted:
                break
        return got

    return asyncio.run(some())


def take_until_error(use, encoder, source):
    """What a stream gave, and the error that ended it."""
    got = []

    async def on_a_loop():
        async for vector in encoder.astream_documents(source):
            got.append(vector)  # noqa: PERF401  # one by one: an error must leave what came before it

    def consume():
        if use is sync:
            got.extend(encoder.stream_documents(source))
        else:
            asyncio.run(on_a_loop())

    with pytest.raises((OSError, SparseEmbedError)) as caught:
        consume()
    return got, caught.value


@both_ways
def test_a_slow_consumer_holds_the_producer_back(use):
    source = Source()
    with meeting(first(), batch_size=5, max_concurrency=2) as (_, encoder):
        assert take(use, encoder, source, 7) == right(encoder, [f"text {number}" for number in range(7)])
        assert 10 <= source.read <= 5 * (2 + AHEAD * 2)  # the second request was needed; the rest is read ahead


@both_ways
def test_a_slow_request_holds_the_producer_back_but_not_its_siblings(use):
    gate, source = Gate(), Source()

    def script(seen):
        return Action(gate=gate) if "text 0" in seen.texts else GOOD

    with meeting(script, batch_size=5, max_concurrency=2) as (server, encoder):
        done = []
        thread = threading.Thread(target=lambda: done.extend(take(use, encoder, source, 1)))
        thread.start()
        server.until(lambda: len(server.requests) == AHEAD * 2)
        assert source.read == 5 * AHEAD * 2
        gate.open()
        thread.join()
        assert done == right(encoder, ["text 0"])


@pytest.mark.parametrize("asynchronous_source", [False, True])
async def test_an_async_stream_reads_any_iterable(asynchronous_source):
    texts = [f"text {number}" for number in range(23)]

    async def given():
        for text in texts:
            await asyncio.sleep(0)
            yield text

    with meeting(first(), batch_size=5) as (_, encoder):
        stream = encoder.astream_documents(given() if asynchronous_source else iter(texts))
        assert [vector async for vector in stream] == right(encoder, texts)
        await encoder.aclose()


@both_ways
@pytest.mark.parametrize("failure", [OSError("disk"), None, 7, "\ud800"], ids=["raises", "None", "int", "surrogate"])
@pytest.mark.parametrize("fails_at", [0, 4, 10, 13])
def test_what_came_before_a_failure_of_the_source_is_delivered_first(use, failure, fails_at):
    with meeting(first(status(503)), batch_size=5) as (_, encoder), no_wait():
        got, error = take_until_error(use, encoder, Source(fails_at, failure))
        texts = [f"text {number}" for number in range(fails_at)]
        assert got == right(encoder, texts)
        assert error is failure if isinstance(failure, OSError) else isinstance(error, ConfigurationError)


@both_ways
def test_a_blank_text_ends_a_dense_stream_after_what_came_before(use):
    with meeting(first(), kind=DenseEncoder, batch_size=5) as (_, encoder):
        got, error = take_until_error(use, encoder, Source(7, "  "))
        assert got == right(encoder, [f"text {number}" for number in range(7)])
        assert "text 7 is blank" in str(error)


@both_ways
def test_an_error_in_a_stream_keeps_what_was_received_but_not_given_out(use):
    slow = Gate()

    def script(seen):
        if "text 5" in seen.texts:
            return Action(401, gate=slow)
        return GOOD

    with meeting(script, batch_size=5, max_concurrency=2) as (server, encoder):
        done = []
        thread = threading.Thread(target=lambda: done.append(take_until_error(use, encoder, Source())))
        thread.start()
        # Positions 0 to 4 can be given out, 5 to 9 fail, and all that may run ahead of them is received.
        server.until(lambda: len(server.requests) == 1 + AHEAD * 2 and server.in_flight == 1)
        slow.open()
        thread.join()
        [(got, error)] = done
        assert isinstance(error, AuthenticationError)
        assert error.texts == range(5, 10)
        assert got == right(encoder, [f"text {number}" for number in range(5)])
        assert error.partial
        assert not error.partial.keys() & range(10)
        assert all(vector == sparse_of(f"text {position}") for position, vector in error.partial.items())


def test_leaving_a_sync_stream_early_leaves_no_thread_and_no_socket():
    with meeting(lambda seen: GOOD if "text 0" in seen.texts else stall(), batch_size=2, timeout=0.3) as (
        server,
        encoder,
    ):
        for vector in encoder.stream_documents(Source()):
            assert vector == sparse_of("text 0")
            break
        sent = len(server.requests)
        workers_end()  # reads in flight end with their timeout; none is sent again
        assert len(server.requests) <= sent + 16
        encoder.close()
        server.until(lambda: server.connections == 0)


async def test_leaving_an_async_stream_early_leaves_no_task_and_no_socket():
    all_there = Gate()

    def script(seen):  # leaving it, no request is on its way to the server
        if seen.number == 16:
            all_there.open()
        return Action(gate=all_there) if "text 0" in seen.texts else stall()

    with meeting(script, batch_size=2, max_concurrency=16, timeout=60) as (server, encoder):
        async for vector in encoder.astream_documents(islice(Source(), 32)):
            assert vector == sparse_of("text 0")
            break
        await server.auntil(lambda: server.in_flight == 0)
        if others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert await encoder.aembed_query("text 0") == sparse_of("text 0")
        assert len(server.requests) == 16 + 1
        await encoder.aclose()
        await server.auntil(lambda: server.connections == 0)
