"""The index answers as a scan of all documents would, whatever was added, replaced, deleted and loaded before."""

import math
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from numpy.typing import NDArray
from qdrant_client import QdrantClient, models

import sparse_embed.index
from sparse_embed import ConfigurationError, SparseVector
from sparse_embed.index import Hit, InvertedIndex

# Quarters add up without rounding in any order, so scores and ties can be compared exactly.
quarters = st.integers(-12, 12).filter(bool).map(lambda n: n / 4)
terms = st.one_of(st.integers(0, 8), st.sampled_from([2**31, 2**32 - 1]))
vectors = st.dictionaries(terms, quarters, max_size=6).map(lambda p: SparseVector.from_pairs(list(p), list(p.values())))
keys = st.sampled_from([f"d{n}" for n in range(12)])
colours = st.sampled_from(["red", "blue"])
Documents = dict[str, tuple[SparseVector, dict[str, Any]]]  # in the order of addition


def scan(documents: Documents, query: SparseVector, accepts: Callable[[Mapping[str, Any]], bool]) -> list[Hit]:
    hits = [
        Hit(key, query.dot(vector), fields)
        for key, (vector, fields) in documents.items()
        if accepts(fields) and set(vector.indices) & set(query.indices)
    ]
    return sorted(hits, key=lambda hit: -hit.score)


@pytest.fixture
def index() -> InvertedIndex:
    index = InvertedIndex()
    index.add(
        ["a", "b", "c"],
        [SparseVector([1, 2], [1.0, 1.0]), SparseVector([2], [3.0]), SparseVector([9], [1.0])],
        [{"lang": "en"}, {"lang": "de"}, {"lang": "en"}],
    )
    return index


class Sequences(RuleBasedStateMachine):
    """Any sequence of calls, against a plain dict that is scanned."""

    def __init__(self) -> None:
        super().__init__()
        self.index = InvertedIndex()
        self.documents: Documents = {}

    @rule(new=st.lists(st.tuples(keys, vectors, colours), max_size=5))
    def add(self, new: list[tuple[str, SparseVector, str]]) -> None:
        fields = [{"colour": colour} for _, _, colour in new]
        self.index.add([key for key, _, _ in new], [vector for _, vector, _ in new], fields)
        for (key, vector, _), described in zip(new, fields, strict=True):
            self.documents.pop(key, None)
            self.documents[key] = vector, described

    @rule(gone=st.lists(keys, max_size=8))
    def delete(self, gone: list[str]) -> None:
        assert self.index.delete(gone) == len(set(gone) & self.documents.keys())
        for key in gone:
            self.documents.pop(key, None)

    @rule(query=vectors, k=st.integers(1, 15))
    def search(self, query: SparseVector, k: int) -> None:
        assert self.index.search(query, k) == scan(self.documents, query, lambda _: True)[:k]

    @rule(query=vectors, k=st.integers(1, 15), colour=colours)
    def search_filtered(self, query: SparseVector, k: int, colour: str) -> None:
        expected = scan(self.documents, query, lambda fields: fields["colour"] == colour)[:k]
        assert self.index.search(query, k, filter={"colour": colour}) == expected
        assert self.index.search(query, k, filter=lambda fields: fields["colour"] == colour) == expected

    @rule()
    def save_and_load(self) -> None:
        with TemporaryDirectory() as folder:
            self.index.save(Path(folder, "index"))
            self.index = InvertedIndex.load(Path(folder, "index"))

    @invariant()
    def holds_the_same_documents(self) -> None:
        assert len(self.index) == len(self.documents)
        assert [key for key in map("d{}".format, range(12)) if key in self.index] == sorted(
            self.documents, key=lambda key: int(key[1:])
        )


TestSequences = Sequences.TestCase
TestSequences.settings = settings(max_examples=40, stateful_step_count=30)


