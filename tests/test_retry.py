"""When a request is sent again, and after how long: pure decisions, in virtual time."""

from dataclasses import replace
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparse_embed import APIConnectionError, RateLimitError, ServerError, SparseEmbedError
from sparse_embed.providers import make_provider
from sparse_embed.providers.base import Reply
from sparse_embed.quota import Quota, Turn
from sparse_embed.settings import UNKNOWN_ROUTE
from sparse_embed.transport.batching import Batch, achunks, chunks, even_batches
from sparse_embed.transport.call import Call, Chunk, Meter
from sparse_embed.transport.classify import Fault, Outcome
from sparse_embed.transport.flow import Permit, Send, Sleep, embed, gives_back_permit
from sparse_embed.transport.pace import Pace
from sparse_embed.transport.retry import backoff, parse_retry_after, retry_policy

NOW = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0.25"}, 0.25),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": format_datetime(NOW.replace(minute=1), usegmt=True)}, 60.0),
        ({"retry-after": "Fri, 20 Nov 2026 11:59:00 GMT"}, 0.0),
        ({"retry-after": "-5"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after-ms": "", "retry-after": "2"}, 2.0),
    ],
)
def test_retry_after_is_read_as_milliseconds_seconds_or_a_date(headers: dict[str, str], seconds: float | None) -> None:
    assert parse_retry_after(headers, NOW) == seconds


@given(st.text())
def test_no_retry_after_header_can_break_the_client(raw: str) -> None:
    seconds = parse_retry_after({"retry-after": raw}, NOW)
    assert seconds is None or seconds >= 0


@given(failures=st.integers(1, 10_000), random=st.floats(0, 1, exclude_max=True))
def test_backoff_has_full_jitter_and_a_cap(failures: int, random: float) -> None:
    assert 0 <= backoff(failures, random) < min(30.0, 0.5 * 2 ** min(failures - 1, 10))


