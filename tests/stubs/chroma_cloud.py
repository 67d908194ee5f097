"""A STUB of Chroma Cloud, on loopback: sparse indexes and `search` exist in no Chroma that can be run.

It keeps what is added and evaluates ranking expressions exactly, as Chroma's documentation describes them
(docs.trychroma.com, "Ranking and Scoring", 2026-11). It shows that the right search travels and its result is read
rightly. It shows nothing about Chroma Cloud itself: not its indexes, limits, wording or pace.
Reached with the real client: ``chromadb.HttpClient(host="127.0.0.1", port=stub.port)``, or ``AsyncHttpClient``.
"""

import math
import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import reduce
from typing import Any
from uuid import uuid4

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from sparse_embed.server.run import serve_in_thread

Json = dict[str, Any]
Scores = dict[str, float]
API = "/api/v2"
DATABASE = API + "/tenants/{tenant}/databases/{database}"
COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "$eq": operator.eq,
    "$ne": operator.ne,
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
    "$in": lambda stored, wanted: stored in wanted,
    "$nin": lambda stored, wanted: stored not in wanted,
}


class ChromaCloudStub:
    """What the stub holds and saw.

    Attributes:
        port: Where it listens on loopback.
        collections: By name, as the client gets them.
        records: By id of the collection and id of the record: ``embedding``, ``metadata`` and ``document``.
        searches: Every search, as it came over the wire.
    """

    def __init__(self) -> None:
        self.port = 0
        self.collections: dict[str, Json] = {}
        self.records: dict[str, dict[str, Json]] = {}
        self.searches: list[Json] = []


@contextmanager
def chroma_cloud_stub() -> Iterator[ChromaCloudStub]:
    """Run a stub of Chroma Cloud."""
    stub = ChromaCloudStub()
    with serve_in_thread(_app(stub)) as url:
        stub.port = int(url.rpartition(":")[2])
        yield stub


def _app(stub: ChromaCloudStub) -> FastAPI:
    app = FastAPI()

    @app.get(API + "/auth/identity")
    def identity() -> Json:
        return {"user_id": "stub", "tenant": "default_tenant", "databases": ["default_database"]}

    @app.get(API + "/pre-flight-checks")
    def checks() -> Json:
        return {"max_batch_size": 1000, "supports_base64_encoding": False}

    @app.get(API + "/tenants/{name}")
    def tenant(name: str) -> Json:
        return {"name": name}

    @app.get(API + "/tenants/{tenant}/databases/{name}")
    def database(tenant: str, name: str) -> Json:
        return {"id": str(uuid4()), "name": name, "tenant": tenant}

    @app.get(DATABASE + "/collections/{name}")
    def collection(name: str) -> JSONResponse:
        if name in stub.collections:
            return JSONResponse(stub.collections[name])
        return JSONResponse({"error": "NotFoundError", "message": f"stub: no collection {name}"}, 404)

    @app.post(DATABASE + "/collections")
    async def create(tenant: str, database: str, request: Request) -> Json:
        body = await request.json()
        new = {
            "id": str(uuid4()),
            "name": body["name"],
            "metadata": body["metadata"],
            "configuration_json": body["configuration"] or {},
            "schema": body["schema"],
            "tenant": tenant,
            "database": database,
        }
        return stub.collections.setdefault(body["name"], new)

    @app.post(DATABASE + "/collections/{collection}/search")
    async def search(collection: str, request: Request) -> Json:
        searches = (await request.json())["searches"]
        stub.searches += searches
        results = [_search(stub.records.get(collection, {}), one) for one in searches]
        names = ("ids", "documents", "metadatas", "scores", "embeddings")
        columns = {name: [result[name] for result in results] for name in names}
        return columns | {"select": [one["select"]["keys"] for one in searches]}

    @app.post(DATABASE + "/collections/{collection}/{change}")  # add, update or upsert
    async def write(collection: str, request: Request) -> bool:
        body = await request.json()
        count = len(body["ids"])
        columns = (body["embeddings"], body["metadatas"] or [None] * count, body["documents"] or [None] * count)
        for record_id, embedding, metadata, document in zip(body["ids"], *columns, strict=True):
            record = {"embedding": embedding, "metadata": metadata or {}, "document": document}
            stub.records.setdefault(collection, {})[record_id] = record
        return True

    return app


