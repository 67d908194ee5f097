"""Counters and histograms for Prometheus, in a registry of their own.

Names follow those of Hugging Face's text-embeddings-inference (``te_…``, read 2026-11), so that its dashboards need a
new prefix only. No label holds a text or a key; `model` holds ids that the server has.
"""

from collections.abc import Sequence
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from sparse_embed.server.access import Trace
from sparse_embed.server.batching import Batch
from sparse_embed.server.served import Served

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
PREFIX = "sparse_embed"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
TEXTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
TOKENS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)


class Metrics:
    """What one server counts.

    Args:
        models: Its models with weights, whose queues are looked at when the metrics are read.
    """

    def __init__(self, models: Sequence[Served]) -> None:
        self._registry = CollectorRegistry()
        self._requests = self._counter("request_count", "Requests", "model")
        self._failures = self._counter("request_failure", "Requests without vectors", "model", "status")
        self._tokens = self._counter("request_tokens", "Tokens of answered requests", "model")
        self._duration = self._histogram("request_duration", "Seconds from request to answer", SECONDS)
        self._queue = self._histogram("request_queue_duration", "Seconds until a request's first text ran", SECONDS)
        self._inference = self._histogram("request_inference_duration", "Seconds of the model, per request", SECONDS)
        self._batch_texts = self._histogram("batch_next_size", "Texts per batch", TEXTS)
        self._batch_tokens = self._histogram("batch_next_tokens", "Tokens per batch, padding included", TOKENS)
        self._batch_seconds = self._histogram("batch_inference_duration", "Seconds of the model, per batch", SECONDS)
        self._padding = self._counter("batch_padding_tokens", "Tokens of padding", "model")
        waiting = self._gauge("queue_size", "Texts that wait")
        waiting_tokens = self._gauge("queue_tokens", "Tokens that wait")
        for model in models:
            waiting.labels(model.name).set_function(partial(_waiting, model, 0))
            waiting_tokens.labels(model.name).set_function(partial(_waiting, model, 1))
            model.observe = partial(self._count_batch, model.name)

    def count(self, status: int, seconds: float, trace: Trace) -> None:
        """Count one answered request.

        Args:
            status: HTTP status of the answer.
            seconds: How long it took.
            trace: What was found out about it.
        """
        self._requests.labels(trace.model).inc()
        self._duration.labels(trace.model).observe(seconds)
        if status != 200:
            self._failures.labels(trace.model, str(status)).inc()
            return
        self._tokens.labels(trace.model).inc(trace.tokens)
        if trace.queue_seconds is not None and trace.compute_seconds is not None:
            self._queue.labels(trace.model).observe(trace.queue_seconds)
            self._inference.labels(trace.model).observe(trace.compute_seconds)

    def read(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self._registry)

    def _count_batch(self, name: str, batch: Batch) -> None:
        self._batch_texts.labels(name).observe(batch.texts)
        self._batch_tokens.labels(name).observe(batch.padded)
        self._batch_seconds.labels(name).observe(batch.seconds)
        self._padding.labels(name).inc(batch.padded - batch.tokens)

    def _counter(self, name: str, words: str, *labels: str) -> Counter:
        return Counter(f"{PREFIX}_{name}", words, labels, registry=self._registry)

    def _gauge(self, name: str, words: str) -> Gauge:
        return Gauge(f"{PREFIX}_{name}", words, ["model"], registry=self._registry)

    def _histogram(self, name: str, words: str, buckets: Sequence[float]) -> Histogram:
        return Histogram(f"{PREFIX}_{name}", words, ["model"], buckets=buckets, registry=self._registry)


def _waiting(model: Served, which: int) -> float:
    return model.waiting()[which]
