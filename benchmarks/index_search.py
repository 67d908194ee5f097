"""InvertedIndex against a hand-written numpy scan of postings and against Qdrant's local mode, in one run.

Prints medians of rounds in which the contenders take turns. Corpora: terms drawn uniformly, and by a Zipf law as words
are. All must find the same documents. Run: python -m benchmarks.index_search [--documents 100000] [--skip-qdrant]
"""

import argparse
import statistics
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
TERMS, QUERY_TERMS, K = 100, 25, 10
ROUNDS, QUERIES = 7, 20


def corpus(count: int, terms: int, shares: Any, seed: int) -> list[SparseVector]:
    """Vectors of exactly `terms` distinct terms."""
    rng = np.random.default_rng(seed)
    cumulated = np.cumsum(shares)
    vectors = []
    for _ in range(count):
        drawn = dict.fromkeys(np.searchsorted(cumulated, rng.random(4 * terms) * cumulated[-1]).tolist())
        while len(drawn) < terms:
            drawn |= dict.fromkeys(np.searchsorted(cumulated, rng.random(terms) * cumulated[-1]).tolist())
        indices = sorted(list(drawn)[:terms])
        vectors.append(SparseVector(indices, (rng.random(terms, np.float32) + 0.01).tolist()))
    return vectors


def handwritten(documents: list[SparseVector]) -> Callable[[SparseVector], list[str]]:
    """The shortest fast scan: the query's postings in a row, summed by document, the greatest taken."""
    lists: defaultdict[int, tuple[list[int], list[float]]] = defaultdict(lambda: ([], []))
    for row, document in enumerate(documents):
        for index, value in zip(document.indices, document.values, strict=True):
            lists[index][0].append(row)
            lists[index][1].append(value)
    postings = {index: (np.array(rows), np.array(values)) for index, (rows, values) in lists.items()}

    def search(query: SparseVector) -> list[str]:
        found = [
            (postings[i][0], postings[i][1] * v)
            for i, v in zip(query.indices, query.values, strict=True)
            if i in postings
        ]
        rows, products = zip(*found, strict=True)
        scores = np.bincount(np.concatenate(rows), np.concatenate(products), minlength=len(documents))
        best = np.argpartition(scores, -K)[-K:]
        return [str(row) for row in best[np.argsort(-scores[best])]]

    return search


def ours(documents: list[SparseVector]) -> Callable[[SparseVector], list[str]]:
    start = time.perf_counter()
    index = InvertedIndex()
    for at in range(0, len(documents), 1000):
        part = documents[at : at + 1000]
        index.add([str(row) for row in range(at, at + len(part))], part)
    index.search(documents[0])
    together = time.perf_counter() - start
    start = time.perf_counter()
    one_by_one = InvertedIndex()
    for row, document in enumerate(documents):
        one_by_one.add([str(row)], [document])
    one_by_one.search(documents[0])
    each = time.perf_counter() - start
    print(f"  InvertedIndex: {together:.1f} s to add by thousands, {each:.1f} s to add one by one")
    return lambda query: [hit.id for hit in index.search(query, K)]


def qdrant(documents: list[SparseVector]) -> Callable[[SparseVector], list[str]]:
    warnings.simplefilter("ignore")  # it advises against local mode beyond 20,000 points
    client = QdrantClient(":memory:")
    client.create_collection("c", vectors_config={}, sparse_vectors_config={"s": models.SparseVectorParams()})
    start = time.perf_counter()
    for at in range(0, len(documents), 1000):
        part = enumerate(documents[at : at + 1000], at)
        vectors = ((row, models.SparseVector(indices=d.indices, values=d.values)) for row, d in part)
        client.upsert("c", [models.PointStruct(id=row, vector={"s": vector}) for row, vector in vectors])
    print(f"  Qdrant local mode: {time.perf_counter() - start:.1f} s to add by thousands")

    def search(query: SparseVector) -> list[str]:
        sought = models.SparseVector(indices=query.indices, values=query.values)
        return [str(point.id) for point in client.query_points("c", sought, using="s", limit=K).points]

    return search


def milliseconds(search: Callable[[SparseVector], list[str]], queries: list[SparseVector]) -> float:
    start = time.perf_counter()
    for query in queries:
        search(query)
    return (time.perf_counter() - start) * 1e3 / len(queries)


def compare(name: str, shares: Any, count: int, with_qdrant: bool) -> None:
    print(f"{name}: {count:,} documents of {TERMS} terms, queries of {QUERY_TERMS}, exact top {K}")
    documents = corpus(count, TERMS, shares, seed=1)
    queries = corpus(QUERIES, QUERY_TERMS, shares, seed=2)
    contenders = {"InvertedIndex": (ours(documents), queries), "hand-written scan": (handwritten(documents), queries)}
    if with_qdrant:
        contenders["Qdrant local mode"] = (qdrant(documents), queries[:1])  # seconds a query
    first = {contender: search(queries[0]) for contender, (search, _) in contenders.items()}
    assert len({tuple(found) for found in first.values()}) == 1, first
    times: dict[str, list[float]] = {contender: [] for contender in contenders}
    for _ in range(ROUNDS):
        for contender, (search, asked) in contenders.items():
            search(asked[-1])  # unmeasured: the turn before emptied the processor's caches
            times[contender].append(milliseconds(search, asked))
    medians = {contender: statistics.median(taken) for contender, taken in times.items()}
    for contender, median in medians.items():
        spread = f"{min(times[contender]):.3f} to {max(times[contender]):.3f}"
        print(
            f"  {contender:18} {median:10.3f} ms a query ({spread}), {median / medians['InvertedIndex']:.2f} times ours"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--skip-qdrant", action="store_true")
    options = parser.parse_args()
    compare("Uniform", np.ones(VOCABULARY), options.documents, not options.skip_qdrant)
    compare("Zipf", 1 / (np.arange(VOCABULARY) + 10.0), options.documents, not options.skip_qdrant)


if __name__ == "__main__":
    main()
