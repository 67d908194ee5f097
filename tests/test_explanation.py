"""An explanation adds up to the score, and is shown without trusting what it shows."""

import doctest
import html
import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

import sparse_embed.explanation
from sparse_embed import ConfigurationError, SparseVector
from sparse_embed.explanation import Contribution, Explanation, explain

weights = st.floats(-1e3, 1e3, width=32).filter(bool)
vectors = st.dictionaries(st.integers(0, 30), weights, max_size=30).map(
    lambda pairs: SparseVector.from_pairs(list(pairs), list(pairs.values()))
)


View = Callable[[Explanation], str]


def terminal_of(explanation: Explanation) -> str:
    console = Console(width=100)
    with console.capture() as capture:
        console.print(explanation)
    return capture.get()


def html_of(explanation: Explanation) -> str:
    return html.unescape(re.sub(r"<[^>]*>", " ", explanation._repr_html_()))


every_view = pytest.mark.parametrize("view", [str, terminal_of, html_of])


@given(vectors, vectors)
def test_contributions_add_up_to_the_score_heaviest_first(query: SparseVector, document: SparseVector) -> None:
    explanation = explain(query, document)
    products = [part.product for part in explanation.contributions]
    assert explanation.total == query.dot(document) == pytest.approx(sum(products), rel=1e-9, abs=1e-6)
    assert products == sorted(products, key=abs, reverse=True)
    assert {part.term for part in explanation.contributions} == set(query.indices) & set(document.indices)
    assert all(part.product == part.query * part.document for part in explanation.contributions)


def test_tokens_come_from_whichever_vector_has_them() -> None:
    bare, named = SparseVector([1, 2], [1.0, 2.0]), SparseVector([1, 2], [3.0, 1.0], ["red", "fox"])
    expected = [Contribution("red", 1.0, 3.0, 3.0), Contribution("fox", 2.0, 1.0, 2.0)]
    assert explain(bare, named).contributions == expected
    assert [part.term for part in explain(named, bare).contributions] == ["red", "fox"]
    assert [part.term for part in explain(named, SparseVector([2], [1.0], ["FOX"])).contributions] == ["fox"]
    assert [part.term for part in explain(bare, bare).contributions] == [2, 1]


@every_view
def test_every_view_shows_terms_weights_and_the_score(view: View) -> None:
    shown = view(explain(SparseVector([1, 9], [0.5, -1.0], ["red", "fox"]), SparseVector([1, 9], [4.0, 1.0])))
    assert "score 1.000 from 2 shared terms" in shown
    assert re.search(r"red\W+0\.500\W+4\.000\W+2\.000", shown)
    assert re.search(r"fox\W+-1\.000\W+1\.000\W+-1\.000", shown)


@every_view
def test_every_view_sums_up_what_it_leaves_out(view: View) -> None:
    many = SparseVector(list(range(25)), [2.0] * 20 + [1.0] * 5)
    shown = view(explain(many, many))
    assert re.search(r"5 more\W+5\.000", shown)
    assert "score 85.000 from 25 shared terms" in shown
    assert "score 0.000 from 0 shared terms" in view(explain(many, SparseVector([99], [1.0])))


def test_tokens_are_shown_and_not_obeyed() -> None:
    hostile = SparseVector([1, 2], [1.0, 2.0], ["<script>alert(1)</script>", "[red]x[/red]"])
    explanation = explain(hostile, hostile)
    assert "<script>" not in explanation._repr_html_()
    assert "&lt;script&gt;alert(1)" in explanation._repr_html_()
    assert "[red]x[/red]" in terminal_of(explanation)
    escape = SparseVector([1], [1.0], ["a\x1b[2J\nb"])
    assert r"'a\x1b[2J\nb'" in str(explain(escape, escape))


def test_the_example_in_the_docstring_is_true() -> None:
    assert doctest.testmod(sparse_embed.explanation) == (0, 1)


def test_a_dictionary_of_llama_index_is_refused_with_what_to_do() -> None:
    with pytest.raises(ConfigurationError, match=r"document must be a SparseVector, not dict: .*from_dict"):
        explain(SparseVector([1], [1.0]), {1: 1.0})  # type: ignore[arg-type]
