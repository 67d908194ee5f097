"""The snippets of docs/ for Milvus run as they stand, against the local provider and Milvus Lite."""

from pathlib import Path

import pytest

from sparse_embed.server import local_provider
from tests.snippets import run, snippets


# Milvus Lite 2.5 knows the older form of rankers alone, of which langchain-milvus 0.3.3 warns.
@pytest.mark.filterwarnings("ignore:The 'ranker_type' and 'ranker_params' parameters are deprecated:DeprecationWarning")
@pytest.mark.parametrize(("code", "printed"), snippets("python milvus"))
def test_the_snippet_runs_and_prints_what_it_says_each_time(
    code: object, printed: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with local_provider(stand_in=True) as provider:
        for _ in ("first run", "second run"):
            output = run(code, provider, tmp_path, monkeypatch)
            assert set(printed) <= set(output.splitlines())
