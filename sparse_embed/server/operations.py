"""What operators ask: is it ready, what does it serve, how is it doing."""

from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, Depends, Response
from pydantic_core import to_json

from sparse_embed.server import chroma_wire
from sparse_embed.server.errors import Wire
from sparse_embed.server.metrics import CONTENT_TYPE, Metrics
from sparse_embed.server.models import PINECONE_MAX_INPUTS, Catalogue
from sparse_embed.server.served import Served

WIRES: tuple[Wire, ...] = ("chroma", "pinecone")


def make_router(
    metrics: Metrics,
    models: Sequence[Served],
    catalogue: Callable[[], Catalogue],
    authenticate: Callable[..., Any],
) -> APIRouter:
    """Return the routes ``/health``, ``/metrics`` and ``/info``.

    Args:
        metrics: What the server counts.
        models: Its models with weights.
        catalogue: All its models; raises while they are being loaded.
        authenticate: Dependency that refuses a request without the key.
    """
    router = APIRouter()

    @router.get("/health")  # without a key, as probes of containers ask
    def health() -> Response:
        ready = all(model.ready for model in models)
        return Response(
            to_json({"status": "ok" if ready else "loading"}),
            status_code=200 if ready else 503,
            media_type="application/json",
        )

    @router.get("/metrics")  # without a key, as Prometheus asks; ids of models and numbers only
    def read_metrics() -> Response:
        return Response(metrics.read(), media_type=CONTENT_TYPE)

    @router.get("/info", dependencies=[Depends(authenticate)])
    def info() -> Response:
        return Response(to_json(describe_server(catalogue())), media_type="application/json")

    return router


def describe_server(catalogue: Catalogue) -> dict[str, Any]:
    """Return the JSON of ``/info``."""
    served = {wire: catalogue.served(wire) for wire in WIRES}
    weights = {model.name: model for model in catalogue.with_weights}
    models = []
    for model in catalogue.models:
        wires = [wire for wire in WIRES if model in served[wire]]
        if wires:
            facts: dict[str, Any] = {
                "name": model.name,
                "kind": model.vector_type,
                "dimension": model.dimension or None,
                "max_tokens": model.max_tokens,
                "engine": model.engine,
                "wires": wires,
            }
            models.append(facts | (_describe_weights(weights[model.name]) if model.name in weights else {}))
    limits = {"chroma_texts": chroma_wire.MAX_TEXTS, "pinecone_inputs": PINECONE_MAX_INPUTS}
    return {"version": version("sparse-embed"), "models": models, "limits": limits}


def _describe_weights(served: Served) -> dict[str, Any]:
    return {
        "source": served.files.source,
        "revision": served.files.revision,
        "prompts": dict(served.encoder.prompts),
        "max_batch_tokens": served.batcher.max_batch_tokens,
        "max_queue_tokens": served.batcher.max_queue_tokens,
        "tokens_per_second": round(served.batcher.rate),
    }
