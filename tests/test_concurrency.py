"""How many requests are under way, in which order they are served, and what an error or a cancellation stops."""

import asyncio
import threading
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor

import pytest

from sparse_embed import AuthenticationError, RateLimitError
from sparse_embed.testing import no_wait
from tests.faultserver import GOOD, PATIENCE, RESET, Action, Gate, first, sparse_of, stall, status
from tests.ways import asynchronous, both_ways, meeting, right, sync, together, workers_end

TEXTS = [f"text {number}" for number in range(40)]


class Line:
    """A rate limiter that never limits: says when a request is about to stand in line."""

    def __init__(self):
        self.comers = 0
        self._changed = threading.Condition()

    def acquire(self, *, blocking=True):
        with self._changed:
            self.comers += 1
            self._changed.notify_all()
        return blocking

    async def aacquire(self, *, blocking=True):
        return self.acquire(blocking=blocking)

    def until(self, comers):
        with self._changed:
            assert self._changed.wait_for(lambda: self.comers >= comers, PATIENCE)


@both_ways
def test_32_callers_share_one_encoder(use):
    parts = [[f"{caller} {number}" for number in range(30)] for caller in range(32)]
    with meeting(first(RESET, status(503), RESET), batch_size=4) as (server, encoder), no_wait():
        answers = together(use, [(encoder, "embed_documents", part) for part in parts])
        assert answers == [right(encoder, part) for part in parts]
        assert encoder.usage.texts == 32 * 30
        assert encoder.usage.requests == len(server.requests) == 32 * 8 + 3


@both_ways
def test_max_concurrency_bounds_all_calls_of_an_encoder_together(use):
    gate = Gate()
    with meeting(lambda _: Action(gate=gate), batch_size=1, max_concurrency=3) as (server, encoder):
        jobs = [(encoder, "embed_documents", [f"{job} {text}" for text in TEXTS[:5]]) for job in range(4)]
        with ThreadPoolExecutor() as pool:
            done = pool.submit(together, use, [*jobs, (encoder, "embed_query", "question")])
            server.until(lambda: server.in_flight == 3)
            gate.open()
            assert done.result()[-1] == sparse_of("question")
        assert len(server.requests) == 21
        assert server.max_in_flight == 3


def test_threads_and_each_loop_have_a_bound_of_their_own():
    gate = Gate()
    with meeting(lambda _: Action(gate=gate), batch_size=1, max_concurrency=2) as (server, encoder):
        with ThreadPoolExecutor() as pool:
            jobs = [
                pool.submit(use, encoder, "embed_documents", [f"{number} {text}" for text in TEXTS])
                for number, use in enumerate([sync, sync, asynchronous, asynchronous])
            ]
            server.until(lambda: server.in_flight == 6)
            gate.open()
            for job in jobs:
                job.result()
        assert server.max_in_flight == 6


@both_ways
@pytest.mark.parametrize(("sibling", "width"), [("backs off", 10), ("stalls", 10), ("stalls", 2)])
def test_an_error_ends_the_call_at_once_whatever_its_siblings_do(use, sibling, width):
    refuse, limit, never = Gate(), Gate(), Gate()

    def script(seen):
        if seen.texts == TEXTS[1:2]:
            return Action(401, gate=refuse)
        return Action(gate=never) if sibling == "stalls" else Action(429, headers={"retry-after": "100"}, gate=limit)

    with (
        meeting(script, batch_size=1, max_concurrency=width, timeout=100) as (server, encoder),
        ThreadPoolExecutor() as pool,
    ):
        done = pool.submit(use, encoder, "embed_documents", TEXTS[:10])
        server.until(lambda: len(server.requests) == width)
        if sibling == "backs off":
            limit.open()
            server.until(lambda: server.in_flight == 1)
        refuse.open()
        with pytest.raises(AuthenticationError) as caught:
            done.result(PATIENCE)  # well before the pause of 100 s is over; the stall is let go of below
        assert caught.value.texts == range(1, 2)
        never.open()
        workers_end()
        assert len(server.requests) == width, "a request started after the error"


@both_ways
def test_an_error_takes_no_place_from_other_calls(use):
    refuse, slow = Gate(), Gate()

    def script(seen):
        return Action(401, gate=refuse) if seen.texts == ["bad"] else Action(gate=slow)

    with meeting(script, batch_size=1, max_concurrency=4) as (server, encoder), ThreadPoolExecutor() as pool:
        failing = pool.submit(use, encoder, "embed_documents", ["bad", *TEXTS])
        server.until(lambda: server.in_flight == 4)
        refuse.open()
        with pytest.raises(AuthenticationError):
            failing.result()
        others = [f"other {text}" for text in TEXTS]
        working = pool.submit(use, encoder, "embed_documents", others)
        slow.open()
        assert working.result() == right(encoder, others)