@settings(max_examples=20)
@given(st.data())
def test_runs_that_are_merged_while_adding_answer_the_same(data: st.DataObject) -> None:
    """The same promise with the unsorted part so small that every addition meets the merging of runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sparse_embed.index, "SORT_AT", 3)
        index, documents = InvertedIndex(), Documents()
        for number, vector in enumerate(data.draw(st.lists(vectors, min_size=20, max_size=60))):
            index.add([str(number)], [vector])
            documents[str(number)] = vector, {}
        query = data.draw(vectors)
        assert index.search(query, 5) == scan(documents, query, lambda _: True)[:5]


def test_scores_are_those_of_dot_for_weights_of_any_float32() -> None:
    @given(st.lists(st.dictionaries(terms, st.floats(-1e6, 1e6, width=32).filter(bool), max_size=6), max_size=8))
    def check(entries: list[dict[int, float]]) -> None:
        documents = [SparseVector.from_pairs(list(pairs), list(pairs.values())) for pairs in entries]
        index = InvertedIndex()
        index.add(map(str, range(len(documents))), documents)
        for query in documents:
            for hit in index.search(query, 100):
                document = documents[int(hit.id)]
                size = math.fsum(abs(value * value) for value in (*query.values, *document.values))
                assert hit.score == pytest.approx(query.dot(document), rel=1e-12, abs=1e-12 * size)

    check()


@given(documents=st.lists(vectors, max_size=8), changes=st.lists(st.tuples(st.integers(0, 7), vectors), max_size=4))
@settings(max_examples=30)
def test_idf_weighs_as_qdrant_does(documents: list[SparseVector], changes: list[tuple[int, SparseVector]]) -> None:
    client = QdrantClient(":memory:")
    idf = models.SparseVectorParams(modifier=models.Modifier.IDF)
    client.create_collection("c", vectors_config={}, sparse_vectors_config={"s": idf})
    index = InvertedIndex(idf=True)
    for number, vector in [*enumerate(documents), *changes]:
        index.add([str(number)], [vector])
        stored = models.SparseVector(indices=vector.indices, values=vector.values)
        client.upsert("c", [models.PointStruct(id=number, vector={"s": stored})])
    for query in documents:
        sought = models.SparseVector(indices=query.indices, values=query.values)
        expected = {str(point.id): point.score for point in client.query_points("c", sought, using="s").points}
        assert {hit.id: hit.score for hit in index.search(query)} == pytest.approx(expected, rel=1e-5, abs=1e-4)
    client.close()


@pytest.mark.parametrize("idf", [False, True])
@settings(max_examples=50)
@given(entries=st.lists(vectors, max_size=20), query=vectors, gone=st.sets(st.integers(0, 19)))
def test_terms_are_those_shared_and_add_up_to_the_score(
    idf: bool, entries: list[SparseVector], query: SparseVector, gone: set[int]
) -> None:
    index = InvertedIndex(idf=idf)
    for number, vector in enumerate(entries):
        index.add([str(number)], [vector])
    index.delete(map(str, gone))
    named = SparseVector(query.indices, query.values, [f"t{index}" for index in query.indices])
    for hit in index.search(named, 20, terms=True):
        assert hit.terms is not None
        assert hit.terms.indices == tuple(sorted(set(query.indices) & set(entries[int(hit.id)].indices)))
        assert hit.terms.tokens == tuple(f"t{index}" for index in hit.terms.indices)
        assert math.fsum(hit.terms.values) == pytest.approx(hit.score)
    assert all(hit.terms is None for hit in index.search(named, 20))


def test_a_replaced_document_counts_as_added_last(index: InvertedIndex) -> None:
    index.add(["d"], [SparseVector([9], [1.0])])
    assert [hit.id for hit in index.search(SparseVector([9], [2.0]))] == ["c", "d"]
    index.add(["c"], [SparseVector([9], [1.0])])
    assert [hit.id for hit in index.search(SparseVector([9], [2.0]))] == ["d", "c"]
    assert index.search(SparseVector([9], [2.0]))[1].metadata == {}


def test_nothing_in_common_is_not_found_and_negative_scores_are(index: InvertedIndex) -> None:
    assert index.search(SparseVector([7], [1.0])) == index.search(SparseVector([], [])) == []
    assert InvertedIndex().search(SparseVector([1], [1.0])) == []
    assert index.search(SparseVector([2], [-1.0])) == [Hit("a", -1.0, {"lang": "en"}), Hit("b", -3.0, {"lang": "de"})]
    cancelled = SparseVector([1, 2], [1.0, -1.0])
    assert index.search(cancelled)[0] == Hit("a", 0.0, {"lang": "en"}), "a shared term is a hit, whatever its sum"


def test_a_filter_that_few_pass_still_gives_k(index: InvertedIndex) -> None:
    index.add([f"x{n}" for n in range(50)], [SparseVector([2], [9.0])] * 50, [{"lang": "fr"}] * 50)
    assert [hit.id for hit in index.search(SparseVector([2], [1.0]), 1, filter={"lang": "en"})] == ["a"]
    assert index.search(SparseVector([2], [1.0]), 1, filter={"lang": "en", "year": 2026}) == []


def test_a_filter_compares_a_field_whose_name_begins_like_an_operator(index: InvertedIndex) -> None:
    index.add(["schema"], [SparseVector([5], [1.0])], [{"$id": "x", "nested": {"year": 1}}])
    for fields in ({"$id": "x"}, {"nested": {"year": 1}}):
        assert [hit.id for hit in index.search(SparseVector([5], [1.0]), filter=fields)] == ["schema"]


def test_what_the_caller_changes_afterwards_does_not_change_the_index() -> None:
    index, fields, values = InvertedIndex(), {"lang": "en"}, [1.0]
    index.add(["a"], [SparseVector([1], values)], [fields])
    fields["lang"], values[0] = "de", 5.0
    assert index.search(SparseVector([1], [1.0])) == [Hit("a", 1.0, {"lang": "en"})]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda index: index.add("ab", [SparseVector([1], [1.0])] * 2), r"for one id pass \[id\]"),
        (lambda index: index.add([1], [SparseVector([1], [1.0])]), "id 0 is int, not str"),
        (lambda index: index.add(["x"], []), "1 ids but 0 vectors"),
        (lambda index: index.add(["x"], [SparseVector([1], [1.0])], []), "1 ids but 1 vectors, and metadata of 0"),
        (lambda index: index.add(["x"], [{1: 1.0}]), "vector 0 is dict, not SparseVector"),
        (lambda index: index.add(["x"], [SparseVector([1], [1.0])], [{1: "one"}]), "metadata 0 is not a mapping"),
        (lambda index: index.add(["x"], [SparseVector([1], [1.0])], [None]), "metadata 0 is not a mapping"),
        (
            lambda index: index.add(["x", "y"], [SparseVector([1], [1.0]), SparseVector([1], [1e39])]),
            "vector 1 has a weight that does not fit float32",
        ),
        (lambda index: index.delete("a"), r"for one id pass \[id\]"),
        (lambda index: index.search("cats"), "query is str, not SparseVector: embed it first"),
        (lambda index: index.search(SparseVector([1], [1.0]), 0), "k must be a whole number of at least 1, not 0"),
        (lambda index: index.search(SparseVector([1], [1.0]), True), "k must be a whole number"),
        (lambda index: index.search(SparseVector([1], [1.0]), filter="lang"), r"filter must be a function .* not str"),
        (lambda index: index.search(SparseVector([1], [1.0]), filter={"n": {"$gt": 0}}), r"has the operator '\$gt'"),
        (lambda index: index.search(SparseVector([1], [1.0]), filter={"$or": []}), r"has the operator '\$or'"),
    ],
)
def test_bad_input_is_refused_and_changes_nothing(
    index: InvertedIndex, call: Callable[[Any], object], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        call(index)
    assert len(index) == 3
    assert [hit.id for hit in index.search(SparseVector([1, 2, 9], [1.0, 1.0, 1.0]))] == ["b", "a", "c"]


def test_loading_keeps_idf_and_metadata(tmp_path: Path) -> None:
    index = InvertedIndex(idf=True)
    fields = {"nested": {"list": [1, None, "ü\ud800"]}}
    index.add(["ü", "b"], [SparseVector([3], [1.0]), SparseVector([], [])], [fields, {}])
    index.save(tmp_path / "index")
    loaded = InvertedIndex.load(str(tmp_path / "index"))
    expected = [Hit("ü", math.log1p(1.5 / 1.5), fields)]
    assert loaded.search(SparseVector([3], [1.0])) == index.search(SparseVector([3], [1.0])) == expected
    assert "b" in loaded


def test_saving_replaces_the_file_as_a_whole_or_leaves_it(index: InvertedIndex, tmp_path: Path) -> None:
    path = tmp_path / "index"
    index.save(path)
    before = path.read_bytes()
    index.add(["d"], [SparseVector([1], [1.0])], [{"when": object()}])
    with pytest.raises(ConfigurationError, match="metadata of 'd' cannot be saved"):
        index.save(path)
    assert path.read_bytes() == before
    index.delete(["d"])
    index.save(path)
    assert len(InvertedIndex.load(path)) == 3
    assert list(tmp_path.iterdir()) == [path], "nothing unfinished is left"


def test_a_damaged_file_is_refused_at_every_byte(index: InvertedIndex, tmp_path: Path) -> None:
    path = tmp_path / "index"
    index.save(path)
    whole = path.read_bytes()
    query = SparseVector([1, 2, 9], [1.0, 1.0, 1.0])
    expected = index.search(query)
    for at in range(0, len(whole), 3):
        for damaged in (whole[:at], whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :]):
            path.write_bytes(damaged)
            try:
                assert InvertedIndex.load(path).search(query) == expected, "a byte without meaning, as a time stamp"
            except ConfigurationError as error:
                assert str(path) in error.message
    path.write_bytes(b"")
    with pytest.raises(ConfigurationError, match="is damaged, or not an index"):
        InvertedIndex.load(path)
    with pytest.raises(FileNotFoundError):
        InvertedIndex.load(tmp_path / "none")


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("rows", np.array([0, 0, 1, 9], np.uint32)),
        ("rows", np.array([0, 1, 0, 2], np.uint32)),
        ("rows", np.array([0, 0, 1, 2], np.int64)),
        ("starts", np.array([0, 1, 3, 5])),
        ("starts", np.array([0, 1, 1, 4])),
        ("starts", np.array([], np.int64)),
        ("terms", np.array([1, 1, 9], np.uint32)),
        ("weights", np.array([1.0, 1.0, 3.0, np.nan], np.float32)),
        ("weights", np.array([[1.0, 1.0, 3.0, 1.0]], np.float32)),
        ("weights", np.array([None], object)),
        ("metadata", np.frombuffer(b"[{}, {}]", np.uint8)),
        ("metadata", np.frombuffer(b"[{}, {}, null]", np.uint8)),
        ("about", np.frombuffer(b'{"form": 1, "idf": false, "ids": ["a", "a", "c"]}', np.uint8)),
        ("about", np.frombuffer(b'{"form": 2, "idf": false, "ids": ["a", "b", "c"]}', np.uint8)),
    ],
)
def test_a_well_formed_file_that_is_no_index_is_refused(
    index: InvertedIndex, tmp_path: Path, name: str, array: NDArray[Any]
) -> None:
    path = tmp_path / "index"
    index.save(path)
    with path.open("rb") as file:
        arrays = dict(np.load(file))
    with path.open("wb") as file:
        np.savez(file, **(arrays | {name: array}))
    with pytest.raises(ConfigurationError, match="is damaged, or not an index"):
        InvertedIndex.load(path)


def test_searches_beside_additions_and_deletions_see_each_call_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sparse_embed.index, "SORT_AT", 40)  # many merges
    index, pair, rounds = InvertedIndex(), SparseVector([1], [1.0]), 300
    done = threading.Event()
    wrong: list[object] = []

    def write() -> None:
        for n in range(rounds):
            index.add([f"{n}a", f"{n}b"], [pair, pair], [{"n": n}] * 2)
            if n >= 5:
                index.delete([f"{n - 5}a", f"{n - 5}b"])
        done.set()

    def read() -> None:
        while not done.is_set():
            found = [hit.id for hit in index.search(pair, 100)]
            pairs = [(left[:-1], right[:-1]) for left, right in zip(found[::2], found[1::2], strict=True)]
            if not all(left == right for left, right in pairs) or len(pairs) > 6:
                wrong.append(found)

    threads = [threading.Thread(target=call) for call in (write, read, read)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert [hit.id for hit in index.search(pair)] == [f"{n}{side}" for n in range(rounds - 5, rounds) for side in "ab"]


def test_without_numpy_the_extra_is_named() -> None:
    code = "import sys; sys.modules['numpy'] = None; import sparse_embed.index"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert "ImportError: numpy is not installed: pip install 'sparse-embed[retrievers]'" in done.stderr
