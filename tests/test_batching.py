"""The queue of a model: who runs together, who goes first, who is refused."""

import random
import threading
from concurrent.futures import CancelledError, wait

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparse_embed.server.batching import Batcher, BusyError, StoppedError
from sparse_embed.server.engines import Tokens


def text(length, role="document", *, first=0, prompt_length=0):
    return Tokens([first, *range(1, length)], role, prompt_length)


class Model:
    """Echoes ids, and remembers its batches; runs only while the gate is open."""

    def __init__(self):
        self.batches = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()

    def forward(self, batch):
        self.entered.set()
        assert self.gate.wait(10)
        self.batches.append(batch)
        if any(text.ids[0] < 0 for text in batch):
            raise ValueError("an id below zero")
        return [list(text.ids) for text in batch]

    def hold(self, batcher):
        """Keep the worker busy, so that all that comes is in line before anything runs."""
        self.gate.clear()
        self.entered.clear()
        job = batcher.submit([text(1)], urgent=True)
        assert self.entered.wait(10)
        return job


@pytest.fixture
def model():
    return Model()


@given(st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=9), max_size=12), st.integers(1, 80))
def test_every_request_gets_its_own_vectors_in_its_order(requests, limit):
    model = Model()
    batcher = Batcher(model.forward, max_batch_tokens=limit, max_queue_tokens=10**6)
    jobs = []
    for number, lengths in enumerate(requests):
        role = "query" if number % 3 else "document"
        texts = [text(length, role, first=number) for length in lengths]
        jobs.append((texts, batcher.submit(texts, urgent=role == "query")))
    for texts, job in jobs:
        assert job.future.result(10) == [text.ids for text in texts]
    batcher.stop(10)
    for batch in model.batches:
        assert len({text.role for text in batch}) == 1
        assert len(batch) == 1 or len(batch) * max(len(text.ids) for text in batch) <= limit


def test_texts_of_similar_length_run_together(model):
    seen = []
    batcher = Batcher(model.forward, max_queue_tokens=10**6, observe=seen.append)
    held = model.hold(batcher)
    lengths = [max(4, int(random.Random(at).lognormvariate(3.5, 0.8))) for at in range(1000)]
    jobs = [batcher.submit([text(n) for n in lengths[at : at + 50]], urgent=False) for at in range(0, 1000, 50)]
    model.gate.set()
    wait([job.future for job in (held, *jobs)], 10)
    assert sum(batch.texts for batch in seen) == 1001
    assert sum(batch.padded for batch in seen) <= 1.1 * sum(batch.tokens for batch in seen)


def test_urgent_texts_go_first_and_the_oldest_of_the_others_next(model):
    batcher = Batcher(model.forward, max_batch_tokens=10)
    held = model.hold(batcher)
    late = [batcher.submit([text(10, first=first)], urgent=False) for first in (1, 2)]
    early = batcher.submit([text(10, "query", first=3)], urgent=True)
    model.gate.set()
    wait([job.future for job in (held, early, *late)], 10)
    assert [batch[0].ids[0] for batch in model.batches] == [0, 3, 1, 2]


def test_constant_queries_do_not_keep_documents_waiting_for_ever(model):
    now = [0.0]

    def forward(batch):
        now[0] += 0.4  # seconds per batch
        return model.forward(batch)

    batcher = Batcher(forward, max_batch_tokens=10, clock=lambda: now[0])
    held = model.hold(batcher)
    jobs = [batcher.submit([text(10, first=8)] * 2, urgent=False)]
    jobs += [batcher.submit([text(10, "query", first=number)], urgent=True) for number in range(1, 8)]
    model.gate.set()
    wait([job.future for job in (held, *jobs)], 10)
    assert [batch[0].ids[0] for batch in model.batches] == [0, 1, 2, 3, 8, 4, 5, 8, 6, 7]


