"""Search time of `InvertedIndex`, of a hand-written numpy scan, and of Qdrant's local mode, over the same vectors."""

import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
from qdrant_client import QdrantClient, models

from sparse_embed import SparseVector
from sparse_embed.index import InvertedIndex

VOCABULARY = 30_522
TERMS, QUERY_TERMS, K, QUERIES = 100, 25, 10, 20
WEIGHTS = {"uniform": np.ones(VOCABULARY), "Zipf": 1 / (np.arange(VOCABULARY) + 10.0)}
Search = Callable[[SparseVector], list[str]]


def corpus(count: int, terms: int, weights: Any, seed: int) -> list[SparseVector]:
    """Make vectors of exactly `terms` distinct terms, drawn with these weights."""
    rng = np.random.default_rng(seed)
    cumulative = np.cumsum(weights)
    vectors = []
    for _ in range(count):
        drawn: dict[int, None] = {}
        while len(drawn) < terms:
            drawn |= dict.fromkeys(np.searchsorted(cumulative, rng.random(4 * terms) * cumulative[-1]).tolist())
        indices = sorted(list(drawn)[:terms])
        vectors.append(SparseVector(indices, (rng.random(terms, np.float32) + 0.01).tolist()))
    return vectors


def inverted_index(documents: list[SparseVector]) -> Search:
    index = InvertedIndex()
    index.add(list(map(str, range(len(documents)))), documents)
    return lambda query: [hit.id for hit in index.search(query, K)]


def handwritten_scan(documents: list[SparseVector]) -> Search:
    """The shortest fast scan: concatenate the query's postings, sum them by document, take the largest."""
    lists: defaultdict[int, tuple[list[int], list[float]]] = defaultdict(lambda: ([], []))
    for row, document in enumerate(documents):
        for index, value in zip(document.indices, document.values, strict=True):
            lists[index][0].append(row)
            lists[index][1].append(value)
    postings = {index: (np.array(rows), np.array(values)) for index, (rows, values) in lists.items()}

    def search(query: SparseVector) -> list[str]:
        pairs = zip(query.indices, query.values, strict=True)
        rows, products = zip(*((postings[i][0], postings[i][1] * v) for i, v in pairs if i in postings), strict=True)
        scores = np.bincount(np.concatenate(rows), np.concatenate(products), minlength=len(documents))
        best = np.argpartition(scores, -K)[-K:]
        return [str(row) for row in best[np.argsort(-scores[best])]]

    return search


def qdrant_local(documents: list[SparseVector]) -> Search:
    warnings.simplefilter("ignore")  # it advises against local mode beyond 20,000 points
    client = QdrantClient(":memory:")
    client.create_collection("c", vectors_config={}, sparse_vectors_config={"s": models.SparseVectorParams()})
    vectors = [models.SparseVector(indices=document.indices, values=document.values) for document in documents]
    client.upsert("c", [models.PointStruct(id=row, vector={"s": vector}) for row, vector in enumerate(vectors)])

    def search(query: SparseVector) -> list[str]:
        sought = models.SparseVector(indices=query.indices, values=query.values)
        return [str(point.id) for point in client.query_points("c", sought, using="s", limit=K).points]

    return search


def search(documents: int, terms: str, rounds: int) -> dict[str, list[float]]:
    """Milliseconds per query of each contender in each round. All must find the same documents."""
    vectors = corpus(documents, TERMS, WEIGHTS[terms], seed=1)
    queries = corpus(QUERIES, QUERY_TERMS, WEIGHTS[terms], seed=2)
    contenders = {
        "InvertedIndex": (inverted_index(vectors), queries),
        "hand-written scan": (handwritten_scan(vectors), queries),
        "Qdrant local mode": (qdrant_local(vectors), queries[:1]),  # it takes seconds per query
    }
    results = {name: find(queries[0]) for name, (find, _) in contenders.items()}
    if len(set(map(tuple, results.values()))) > 1:
        raise RuntimeError(f"different documents: {results}")
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, (find, asked) in contenders.items():
            find(asked[-1])  # not measured: it fills the processor's caches, which the contender before has used
            start = time.perf_counter()
            for query in asked:
                find(query)
            times[name].append((time.perf_counter() - start) * 1e3 / len(asked))
    return times
