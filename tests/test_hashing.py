"""The hashing engine has the shape of a dense model and claims nothing more."""

import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparse_embed.server.engines.hashing import Hashing

ENGINE = Hashing()


def similarity(one, other):
    first, second = ENGINE.embed([one, other], "document").vectors
    return sum(a * b for a, b in zip(first, second, strict=True))


@given(st.text(), st.integers(1, 50))
def test_every_vector_has_length_one_and_the_dimension_asked_for(text, dimension):
    [vector] = ENGINE.embed([text], "document", dimension=dimension).vectors
    assert len(vector) == dimension
    assert math.hypot(*vector) == pytest.approx(1)


def test_shared_spelling_brings_texts_together_and_shared_meaning_does_not():
    assert similarity("car", "carpet") > 0.25
    assert abs(similarity("car", "automobile")) < 0.25
    assert similarity("Quick brown foxes!", "quick BROWN foxes") == pytest.approx(1)


def test_role_makes_no_difference():
    assert ENGINE.embed(["some words"], "query") == ENGINE.embed(["some words"], "document")


def test_another_process_makes_the_same_vector():
    code = "from sparse_embed.server.engines.hashing import Hashing; print(Hashing().embed(['some words'], 'query'))"
    for seed in ("1", "2"):
        run = subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(filter(None, sys.path))},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert run.stdout.strip() == repr(ENGINE.embed(["some words"], "query"))


def test_words_are_counted():
    assert ENGINE.embed(["two words", "", "one"], "document").num_tokens == 3


def test_a_full_memory_changes_no_vector(monkeypatch):
    monkeypatch.setattr("sparse_embed.server.engines.hashing.REMEMBERED_WORDS", 2)
    small = Hashing()
    text = f"one two three four one {'x' * 41}"
    assert small.embed([text], "document") == ENGINE.embed([text], "document")
    assert len(small._ngrams) <= 2