def _search(records: dict[str, Json], search: Json) -> Json:
    records = {
        one_id: record for one_id, record in records.items() if _meets(record["metadata"], search["filter"] or {})
    }
    scores = _evaluate(search["rank"], records) if search["rank"] else dict.fromkeys(records, 0.0)
    if search["rank"]:
        ranked = set().union(*(_nearest(knn, records) for knn in _knns(search["rank"])))
        scores = {one_id: score for one_id, score in scores.items() if one_id in ranked}
    start, limit = search["limit"].get("offset", 0), search["limit"].get("limit")
    ids = sorted(scores, key=lambda one_id: (scores[one_id], one_id))[start:][:limit]
    selected = search["select"]["keys"]

    def column(key: str, values: Callable[[str], Any]) -> list[Any] | None:
        return [values(one_id) for one_id in ids] if key in selected else None

    return {
        "ids": ids,
        "documents": column("#document", lambda one_id: records[one_id]["document"]),
        "metadatas": column("#metadata", lambda one_id: records[one_id]["metadata"]),
        "scores": column("#score", scores.__getitem__),
        "embeddings": column("#embedding", lambda one_id: records[one_id]["embedding"]),
    }


def _knns(rank: Any) -> Iterator[Json]:
    """All ``$knn`` in an expression."""
    if isinstance(rank, dict):
        if "$knn" in rank:
            yield rank["$knn"]
        for part in rank.values():
            yield from _knns(part)
    elif isinstance(rank, list):
        for part in rank:
            yield from _knns(part)


def _nearest(knn: Json, records: dict[str, Json]) -> Scores:
    """Distance, or rank, of the records nearest to the query."""
    query, key = knn["query"], knn["key"]
    if key == "#embedding":
        distances = {one_id: math.dist(query, record["embedding"]) ** 2 for one_id, record in records.items()}
    else:
        weights = dict(zip(query["indices"], query["values"], strict=True))
        held = {one_id: record["metadata"][key] for one_id, record in records.items() if key in record["metadata"]}
        products = {
            one_id: [
                weights[at] * value for at, value in zip(one["indices"], one["values"], strict=True) if at in weights
            ]
            for one_id, one in held.items()
        }
        distances = {one_id: 1 - sum(shared) for one_id, shared in products.items() if shared}
    nearest = sorted(distances, key=lambda one_id: (distances[one_id], one_id))[: knn["limit"]]
    return {one_id: float(at) if knn.get("return_rank") else distances[one_id] for at, one_id in enumerate(nearest)}


def _evaluate(rank: Json, records: dict[str, Json]) -> Scores:
    """Scores of the records that have one: with a ``$knn`` without a default, only its nearest have."""
    [(name, given)] = rank.items()
    match name:
        case "$val":
            return dict.fromkeys(records, given)
        case "$knn":
            rest = {} if given.get("default") is None else dict.fromkeys(records, given["default"])
            return rest | _nearest(given, records)
        case "$sum" | "$mul":
            combine = operator.add if name == "$sum" else operator.mul
            return reduce(lambda left, right: _both(combine, left, right), [_evaluate(part, records) for part in given])
        case "$div" | "$sub":
            combine = operator.truediv if name == "$div" else operator.sub
            return _both(combine, _evaluate(given["left"], records), _evaluate(given["right"], records))
    raise NotImplementedError(f"the stub does not know {name}")


def _both(combine: Callable[[float, float], float], left: Scores, right: Scores) -> Scores:
    return {one_id: combine(left[one_id], right[one_id]) for one_id in left if one_id in right}


def _meets(metadata: Json, condition: Json) -> bool:
    for name, wanted in condition.items():
        if name in ("$and", "$or"):
            parts = [_meets(metadata, part) for part in wanted]
            met = all(parts) if name == "$and" else any(parts)
        else:
            met = name in metadata and all(COMPARISONS[test](metadata[name], value) for test, value in wanted.items())
        if not met:
            return False
    return True