@both_ways
def test_a_query_is_served_within_a_round_of_requests_while_an_ingestion_runs(use):
    gates = defaultdict(Gate)
    line = Line()
    with (
        meeting(
            lambda seen: Action(gate=gates[(seen.number - 1) // 4]),
            batch_size=1,
            max_concurrency=4,
            rate_limiter=line,
        ) as (server, encoder),
        ThreadPoolExecutor() as pool,
    ):
        if use is sync:
            pool.submit(sync, encoder, "embed_documents", TEXTS)
            server.until(lambda: server.in_flight == 4)
            query = pool.submit(sync, encoder, "embed_query", "question")
        else:
            query = pool.submit(
                together, use, [(encoder, "embed_documents", TEXTS), (encoder, "embed_query", "question")]
            )
        line.until(5)
        while use is sync and not encoder._http.permits._waiting:  # it has said so, and does not stand there yet
            time.sleep(0.001)
        for done in range(0, 41, 4):
            server.until(lambda done=done: len(server.requests) >= min(done + 4, 41))
            gates[done // 4].open()
        query.result()
        place = next(seen.number for seen in server.requests if seen.texts == ["question"])
        assert place <= 8, "four were in flight when it came"


@pytest.mark.parametrize("ends", ["left early", "an error"])
def test_requests_that_are_left_behind_take_no_place_from_the_next_call(ends):
    answer, never = Gate(), Gate()

    def script(seen):
        if seen.texts == TEXTS[:1]:
            return Action(200 if ends == "left early" else 401, gate=answer)
        return Action() if seen.texts == ["question"] else Action(gate=never)

    with meeting(script, batch_size=1, max_concurrency=3) as (server, encoder), ThreadPoolExecutor() as pool:
        stream = encoder.stream_documents(TEXTS[:5])
        first = pool.submit(next, stream)
        server.until(lambda: server.in_flight == 3)
        answer.open()
        if ends == "left early":
            assert first.result() == sparse_of(TEXTS[0])
            stream.close()
        else:
            assert isinstance(first.exception(), AuthenticationError)
        for _ in range(3):
            assert encoder.embed_query("question") == sparse_of("question")
        never.open()
        workers_end()


@both_ways
@pytest.mark.parametrize("comes", ["before the refusal", "after it"])
def test_a_query_that_cannot_wait_out_a_pause_fails_and_is_not_sent(use, comes):
    limit, refuse, line = Gate(), Gate(), Line()

    def script(seen):
        if seen.texts == TEXTS[:1]:
            return Action(429, headers={"retry-after": "100"}, gate=limit)
        return Action(401, gate=refuse)

    with (
        meeting(script, batch_size=1, max_concurrency=2, rate_limiter=line) as (server, encoder),
        ThreadPoolExecutor() as pool,
    ):

        async def on_one_loop():
            ingestion = asyncio.ensure_future(encoder.aembed_documents(TEXTS[:2]))
            await server.auntil(lambda: server.in_flight == 2)
            if comes == "before the refusal":
                query = asyncio.ensure_future(encoder.aembed_query("question"))
                await asyncio.to_thread(line.until, 3)
                limit.open()
            else:
                limit.open()
                await server.auntil(lambda: server.in_flight == 1)
                query = asyncio.ensure_future(encoder.aembed_query("question"))
            await asyncio.wait([query])
            refuse.open()
            return await asyncio.gather(ingestion, query, return_exceptions=True)

        if use is sync:
            ingestion = pool.submit(sync, encoder, "embed_documents", TEXTS[:2])
            server.until(lambda: server.in_flight == 2)
            if comes == "before the refusal":
                query = pool.submit(sync, encoder, "embed_query", "question")
                line.until(3)
                limit.open()
            else:
                limit.open()
                server.until(lambda: server.in_flight == 1)
                query = pool.submit(sync, encoder, "embed_query", "question")
            query.exception(PATIENCE)  # well before the pause of 100 s is over
            refuse.open()
            errors = [ingestion.exception(PATIENCE), query.exception(PATIENCE)]
        else:
            errors = asyncio.run(on_one_loop())
        assert [type(error) for error in errors] == [AuthenticationError, RateLimitError]
        assert errors[1].attempts == 0
        assert errors[1].retry_after > 30, "a query does not wait out a pause of 100 s"
        assert server.texts == [TEXTS[:1], TEXTS[1:2]] or server.texts == [TEXTS[1:2], TEXTS[:1]]


@pytest.mark.parametrize("answer", ["good", "stalls", "stalls in the body", "mixed"])
async def test_a_storm_of_cancelled_calls_costs_neither_places_nor_connections(answer):
    actions = {"good": [GOOD], "stalls": [stall()], "stalls in the body": [stall("half")]}
    script = actions.get(answer, [GOOD, stall(), RESET, stall("half"), status(503)])
    with meeting(lambda seen: script[seen.number % len(script)], timeout=60) as (server, encoder):

        async def impatient(number):
            async with asyncio.timeout(0.02):
                await encoder.aembed_query(f"question {number}")

        for _ in range(50):
            ends = await asyncio.gather(*map(impatient, range(100)), return_exceptions=True)
            assert {type(end) for end in ends} <= {TimeoutError, type(None)}
        await server.auntil(lambda: server.connections <= 16)
        gate = Gate()
        server.script = lambda _: Action(gate=gate)
        calls = [asyncio.ensure_future(encoder.aembed_documents([text])) for text in TEXTS]
        await server.auntil(lambda: server.in_flight == 16)
        gate.open()
        assert await asyncio.gather(*calls) == [right(encoder, [text]) for text in TEXTS]
        assert server.connections <= 16
        await encoder.aclose()
