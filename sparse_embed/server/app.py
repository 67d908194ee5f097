"""The local provider's application: routes, authentication, body size, shape of every error.

Decides who may ask and where. Leaves bodies and answers to ``chroma_wire`` and ``pinecone_wire``.
"""

import asyncio
import hmac
import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match

from sparse_embed.server import chroma_wire, pinecone_wire
from sparse_embed.server.access import AccessLog, Trace
from sparse_embed.server.batching import Job, StoppedError
from sparse_embed.server.engines import DenseAnswer, Question, SparseAnswer, VectorType
from sparse_embed.server.engines.bm25 import Bm25
from sparse_embed.server.errors import CHROMA_KEY, CHROMA_MODEL, PINECONE_KEY, Refusal, error_body, wire_of
from sparse_embed.server.metrics import Metrics
from sparse_embed.server.models import Catalogue, Model, check_names
from sparse_embed.server.operations import make_router
from sparse_embed.server.page import add_page
from sparse_embed.server.served import Served, stopping

ENGINE_HEADER = "x-sparse-embed-engine"
MAX_BODY = 32 * 2**20  # bytes; neither provider publishes a limit, and 100 texts of a book chapter fit
LOADING = 2.0  # seconds after which to ask a server again that loads its models

Ask = Callable[[Catalogue], tuple[Model, Question]]
Write = Callable[[SparseAnswer | DenseAnswer, Model, Question], bytes]


def create_app(
    *,
    api_key: str | None = None,
    stand_in: bool = False,
    own_bm25: Sequence[Bm25] = (),
    models: Sequence[Served] = (),
) -> FastAPI:
    """Make an application that speaks the wire of Chroma Cloud Embed and of Pinecone Inference.

    Without ``stand_in`` it has two models, ``local/bm25`` (sparse) and ``local/hashing`` (dense, no semantics); with
    it, the same two engines also answer for the providers' own models, with those models' dimensions but not their
    vectors. The header ``x-sparse-embed-engine`` of each answer says which engine made it.

    Args:
        api_key: The only key accepted. None accepts every key that is not empty: for loopback only.
        stand_in: Whether to answer for the providers' own models.
        own_bm25: Further BM25 models.
        models: Models with weights. Until all are loaded, every request for vectors is refused with 503.

    Raises:
        ValueError: A blank ``api_key``: a variable that was meant to hold one is empty. Two models of one name.
    """
    if api_key is not None and not api_key.strip():
        raise ValueError("api_key is blank; give a key, or None to accept every key")
    check_names(own_bm25, models)
    # No OpenAPI page: the providers' own specifications describe these routes. No redirects: clients follow none.
    app = FastAPI(title="sparse-embed local provider", openapi_url=None, redirect_slashes=False)
    metrics = Metrics(models)
    app.add_middleware(AccessLog, count=metrics.count)
    app.state.models = tuple(models)

    @cache
    def loaded_catalogue() -> Catalogue:
        return Catalogue(stand_in=stand_in, own_bm25=tuple(own_bm25), with_weights=tuple(models))

    def catalogue() -> Catalogue:
        if not all(model.ready for model in models):
            raise Refusal(503, "the models are being loaded", retry_after=LOADING)
        return loaded_catalogue()

    async def authenticate(request: Request) -> None:
        name = CHROMA_KEY if wire_of(request.url.path, request.headers) == "chroma" else PINECONE_KEY
        given = request.headers.get(name, "")
        if not given.strip():
            raise Refusal(401, f"no API key: send the header {name}")
        # Headers arrive decoded as latin-1; the comparison takes the same time wherever the keys differ.
        if api_key is not None and not hmac.compare_digest(given.encode("latin-1"), api_key.encode()):
            raise Refusal(401, "invalid API key")

    # In this order: nobody's body is read before their key was looked at.
    async def authenticated_body(request: Request, _: Annotated[None, Depends(authenticate)]) -> bytes:
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY:
                raise Refusal(413, f"the body is larger than {MAX_BODY} bytes")
        return bytes(body)

    Body = Annotated[bytes, Depends(authenticated_body)]  # noqa: N806  # a type

    async def answer_chroma(request: Request, body: bytes, vector_type: VectorType) -> Response:
        name = request.headers.get(CHROMA_MODEL)
        if not name:
            raise Refusal(400, f"no model: send the header {CHROMA_MODEL}")
        return await _respond(
            request,
            catalogue(),
            lambda models: chroma_wire.ask(body, name, vector_type, models),
            lambda vectors, _, question: chroma_wire.write(vectors, question),
        )

    @app.post("/embed_sparse")
    async def embed_sparse(request: Request, body: Body) -> Response:
        return await answer_chroma(request, body, "sparse")

    @app.post("/")  # official Chroma clients post dense requests to the root (chromadb 1.5.9, read 2026-11)
    async def embed_at_root(request: Request, body: Body) -> Response:
        return await answer_chroma(request, body, "dense")

    @app.post("/embed")
    async def embed(request: Request, body: Body) -> Response:
        if wire_of("/embed", request.headers) == "chroma":
            return await answer_chroma(request, body, "dense")
        return await _respond(request, catalogue(), lambda models: pinecone_wire.ask(body, models), pinecone_wire.write)

    @app.get("/models", dependencies=[Depends(authenticate)])
    def list_models(request: Request) -> Response:
        wire = wire_of("/models", request.headers)
        query = request.query_params
        content = pinecone_wire.list_models(
            catalogue(), wire, kind=query.get("type"), vector_type=query.get("vector_type")
        )
        return _json(content, ", ".join(dict.fromkeys(model.engine for model in catalogue().models)))

    @app.get("/models/{name:path}", dependencies=[Depends(authenticate)])
    def describe_model(request: Request, name: str) -> Response:
        found = catalogue().find(name, wire_of("/models", request.headers), unknown=404, absent=404)
        return _json(pinecone_wire.describe_model(found), found.engine)

    app.include_router(make_router(metrics, models, catalogue, authenticate))
    add_page(app)
    _add_error_handlers(app)
    return app


