"""The local BM25 gives the vectors that chromadb's own function gives, only faster."""

import pydoc_data.topics
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
from chromadb.utils.embedding_functions import ChromaBm25EmbeddingFunction
from chromadb.utils.embedding_functions.schemas.bm25_tokenizer import DEFAULT_CHROMA_BM25_STOPWORDS
from hypothesis import given
from hypothesis import strategies as st

from sparse_embed.server.engines import bm25 as module
from sparse_embed.server.engines.bm25 import Bm25, term_id
from sparse_embed.server.engines.languages import split_words
from sparse_embed.server.engines.stopwords import ENGLISH

WORDS = " ".join(pydoc_data.topics.topics.values()).split()
PASSAGES = [" ".join(WORDS[at : at + 60]) for at in range(0, len(WORDS), 60)]

THEIRS = ChromaBm25EmbeddingFunction(include_tokens=True)
OURS = Bm25()

# Where tokenizers differ: stopwords, apostrophes, other scripts, letters that change length in lower case.
words = st.one_of(
    st.sampled_from(
        [*sorted(ENGLISH), "running", "İstanbul", "ẞtraße", "naïve", "x" * 40, "y" * 41, "_", "½", "٣", "東京"]
    ),
    st.text(max_size=8),
)
texts = st.one_of(st.text(), st.lists(words, max_size=30).map(" ".join))


def chromadb_vectors(documents):
    return [(vector.indices, vector.values, vector.labels or []) for vector in THEIRS(documents)]


def our_vectors(documents):
    return [tuple(vector) for vector in OURS.embed(documents, "document").vectors]


def test_the_golden_ids_and_weights_hold():
    assert [term_id(stem) for stem in ("quick", "brown", "fox", "jump")] == [
        771291085,
        741580288,
        1621867415,
        1913189942,
    ]
    text = "The quick brown foxes jumped over the lazy dogs, don't they? It's the dog's."
    [vector] = OURS.embed([text], "document").vectors
    assert vector.indices == [226376294, 741580288, 771291085, 1312749093, 1621867415, 1913189942]
    assert vector.values == pytest.approx([1.892791 if i == 1312749093 else 1.660867 for i in vector.indices], abs=1e-6)
    assert vector.tokens == ["lazi", "brown", "quick", "dog", "fox", "jump"]


def test_stopwords_are_the_179_of_chromadb():
    assert len(ENGLISH) == 179
    assert frozenset(DEFAULT_CHROMA_BM25_STOPWORDS) == ENGLISH


def test_real_passages_get_exactly_the_vectors_of_chromadb():
    assert len(PASSAGES) > 1000
    assert our_vectors(PASSAGES) == chromadb_vectors(PASSAGES)


@given(texts)
def test_any_text_gets_exactly_the_vector_of_chromadb(text):
    assert our_vectors([text]) == chromadb_vectors([text])


@given(texts)
def test_every_vector_is_ascending_and_finite_with_a_token_for_each_weight(text):
    for role in ("document", "query"):
        [vector] = OURS.embed([text], role).vectors
        assert all(lower < upper for lower, upper in pairwise(vector.indices))
        assert all(0 < value < 2.2 for value in vector.values)
        assert len(vector.indices) == len(vector.values) == len(vector.tokens)


@given(texts)
def test_a_query_weighs_each_distinct_stem_of_the_document_once(text):
    [document], [query] = OURS.embed([text], "document").vectors, OURS.embed([text], "query").vectors
    assert query.indices == document.indices
    assert query.tokens == document.tokens
    assert query.values == [1.0] * len(query.indices)


def test_stems_that_share_an_id_become_one_entry(monkeypatch):
    monkeypatch.setattr(module, "term_id", lambda stem: 7 if stem in {"cat", "dog"} else 9)
    [document] = Bm25().embed(["dog cat dog bird"], "document").vectors
    [apart] = Bm25().embed(["fish fish fish bird"], "document").vectors
    assert document.indices == [7, 9]
    assert document.tokens == ["dog", "bird"]
    assert sorted(document.values) == sorted(OURS.embed(["cat cat cat bird"], "document").vectors[0].values)
    assert apart.indices == [9]
    assert Bm25().embed(["dog cat bird"], "query").vectors[0].values == [1.0, 1.0]


def test_a_text_without_words_gives_an_empty_vector():
    for role in ("document", "query"):
        assert OURS.embed(["", "the of and", "!?", " \t\n"], role).vectors == [([], [], [])] * 4


def test_words_are_counted_with_their_stopwords():
    assert OURS.embed(["The dog's bone.", ""], "document").num_tokens == 4
    assert split_words("The dog's bone.") == ["the", "dog", "s", "bone"]


def test_a_full_memory_changes_no_vector(monkeypatch):
    monkeypatch.setattr(module, "REMEMBERED_WORDS", 3)
    small = Bm25()
    assert small.embed(PASSAGES[:50], "document") == OURS.embed(PASSAGES[:50], "document")
    assert len(small._stems) <= 3
    assert len(small._ids) <= 3


def test_words_too_long_to_count_are_not_remembered():
    engine = Bm25()
    engine.embed(["z" * 41, "z" * 40], "document")
    assert list(engine._stems) == ["z" * 40]


def test_threads_sharing_an_engine_get_the_same_vectors(monkeypatch):
    monkeypatch.setattr(module, "REMEMBERED_WORDS", 50)  # emptied again and again under their feet
    engine = Bm25()
    parts = [PASSAGES[at : at + 40] for at in range(0, 320, 40)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda part: engine.embed(part, "document"), parts))
    assert answers == [OURS.embed(part, "document") for part in parts]
