"""The snippets of docs/ for Ray run as they stand, against the local provider."""

from pathlib import Path

import pytest

from tests.snippets import run, snippets


# Harmless: llama-index-vector-stores-qdrant 0.10 asks for an index that the local mode does not need.
@pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant:UserWarning")
@pytest.mark.parametrize(("code", "printed"), snippets("python ray"))
def test_the_snippet_runs_and_prints_what_it_says(
    code: object, printed: list[str], provider: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    output = run(code, provider, tmp_path, monkeypatch)
    assert set(printed) <= set(output.splitlines())