def _add_error_handlers(app: FastAPI) -> None:
    @app.exception_handler(Refusal)
    async def refuse(request: Request, refusal: Refusal) -> Response:
        response = _error(request, refusal.status, refusal.message)
        if refusal.retry_after is not None:
            # Whole seconds are HTTP's; milliseconds are read by this project's client and by those of OpenAI.
            response.headers["retry-after"] = str(math.ceil(refusal.retry_after))
            response.headers["retry-after-ms"] = str(math.ceil(refusal.retry_after * 1000))
        return response

    @app.exception_handler(HTTPException)
    async def refuse_route(request: Request, error: HTTPException) -> Response:
        response = _error(request, error.status_code, error.detail)
        if error.status_code == 405:
            # Starlette 1.10 names the methods of the first route of this path only, and "/" has two.
            matching = (route for route in app.routes if route.matches(request.scope)[0] != Match.NONE)
            methods = (getattr(route, "methods", ()) for route in matching)
            response.headers["allow"] = ", ".join(sorted(set().union(*methods)))
        return response

    @app.exception_handler(ClientDisconnect)
    async def hang_up(request: Request, _gone: ClientDisconnect) -> Response:
        return _error(request, 400, "the client left before it was answered")  # nobody reads this

    @app.exception_handler(Exception)
    async def confess(request: Request, _bug: Exception) -> Response:
        return _error(request, 500, "internal server error; the server's log has the details")


async def _respond(request: Request, catalogue: Catalogue, ask: Ask, write: Write) -> Response:
    """Answer a request: on threads where it computes, so that the event loop serves on, and without one in a queue."""
    trace: Trace = request.state.trace

    def begin() -> tuple[Model, Question, SparseAnswer | DenseAnswer | tuple[Served, Job]]:
        model, question = ask(catalogue)
        trace.model, trace.texts = model.name, len(question.texts)
        return model, question, catalogue.ask(model, question)

    def finish(outcome: SparseAnswer | DenseAnswer | tuple[Served, Job]) -> bytes:
        if not isinstance(outcome, SparseAnswer | DenseAnswer):
            served, job = outcome
            outcome = served.answer(question, job)
            trace.queue_seconds, trace.compute_seconds = job.waited, job.computed
        trace.tokens = outcome.num_tokens
        return write(outcome, model, question)

    model, question, outcome = await run_in_threadpool(begin)
    if not isinstance(outcome, SparseAnswer | DenseAnswer):
        await _finished(request, outcome[1])
    response = _json(await run_in_threadpool(finish, outcome), model.engine)
    if trace.queue_seconds is not None:
        response.headers["server-timing"] = trace.server_timing()
    return response


async def _finished(request: Request, job: Job) -> None:
    """Wait for a job; give its place up when the client leaves.

    Raises:
        ClientDisconnect: It left.
        Refusal: 503, the server stops first.
    """
    done: asyncio.Future[Any] = asyncio.wrap_future(job.future)
    left: asyncio.Future[Any] = asyncio.ensure_future(request.receive())  # after the body only the end can come
    try:
        await asyncio.wait({done, left}, return_when=asyncio.FIRST_COMPLETED)
        if not done.done():
            raise ClientDisconnect
        await done
    except StoppedError:
        raise stopping() from None
    finally:
        left.cancel()
        done.cancel()


def _json(content: bytes, engine: str) -> Response:
    return Response(content, media_type="application/json", headers={ENGINE_HEADER: engine})


def _error(request: Request, status: int, message: str) -> Response:
    content = error_body(wire_of(request.url.path, request.headers), status, message)
    return Response(content, status_code=status, media_type="application/json")
