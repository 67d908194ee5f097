"""A STUB of one Pinecone index, on loopback: no emulator of Pinecone's data plane exists.

It keeps what is upserted and scores exactly, by dot product, so rankings through it show that the right vectors travel
in the right places. It shows nothing about Pinecone itself: not its ranking, limits, wording or pace.
Reached with the real SDK: ``Pinecone(api_key="any").Index(host=stub.url)``.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from sparse_embed.server.run import serve_in_thread

Json = dict[str, Any]
COMPARISONS = {
    "$eq": lambda stored, wanted: stored == wanted,
    "$ne": lambda stored, wanted: stored != wanted,
    "$in": lambda stored, wanted: stored in wanted,
    "$nin": lambda stored, wanted: stored not in wanted,
    "$gt": lambda stored, wanted: stored is not None and stored > wanted,
    "$gte": lambda stored, wanted: stored is not None and stored >= wanted,
    "$lt": lambda stored, wanted: stored is not None and stored < wanted,
    "$lte": lambda stored, wanted: stored is not None and stored <= wanted,
}


class PineconeIndexStub:
    """What the stub holds and saw.

    Attributes:
        dimension: Of its dense vectors; None for a sparse index, which has none.
        url: Where it listens.
        records: The upserted records, by namespace and id, as they came over the wire.
        requests: Every request: its path and its JSON body.
    """

    def __init__(self, dimension: int | None) -> None:
        self.dimension = dimension
        self.url = ""
        self.records: dict[str, dict[str, Json]] = {}
        self.requests: list[tuple[str, Json]] = []


class RefusedError(Exception):
    """The stub answers 400."""


@contextmanager
def pinecone_index_stub(*, dimension: int | None = None) -> Iterator[PineconeIndexStub]:
    """Run a stub of a dot-product index: sparse only, or with a `dimension` dense, with sparse values beside."""
    stub = PineconeIndexStub(dimension)
    with serve_in_thread(_app(stub)) as stub.url:
        yield stub


def _app(stub: PineconeIndexStub) -> FastAPI:
    app = FastAPI()

    def answer(path: str, body: Json) -> Json:
        stub.requests.append((path, body))
        namespace = stub.records.setdefault(body.get("namespace") or "", {})
        match path:
            case "vectors/upsert":
                for record in body["vectors"]:
                    _check(stub, record.get("values"), record.get("sparseValues"))
                namespace.update({record["id"]: record for record in body["vectors"]})
                return {"upsertedCount": len(body["vectors"])}
            case "query":
                return {"matches": _matches(stub, namespace, body), "namespace": body.get("namespace") or ""}
            case "vectors/delete":
                kept = {} if body.get("deleteAll") else dict(namespace)
                for name in body.get("ids") or []:
                    kept.pop(name, None)
                if condition := body.get("filter"):
                    kept = {name: record for name, record in kept.items() if not _meets(record, condition)}
                namespace.clear()
                namespace.update(kept)
                return {}
            case "describe_index_stats":
                counts = {name: {"vectorCount": len(records)} for name, records in stub.records.items() if records}
                return {
                    "namespaces": counts,
                    "totalVectorCount": sum(count["vectorCount"] for count in counts.values()),
                    "indexFullness": 0.0,
                    "metric": "dotproduct",
                    "vectorType": "sparse" if stub.dimension is None else "dense",
                } | ({} if stub.dimension is None else {"dimension": stub.dimension})
        raise RefusedError(f"the stub does not know {path}")

    @app.post("/{path:path}")
    async def post(path: str, request: Request) -> JSONResponse:
        if not request.headers.get("api-key"):
            return JSONResponse({"code": 16, "message": "stub: no Api-Key header"}, 401)
        try:
            return JSONResponse(answer(path, await request.json()))
        except RefusedError as refusal:
            return JSONResponse({"code": 3, "message": f"stub: {refusal}"}, 400)

    return app


def _check(stub: PineconeIndexStub, dense: list[float] | None, sparse: Json | None) -> None:
    if len(dense or []) != (stub.dimension or 0):
        raise RefusedError(f"dense vector of {len(dense or [])} values, the index has {stub.dimension}")
    if stub.dimension is None and sparse is None:
        raise RefusedError("a sparse index needs sparse values")
    if sparse is not None and (not sparse["indices"] or len(sparse["indices"]) != len(sparse["values"])):
        raise RefusedError("sparse values must not be empty, and have one value an index")


def _matches(stub: PineconeIndexStub, namespace: dict[str, Json], body: Json) -> list[Json]:
    dense, sparse = body.get("vector"), body.get("sparseVector")
    _check(stub, dense, sparse)
    wanted = dict(zip(sparse["indices"], sparse["values"], strict=True)) if sparse else {}
    scored = []
    for record in namespace.values():
        held = record.get("sparseValues") or {"indices": [], "values": []}
        shared = [value * wanted[at] for at, value in zip(held["indices"], held["values"], strict=True) if at in wanted]
        if _meets(record, body.get("filter") or {}) and (shared or dense):  # a sparse index finds shared terms only
            products = [a * b for a, b in zip(dense or [], record.get("values") or [], strict=True)]
            scored.append((sum(shared) + sum(products), record))
    scored.sort(key=lambda pair: (-pair[0], pair[1]["id"]))
    shown = {"id"}
    if body.get("includeValues"):
        shown |= {"values", "sparseValues"}
    if body.get("includeMetadata"):
        shown |= {"metadata"}
    return [
        {"score": score, **{name: value for name, value in record.items() if name in shown}}
        for score, record in scored[: body["topK"]]
    ]


def _meets(record: Json, condition: Json) -> bool:
    metadata = record.get("metadata") or {}
    for name, wanted in condition.items():
        if name in ("$and", "$or"):
            parts = [_meets(record, part) for part in wanted]
            met = all(parts) if name == "$and" else any(parts)
        else:
            tests = wanted if isinstance(wanted, dict) else {"$eq": wanted}
            met = all(COMPARISONS[test](metadata.get(name), value) for test, value in tests.items())
        if not met:
            return False
    return True
