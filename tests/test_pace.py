"""Rate limits: nearly all that is allowed is used, and little is wasted on refusals. In virtual time."""

import statistics
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulation.limits import ChangingBucket, FixedWindow
from simulation.virtual import BUCKETS, HEADERS, TokenBucket, simulate, tokens
from sparse_embed.transport.pace import Pace


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("limit", BUCKETS)
def test_ingestion_uses_the_allowance_whatever_the_provider_says(limit: str, header: str) -> None:
    case = BUCKETS[limit]
    run = simulate(case.limit(), HEADERS[header], amount=case.amount, requests=1000)
    assert run.goodput >= 0.95
    assert run.waste <= 0.05


def test_a_provider_that_refuses_nothing_is_never_slowed() -> None:
    run = simulate(TokenBucket(1e9, 1e9), HEADERS["absent"], requests=1600, concurrency=16, latency=0.05)
    assert run.refused == 0
    assert run.seconds == pytest.approx(1600 / 16 * 0.05)
    pace = Pace()
    assert pace.book(5.0).start == 5.0


def test_a_limit_that_is_lifted_is_forgotten_in_time() -> None:
    bucket = TokenBucket(20.0, 20.0)
    lifted = simulate(bucket, HEADERS["absent"], requests=300)
    assert lifted.refused

    class Lifted(TokenBucket):
        def take(self, now: float, amount: float = 1.0) -> float:
            if now > 15:
                self.rate = self.capacity = 1e9
            return super().take(now, amount)

    run = simulate(Lifted(20.0, 20.0), HEADERS["absent"], requests=6000)
    assert run.seconds < 100, "at 20 a second it would be 300"


def test_a_limit_that_is_halved_is_followed() -> None:
    class Halved(TokenBucket):
        def take(self, now: float, amount: float = 1.0) -> float:
            if now > 20:
                self.rate = 10.0
            return super().take(now, amount)

    run = simulate(Halved(20.0, 20.0), HEADERS["absent"], requests=1000)
    assert run.waste <= 0.08
    assert run.seconds < 80


def test_refusals_of_requests_sent_before_the_last_refusal_are_one_refusal() -> None:
    pace = Pace()
    for _ in range(16):
        pace.refused(10.0, 9.9, wait=1.0)
    assert pace.epoch == 1
    assert pace.book(10.5).start == 11.0


@given(st.lists(st.floats(0, 1000), max_size=50))
def test_nothing_is_slowed_before_the_first_refusal(times: list[float]) -> None:
    pace = Pace()
    for now in sorted(times):
        assert pace.book(now).start == now
        pace.succeeded(now)


steps = st.lists(
    st.tuples(st.floats(0, 10), st.floats(0, 2), st.none() | st.floats(0, 100), st.booleans()), max_size=60
)


@given(steps)
def test_no_request_starts_before_the_named_time_is_over(steps: list[tuple[float, float, float | None, bool]]) -> None:
    pace, now, earliest = Pace(), 0.0, 0.0
    for later, latency, wait, refused in steps:
        now += later
        if refused:
            pace.refused(now, now - latency, wait)
            earliest = max(earliest, now + (wait or 0.0))
        else:
            pace.succeeded(now - latency)
        assert pace.paused_until(now) >= earliest or now >= earliest
        assert earliest <= pace.book(now).start < float("inf") or now >= earliest


@pytest.mark.parametrize("header", ["honest", "absent"])
def test_a_limit_that_rises_is_found(header: str) -> None:
    run = simulate(ChangingBucket(20.0, 20.0, changes_at=50.0, factor=8.0), HEADERS[header])
    assert run.seconds < 1.2 * run.ideal, "at 20 a second it would be 1.8"


@pytest.mark.parametrize("seed", range(4))
def test_a_limit_that_rises_is_found_also_where_refusals_are_expensive(seed: int) -> None:
    rises = ChangingBucket(10.0, 5.0, changes_at=100.0, factor=8.0)
    run = simulate(rises, HEADERS["honest, rounded up"], seed=seed)
    assert run.seconds < 1.25 * run.ideal, "at 10 a second it would be 1.8"


@pytest.mark.parametrize("over", [0.0, 0.5, 0.9])
def test_a_window_that_names_no_pause_is_remembered(over: float) -> None:
    run = simulate(FixedWindow(37, 10.0, elapsed=10 * over), HEADERS["absent"])
    assert run.seconds < 1.1 * run.ideal
    assert run.waste <= 0.06


@pytest.mark.parametrize("over", [0.0, 0.24, 0.5, 0.75])
def test_a_guessed_pause_never_ends_a_call(over: float) -> None:
    run = simulate(FixedWindow(250_000, 60.0, elapsed=60 * over), HEADERS["absent"], amount=tokens, seed=3)
    assert run.seconds < 1.2 * run.ideal, "a longer pause than its deadline would have ended it"


def refused_again_after_minutes() -> Pace:
    """A pace that knows a window of 350 s, and has just been refused, at 351."""
    pace = Pace()
    pace.succeeded(sent=0.0)
    pace.refused(1.0, sent=0.9, wait=None)
    pace.succeeded(sent=350.0)
    pace.refused(351.0, sent=350.9, wait=None)
    return pace


