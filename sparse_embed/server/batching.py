"""One queue and one worker thread per model: which texts run together, who waits, who is refused.

Decides batches and overload. Knows neither HTTP nor models: an engine's ``forward`` turns token ids into vectors.
"""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from itertools import islice
from typing import Any, NamedTuple

from sparse_embed.server.engines import Tokens

MAX_BATCH_TOKENS = 512  # padding included; measured best on CPU: more makes queries wait and documents no faster
# How far a batch looks for texts of similar length. More saves no padding worth the wait of those that stand between.
WINDOW = 256
# Seconds of work that may wait: clients give up after 60 without an answer.
MAX_WAIT = 20.0
# Seconds after which a batch of documents runs, however many queries wait: they are never more than slowed down.
PATIENCE = 1.0
LEARNING = 0.1  # weight of the newest batch in the learned rate


class BusyError(Exception):
    """The queue is full.

    Attributes:
        retry_after: Seconds until there will be room, at the rate of the last batches.
    """

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"the queue is full; there will be room in {retry_after:.1f} s")
        self.retry_after = retry_after


class StoppedError(Exception):
    """The server stops: this request was not answered."""


class Batch(NamedTuple):
    """What ran together.

    Attributes:
        texts: Number of texts.
        tokens: Their tokens.
        padded: Their tokens, padding included.
        seconds: How long the model took.
    """

    texts: int
    tokens: int
    padded: int
    seconds: float


class Job:
    """The texts of one request on their way.

    Attributes:
        future: Its result is the list of vectors, in the order of the texts. Cancelling it frees the job's place.
        texts: The texts.
        waited: Seconds until the first text ran.
        computed: Seconds of the batches that its texts ran in, each by its share of the batch.
    """

    def __init__(self, texts: Sequence[Tokens], now: float) -> None:
        self.future: Future[list[Any]] = Future()
        self.texts = texts
        self.waited = 0.0
        self.computed = 0.0
        self.entered = now
        self.started = False
        self.vectors: list[Any] = [None] * len(texts)
        self.missing = len(texts)

    @property
    def num_tokens(self) -> int:
        """Tokens of all its texts."""
        return sum(len(text.ids) for text in self.texts)

    def finish(self, outcome: list[Any] | Exception) -> None:
        """Hand over the vectors, or an error, unless nobody waits for them any more."""
        try:
            if isinstance(outcome, Exception):
                self.future.set_exception(outcome)
            else:
                self.future.set_result(outcome)
        except InvalidStateError:  # cancelled, or refused while its last batch ran
            pass


class _Entry(NamedTuple):
    """One text in a line."""

    job: Job
    position: int
    text: Tokens