@given(count=st.integers(0, 1000), size=st.integers(1, 100))
def test_batches_are_even_within_the_limit_and_keep_order(count: int, size: int) -> None:
    texts = {f"text {at}": at * 3 for at in range(count)}
    batches = list(even_batches(texts, size))
    assert [text for batch in batches for text in batch.texts] == list(texts)
    assert [at for batch in batches for at in batch.positions] == list(texts.values())
    sizes = [len(batch.texts) for batch in batches]
    assert len(sizes) == -(-count // size)
    assert not sizes or max(sizes) <= size
    assert not sizes or max(sizes) - min(sizes) <= 1


@given(items=st.lists(st.integers(), max_size=50), size=st.integers(1, 10))
async def test_chunks_lose_nothing_from_lists_iterators_and_async_iterators(items: list[int], size: int) -> None:
    async def source() -> Any:
        for item in items:
            yield item

    def check(item: int, position: int) -> None:
        assert item == items[position]

    expected = [items[at : at + size] for at in range(0, len(items), size)]
    assert list(chunks(items, size, check)) == expected
    assert [chunk async for chunk in achunks(iter(items), size, check)] == expected
    assert [chunk async for chunk in achunks(source(), size, check)] == expected


class VirtualTime:
    """Drives one flow; nothing waits."""

    def __init__(self, outcomes: list[Outcome], seconds_a_request: float = 0.0) -> None:
        self.now = 1000.0
        self.outcomes = iter(outcomes)
        self.sent_at: list[float] = []
        self.timeouts: list[float | None] = []
        self.permits = 0
        self.seconds_a_request = seconds_a_request

    def drive(self, call: Call[Any], batch: Batch) -> Chunk[Any]:
        chunk = Chunk(call, batch.texts)
        flow = embed(chunk, batch)
        outcome: Outcome | None = None
        try:
            while True:
                effect = flow.send(outcome)
                outcome = None
                match effect:
                    case Permit():
                        self.permits += 1
                    case Sleep(seconds):
                        assert seconds >= 0
                        self.now += seconds
                    case Send():
                        assert self.permits == len(self.sent_at) + 1, "every request needs a permit of its own"
                        self.sent_at.append(self.now)
                        self.timeouts.append(effect.timeout)
                        self.now += self.seconds_a_request
                        outcome = next(self.outcomes)
        except StopIteration:
            return chunk


def _call(time: VirtualTime, role: Any = "document", random: float = 0.5, pace: Pace | None = None) -> Call[Any]:
    provider = make_provider("chroma", "sparse", None, False, {})
    return Call(
        provider=provider,
        decode=provider.decode_sparse,
        role=role,
        retry=retry_policy(role, None, None),
        timeout=60.0,
        pace=pace or Pace(),
        meter=Meter(),
        clock=lambda: time.now,
        random=lambda: random,
    )


BATCH = Batch(["one"], [0])
GOOD = Reply(200, {}, b'{"embeddings":[{"indices":[1],"values":[2.0]}],"num_tokens":1}')
LIMITED = Reply(429, {}, b'{"error":"slow down"}')
BROKEN = Reply(503, {}, b'{"error":"busy"}')
RESET = Fault("connection", "reset", UNKNOWN_ROUTE)

outcomes = st.lists(
    st.one_of(
        st.sampled_from([LIMITED, BROKEN, RESET, Fault("timeout", "stalled", UNKNOWN_ROUTE), Reply(200, {}, b"{")]),
        st.builds(
            lambda status, after: Reply(status, {"retry-after": str(after)}, b""),
            st.sampled_from([429, 503]),
            st.floats(0, 200),
        ),
    ),
    max_size=60,
)


@given(
    faults=outcomes, role=st.sampled_from(["document", "query"]), random=st.floats(0, 0.999), took=st.floats(0.01, 70)
)
def test_a_call_ends_within_its_count_and_its_deadline(
    faults: list[Outcome], role: Any, random: float, took: float
) -> None:
    time = VirtualTime([*faults, *[GOOD] * 10], took)
    call = _call(time, role, random)
    try:
        chunk = time.drive(call, BATCH)
    except SparseEmbedError as error:
        assert error.attempts == len(time.sent_at) >= 1
        assert not call.meter.usage.texts
    else:
        assert chunk.found["one"].indices == (1,)
    limits = call.retry
    assert time.sent_at[-1] - time.sent_at[0] <= limits.deadline
    assert all(timeout is not None and 0 < timeout <= 60 for timeout in time.timeouts)
    answered = faults[: len(time.sent_at)]
    counted = [at for at in answered if role == "query" or not (isinstance(at, Reply) and at.status == 429)]
    assert len(counted) <= limits.max_retries + 1
    assert call.meter.usage.requests == len(time.sent_at)
    assert call.meter.usage.retries == len(time.sent_at) - 1


def test_documents_outlast_a_quota_window_of_a_minute_that_would_exhaust_a_count() -> None:
    time = VirtualTime([LIMITED] * 12 + [GOOD])
    time.drive(_call(time, random=0.2), BATCH)
    assert len(time.sent_at) == 13


def test_a_query_gives_up_after_two_retries() -> None:
    time = VirtualTime([LIMITED] * 3)
    with pytest.raises(RateLimitError) as caught:
        time.drive(_call(time, "query"), BATCH)
    assert caught.value.attempts == 3


def test_a_pause_that_outlasts_the_deadline_fails_at_once_and_says_how_long_it_is() -> None:
    time = VirtualTime([Reply(429, {"retry-after": "100"}, b"")])
    with pytest.raises(RateLimitError) as caught:
        time.drive(_call(time, "query"), BATCH)
    assert caught.value.retry_after == 100
    assert time.now == 1000.0

    pace = Pace()
    pace.refused(1000.0, 999.0, wait=90.0)
    with pytest.raises(RateLimitError, match="outlasts the deadline") as held:
        time.drive(_call(time, "query", pace=pace), BATCH)
    assert held.value.retry_after == 90
    assert len(time.sent_at) == 1, "the held call sent nothing"


def test_a_pause_stops_every_call_and_may_be_extended_while_they_wait() -> None:
    pace = Pace()
    pace.refused(1000.0, 999.0, wait=5.0)
    time = VirtualTime([GOOD])
    flow = embed(Chunk(_call(time, pace=pace), BATCH.texts), BATCH)
    extended = False
    effect = next(flow)
    while isinstance(effect, Sleep):
        time.now += effect.seconds
        if time.now > 1004 and not extended:
            pace.refused(time.now, 1003.0, wait=3.0)
            extended = True
        effect = flow.send(None)
    assert effect == Permit()
    assert isinstance(flow.send(None), Send)
    assert time.now > 1007


def test_a_refusal_while_a_request_stands_in_line_holds_it_and_the_line_is_no_failure() -> None:
    pace = Pace()
    time = VirtualTime([GOOD])
    flow = embed(Chunk(_call(time, role="query", pace=pace), BATCH.texts), BATCH)
    assert next(flow) == Permit()
    time.now += 1000  # far longer than the deadline
    pace.refused(time.now, time.now - 1, wait=2.0)
    waited = 0.0
    while isinstance(effect := flow.send(None), Sleep):
        time.now += effect.seconds
        waited += effect.seconds
    assert waited == pytest.approx(2.0)
    assert effect == Permit(again=True), "the rate limiter was asked for this attempt"
    assert isinstance(flow.send(None), Send)


def test_a_request_that_others_overtook_while_it_waited_for_a_permit_keeps_it() -> None:
    # Or the next request of its encoder would meet the same, and hold up all others that share the quota.
    time, quota = VirtualTime([GOOD]), Quota(requests_per_minute=60)
    call = replace(_call(time), quota=quota)
    flow = embed(Chunk(call, BATCH.texts), BATCH)
    assert next(flow) == Permit()
    time.now += 10
    other = Turn(quota, ["text"], "another call")
    assert other.wait(time.now).own == 0
    assert other.start(time.now)
    while isinstance(effect := flow.send(None), Sleep):
        assert not gives_back_permit(effect)
        time.now += effect.seconds
    assert effect == Permit(again=True)
    assert not gives_back_permit(effect)
    assert isinstance(flow.send(None), Send)


def test_progress_of_one_batch_moves_the_deadline_of_its_siblings() -> None:
    time = VirtualTime([BROKEN, GOOD])
    call = _call(time)
    flow = embed(Chunk(call, BATCH.texts), BATCH)
    next(flow)
    assert isinstance(flow.send(None), Send)
    time.now += 179
    call.progressed = time.now
    assert isinstance(flow.send(BROKEN), Sleep), "180 s from the start would be over"


def test_retries_of_server_errors_are_counted() -> None:
    time = VirtualTime([BROKEN] * 7)
    with pytest.raises(ServerError, match="busy") as caught:
        time.drive(_call(time), BATCH)
    assert caught.value.attempts == 7
    time = VirtualTime([RESET] * 7)
    with pytest.raises(APIConnectionError):
        time.drive(_call(time), BATCH)