def test_a_guessed_pause_is_shorter_than_the_window_that_was_once_closed_for_minutes() -> None:
    pace = refused_again_after_minutes()
    assert 10 < pace.paused_until(351.0) - 351.0 <= 90


@pytest.mark.parametrize("header", ["honest", "absent"])
def test_a_bucket_of_one_request_forgives_requests_that_arrive_a_little_early(header: str) -> None:
    run = simulate(TokenBucket(10, 1), HEADERS[header], requests=105, jitter=0.1, seed=1)
    assert run.seconds < 1.3 * run.ideal


@pytest.mark.parametrize("idle", [1.0, 86_400.0])
@pytest.mark.parametrize("header", HEADERS)
def test_what_one_call_learned_helps_the_next(header: str, idle: float) -> None:
    pace = Pace()
    first = simulate(TokenBucket(20.0, 5.0), HEADERS[header], requests=105, pace=pace)
    second = simulate(TokenBucket(20.0, 5.0), HEADERS[header], requests=105, pace=pace, start=first.seconds + idle)
    assert second.refused < first.refused / 2
    assert second.seconds <= 1.02 * first.seconds


def test_quiet_hours_before_the_first_refusal_do_not_mislead() -> None:
    pace, quiet = Pace(), Pace()
    for minute in range(500):
        quiet.succeeded(60.0 * minute)
    fresh = simulate(TokenBucket(20.0, 20.0), HEADERS["absent"], requests=500, pace=pace)
    later = simulate(TokenBucket(20.0, 20.0), HEADERS["absent"], requests=500, pace=quiet, start=60.0 * 500)
    assert later.seconds <= 1.05 * fresh.seconds
    assert later.waste <= fresh.waste + 0.05


@pytest.mark.parametrize("header", ["honest", "honest, rounded up", "absent", "always 0"])
@pytest.mark.parametrize("burst", [1, 5, 20])
def test_a_short_job_takes_little_longer_than_the_limit_demands(burst: int, header: str) -> None:
    run = simulate(TokenBucket(20, burst), HEADERS[header], requests=105)
    assert run.seconds <= (1.8 if header == "honest, rounded up" else 1.3) * run.ideal
    assert run.waste <= 0.25


@pytest.mark.parametrize("header", ["honest", "honest, rounded up", "absent"])
def test_a_fast_limit_with_a_small_bucket_is_used(header: str) -> None:
    run = simulate(TokenBucket(250, 1), HEADERS[header], requests=6000)
    assert run.seconds <= 1.4 * run.ideal
    assert run.waste <= 0.05


def test_clients_with_one_limit_use_it_together() -> None:
    runs = [simulate(TokenBucket(20, 20), HEADERS["honest"], requests=1000, clients=4, seed=seed) for seed in range(5)]
    assert max(run.seconds / run.ideal for run in runs) <= 2
    assert statistics.mean(run.waste for run in runs) <= 0.2


def test_a_first_burst_is_counted_in_whatever_order_its_answers_arrive() -> None:
    def starts(*, refusal_first: bool) -> list[float]:
        pace = Pace()
        if refusal_first:
            pace.refused(0.09, sent=0.0, wait=1.0)
        for number in range(5):
            pace.succeeded(sent=0.001 * number)
        if not refusal_first:
            pace.refused(0.09, sent=0.0, wait=1.0)
        return [pace.book(2.0).start for _ in range(60)]

    assert starts(refusal_first=True) == starts(refusal_first=False)


@pytest.mark.parametrize("limit", [TokenBucket(10, 1), TokenBucket(20, 20), FixedWindow(37, 10)])
def test_a_retry_after_of_zero_is_as_good_as_none(limit: TokenBucket | FixedWindow) -> None:
    zero, absent = (
        simulate(replace(limit), HEADERS[header], requests=200, jitter=0.5) for header in ("always 0", "absent")
    )
    assert zero == absent


def test_a_later_refusal_that_names_a_longer_pause_voids_the_slots_that_were_taken() -> None:
    pace = Pace()
    pace.refused(1.0, sent=0.9, wait=0.2)
    slot = pace.book(1.0)
    pace.refused(1.01, sent=0.95, wait=10.0)
    assert pace.epoch != slot.epoch
    assert pace.book(1.01).start >= 11.01


def test_hours_of_refusals_do_not_make_the_next_guess_long() -> None:
    pace, now = Pace(), 0.0
    pace.succeeded(sent=0.0)
    while now < 4 * 3600:
        pace.refused(now + 0.1, sent=now, wait=None, random=0.9)
        now = max(now + 0.1, pace.book(now + 0.1).start)
    assert pace.paused_until(now) - now <= 30


def test_a_window_that_has_become_shorter_does_not_end_a_call() -> None:
    pace = refused_again_after_minutes()
    pace.succeeded(sent=351.5)
    run = simulate(FixedWindow(20, 120), HEADERS["absent"], requests=60, pace=pace, start=1200.0, concurrency=1)
    assert run.refused > 0