def test_prompts_of_different_length_do_not_share_a_batch(model):
    batcher = Batcher(model.forward)
    model.hold(batcher)
    jobs = [batcher.submit([text(5, prompt_length=length)], urgent=False) for length in (0, 2, 0)]
    model.gate.set()
    wait([job.future for job in jobs], 10)
    assert [len(batch) for batch in model.batches] == [1, 2, 1]


def test_a_full_queue_says_when_there_will_be_room(model):
    batcher = Batcher(model.forward, max_queue_tokens=100, rate=50.0)
    model.hold(batcher)
    batcher.submit([text(90)], urgent=False)
    with pytest.raises(BusyError) as caught:
        batcher.submit([text(60)], urgent=False)
    assert caught.value.retry_after == pytest.approx((90 + 60 - 100) / 50)
    batcher.check_room(urgent=False)
    batcher.submit([text(10)], urgent=False)
    with pytest.raises(BusyError):
        batcher.check_room(urgent=False)
    assert batcher.waiting() == (2, 100)
    model.gate.set()


def test_documents_leave_room_for_queries(model):
    batcher = Batcher(model.forward, max_queue_tokens=100)
    model.hold(batcher)
    batcher.submit([text(100)], urgent=False)
    batcher.check_room(urgent=True)
    batcher.submit([text(90, "query")], urgent=True)
    with pytest.raises(BusyError):
        batcher.submit([text(20, "query")], urgent=True)
    model.gate.set()


def test_a_request_larger_than_the_queue_is_taken_when_nothing_waits(model):
    batcher = Batcher(model.forward, max_queue_tokens=10)
    job = batcher.submit([text(30), text(30)], urgent=False)
    assert len(job.future.result(10)) == 2


def test_the_rate_is_learned(model):
    batcher = Batcher(model.forward, rate=1e-3)
    for _ in range(50):
        batcher.submit([text(100)], urgent=False).future.result(10)
    assert batcher.rate > 100
    assert batcher.max_queue_tokens > 2000


def test_who_left_frees_the_place(model):
    batcher = Batcher(model.forward, max_queue_tokens=100)
    held = model.hold(batcher)
    gone = batcher.submit([text(50, first=1), text(50, first=1)], urgent=False)
    gone.future.cancel()
    assert batcher.waiting() == (0, 0)
    job = batcher.submit([text(100, first=2)], urgent=False)
    model.gate.set()
    wait([held.future, job.future], 10)
    assert [batch[0].ids[0] for batch in model.batches] == [0, 2]
    with pytest.raises(CancelledError):
        gone.future.result()


def test_one_requests_error_touches_no_other(model):
    batcher = Batcher(model.forward)
    model.hold(batcher)
    good = [batcher.submit([text(5, first=first)], urgent=False) for first in (1, 2)]
    bad = batcher.submit([text(5, first=3), text(5, first=-1)], urgent=False)
    model.gate.set()
    assert [job.future.result(10)[0][0] for job in good] == [1, 2]
    with pytest.raises(ValueError, match="below zero"):
        bad.future.result(10)
    assert batcher.submit([text(5)], urgent=False).future.result(10)


def test_stopping_finishes_what_it_can(model):
    batcher = Batcher(model.forward)
    held = model.hold(batcher)
    job = batcher.submit([text(5)], urgent=False)
    threading.Timer(0.1, model.gate.set).start()
    assert batcher.stop(10) == (2, 0)
    assert held.future.result(0)
    assert job.future.result(0)
    with pytest.raises(StoppedError):
        batcher.submit([text(5)], urgent=False)


def test_stopping_refuses_what_does_not_end_in_time(model):
    batcher = Batcher(model.forward)
    jobs = [model.hold(batcher), batcher.submit([text(5)], urgent=False)]
    assert batcher.stop(0.05) == (0, 2)
    for job in jobs:
        with pytest.raises(StoppedError):
            job.future.result(0)
    model.gate.set()
