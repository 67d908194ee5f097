"""The local provider's application: routes, authentication, body size, shape of every error.

Decides who may ask and where. Leaves bodies and answers to ``chroma_wire`` and ``pinecone_wire``.
"""

import hmac
from collections.abc import Sequence
from typing import Annotated

from fastapi import Depends, FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match

from sparse_embed.server import chroma_wire, pinecone_wire
from sparse_embed.server.engines import VectorType
from sparse_embed.server.engines.bm25 import Bm25
from sparse_embed.server.errors import CHROMA_KEY, CHROMA_MODEL, PINECONE_KEY, Refusal, error_body, wire_of
from sparse_embed.server.models import Catalogue, check_names
from sparse_embed.server.page import add_page

ENGINE_HEADER = "x-sparse-embed-engine"
MAX_BODY = 32 * 2**20  # bytes; neither provider publishes a limit, and 100 texts of a book chapter fit


def create_app(*, api_key: str | None = None, stand_in: bool = False, own_bm25: Sequence[Bm25] = ()) -> FastAPI:
    """Make an application that speaks the wire of Chroma Cloud Embed and of Pinecone Inference.

    Without ``stand_in`` it has two models, ``local/bm25`` (sparse) and ``local/hashing`` (dense, no semantics); with
    it, the same two engines also answer for the providers' own models, with those models' dimensions but not their
    vectors. The header ``x-sparse-embed-engine`` of each answer says which engine made it.

    Args:
        api_key: The only key accepted. None accepts every key that is not empty: for loopback only.
        stand_in: Whether to answer for the providers' own models.
        own_bm25: Further BM25 models.

    Raises:
        ValueError: A blank ``api_key``: a variable that was meant to hold one is empty. Two models of one name.
    """
    if api_key is not None and not api_key.strip():
        raise ValueError("api_key is blank; give a key, or None to accept every key")
    check_names(own_bm25)
    catalogue = Catalogue(stand_in=stand_in, own_bm25=tuple(own_bm25))
    # No OpenAPI page: the providers' own specifications describe these routes. No redirects: clients follow none.
    app = FastAPI(title="sparse-embed local provider", openapi_url=None, redirect_slashes=False)

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

    # The endpoints are plain functions: FastAPI runs them on threads, so the event loop serves on while they compute.

    def answer_chroma(request: Request, body: bytes, vector_type: VectorType) -> Response:
        model = request.headers.get(CHROMA_MODEL)
        if not model:
            raise Refusal(400, f"no model: send the header {CHROMA_MODEL}")
        return _json(*chroma_wire.answer(body, model, vector_type, catalogue))

    @app.post("/embed_sparse")
    def embed_sparse(request: Request, body: Body) -> Response:
        return answer_chroma(request, body, "sparse")

    @app.post("/")  # official Chroma clients post dense requests to the root (chromadb 1.5.9, read 2026-11)
    def embed_at_root(request: Request, body: Body) -> Response:
        return answer_chroma(request, body, "dense")

    @app.post("/embed")
    def embed(request: Request, body: Body) -> Response:
        if wire_of("/embed", request.headers) == "chroma":
            return answer_chroma(request, body, "dense")
        return _json(*pinecone_wire.answer(body, catalogue))

    @app.get("/models", dependencies=[Depends(authenticate)])
    def models(request: Request) -> Response:
        wire = wire_of("/models", request.headers)
        query = request.query_params
        content = pinecone_wire.list_models(
            catalogue, wire, kind=query.get("type"), vector_type=query.get("vector_type")
        )
        return _json(content, ", ".join(dict.fromkeys(model.engine for model in catalogue.models)))

    @app.get("/models/{name:path}", dependencies=[Depends(authenticate)])
    def model(request: Request, name: str) -> Response:
        found = catalogue.find(name, wire_of("/models", request.headers), unknown=404, absent=404)
        return _json(pinecone_wire.describe_model(found), found.engine)

    add_page(app)

    @app.exception_handler(Refusal)
    async def refuse(request: Request, refusal: Refusal) -> Response:
        return _error(request, refusal.status, refusal.message)

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
        return _error(request, 400, "the client left before its body was complete")  # nobody reads this

    @app.exception_handler(Exception)
    async def confess(request: Request, _bug: Exception) -> Response:
        return _error(request, 500, "internal server error; the server's log has the details")

    return app


def _json(content: bytes, engine: str) -> Response:
    return Response(content, media_type="application/json", headers={ENGINE_HEADER: engine})


def _error(request: Request, status: int, message: str) -> Response:
    content = error_body(wire_of(request.url.path, request.headers), status, message)
    return Response(content, status_code=status, media_type="application/json")