class Batcher:
    """A model's queue.

    Urgent texts go first, unless no other has run for `PATIENCE` seconds. A batch is the oldest text in line, and those
    of the next `WINDOW` whose length is nearest, as many as fit; nothing waits for company.

    Args:
        forward: Makes one vector per text; called by one thread only.
        max_batch_tokens: Largest batch, padding included. A longer text runs alone.
        max_queue_tokens: Tokens that may wait; None for what the model reads in `MAX_WAIT` seconds.
        rate: First guess of the tokens per second.
        observe: Told of each batch.
        clock: Seconds that never go back.
    """

    def __init__(
        self,
        forward: Callable[[Sequence[Tokens]], Sequence[Any]],
        *,
        max_batch_tokens: int = MAX_BATCH_TOKENS,
        max_queue_tokens: int | None = None,
        rate: float = 1000.0,
        observe: Callable[[Batch], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._forward = forward
        self.max_batch_tokens = max_batch_tokens
        self._max_queue_tokens = max_queue_tokens
        self._observe = observe
        self._clock = clock
        self._others_ran = clock()
        self._changed = threading.Condition()
        self._lines: tuple[deque[_Entry], deque[_Entry]] = deque(), deque()  # urgent, others
        self._tokens = [0, 0]  # in each line
        self._running: list[_Entry] = []
        self._stopping = False
        self.rate = rate
        self._worker = threading.Thread(target=self._work, name="sparse-embed-model", daemon=True)
        self._worker.start()

    @property
    def max_queue_tokens(self) -> int:
        """Tokens that may wait now."""
        return self._max_queue_tokens or int(self.rate * MAX_WAIT)

    def waiting(self) -> tuple[int, int]:
        """Return the number of texts and of tokens in line."""
        return sum(map(len, self._lines)), sum(self._tokens)

    def check_room(self, *, urgent: bool) -> None:
        """Refuse at once, before any work is put into a request, when the queue is full already.

        Raises:
            BusyError: It is full.
            StoppedError: The server stops.
        """
        with self._changed:
            self._check(1, urgent)

    def submit(self, texts: Sequence[Tokens], *, urgent: bool) -> Job:
        """Put the texts of one request in line, all or none.

        Args:
            texts: At least one text.
            urgent: Whether they go before others. Only urgent texts count against the limit of urgent ones, so that a
                queue full of documents lets a query in.

        Raises:
            BusyError: There is no room for all of them. A request that finds an empty queue is never refused.
            StoppedError: The server stops.
        """
        job = Job(texts, self._clock())
        with self._changed:
            self._check(job.num_tokens, urgent)
            self._lines[not urgent].extend(_Entry(job, at, text) for at, text in enumerate(texts))
            self._tokens[not urgent] += job.num_tokens
            self._changed.notify_all()
        job.future.add_done_callback(lambda _: self._leave(job))
        return job

    def stop(self, grace: float) -> tuple[int, int]:
        """Take no more, work for so many seconds, and refuse what is left.

        Args:
            grace: Seconds.

        Returns:
            How many requests were waiting or running: those finished in time, and those refused.
        """
        with self._changed:
            self._stopping = True
            jobs = {entry.job for line in (*self._lines, self._running) for entry in line}
            self._changed.notify_all()
            self._changed.wait_for(lambda: not (any(self._lines) or self._running), grace)
            left = {entry.job for line in (*self._lines, self._running) for entry in line}
        for job in left:
            job.finish(StoppedError())
        if not left:
            self._worker.join()
        return len(jobs) - len(left), len(left)

    def _check(self, tokens: int, urgent: bool) -> None:
        if self._stopping:
            raise StoppedError
        waiting = self._tokens[0] if urgent else sum(self._tokens)
        too_many = waiting + tokens - self.max_queue_tokens
        if waiting and too_many > 0:
            raise BusyError(too_many / self.rate)

    def _leave(self, job: Job) -> None:
        """Free the place of a job that was cancelled, refused or has failed."""
        if job.missing:
            with self._changed:
                for line in self._lines:
                    kept = [entry for entry in line if entry.job is not job]
                    line.clear()
                    line.extend(kept)
                self._tokens = [sum(len(entry.text.ids) for entry in line) for line in self._lines]

    def _work(self) -> None:
        while True:
            with self._changed:
                self._running = []
                self._changed.notify_all()
                self._changed.wait_for(lambda: any(self._lines) or self._stopping)
                if not any(self._lines):
                    return
                self._running = batch = self._take()
            self._run(batch)

    def _take(self) -> list[_Entry]:
        line = self._next_line()
        first = line[0]
        near = [entry for entry in islice(line, WINDOW) if entry.text[1:] == first.text[1:]]
        near.sort(key=lambda entry: len(entry.text.ids))
        start = near.index(first)
        end = start + 1
        while True:  # grow around the oldest, by the neighbour whose length is nearer
            shorter = start > 0 and len(near[end - 1].text.ids) * (end - start + 1) <= self.max_batch_tokens
            longer = end < len(near) and len(near[end].text.ids) * (end - start + 1) <= self.max_batch_tokens
            if shorter and longer:
                below = len(first.text.ids) - len(near[start - 1].text.ids)
                longer = len(near[end].text.ids) - len(first.text.ids) < below
                shorter = not longer
            if shorter:
                start -= 1
            elif longer:
                end += 1
            else:
                break
        batch = near[start:end]
        taken = set(map(id, batch))
        looked_at = [line.popleft() for _ in range(min(WINDOW, len(line)))]
        line.extendleft(reversed([entry for entry in looked_at if id(entry) not in taken]))
        self._tokens[line is self._lines[1]] -= sum(len(entry.text.ids) for entry in batch)
        return batch

    def _next_line(self) -> deque[_Entry]:
        urgent, others = self._lines
        now = self._clock()
        if others and (not urgent or now - max(self._others_ran, others[0].job.entered) > PATIENCE):
            self._others_ran = now
            return others
        return urgent

    def _run(self, batch: list[_Entry]) -> None:
        started = self._clock()
        for entry in batch:
            if not entry.job.started:
                entry.job.started = True
                entry.job.waited = started - entry.job.entered
        try:
            vectors = self._forward([entry.text for entry in batch])
        except Exception as error:  # noqa: BLE001  # it belongs to a request, the worker goes on
            self._run_apart(batch, error)
            return
        seconds = self._clock() - started
        tokens = sum(len(entry.text.ids) for entry in batch)
        self.rate += LEARNING * (max(tokens, 1) / max(seconds, 1e-6) - self.rate)
        padded = len(batch) * max(len(entry.text.ids) for entry in batch)
        self._observe(Batch(len(batch), tokens, padded, seconds))
        for entry, vector in zip(batch, vectors, strict=True):
            job = entry.job
            job.vectors[entry.position] = vector
            job.computed += seconds / len(batch)
            job.missing -= 1
            if not job.missing:
                job.finish(job.vectors)

    def _run_apart(self, batch: list[_Entry], error: Exception) -> None:
        """Run each request's texts by themselves, so that only the one at fault fails."""
        jobs = list(Counter(entry.job for entry in batch))
        if len(jobs) == 1:
            jobs[0].finish(error)
            return
        for job in jobs:
            self._run([entry for entry in batch if entry.job is job])
