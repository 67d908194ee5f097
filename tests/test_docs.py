"""Every snippet of the README and of docs/ runs as it stands, against the local provider."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from sparse_embed.server import local_provider

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def _snippets() -> Iterator[object]:
    for page in PAGES:
        text = page.read_text()
        for block in re.finditer(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            line = text.count("\n", 0, block.start(1))
            code = compile("\n" * line + block.group(1), str(page), "exec")  # tracebacks name the page's line
            yield pytest.param(code, id=f"{page.name}:{line + 1}")


@pytest.fixture(scope="module")
def provider() -> Iterator[str]:
    with local_provider(stand_in=True) as url:
        yield url


@pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant:UserWarning")  # true, and no matter
@pytest.mark.parametrize("snippet", list(_snippets()))
def test_the_snippet_runs(snippet: object, provider: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in ("CHROMA_EMBED_URL", "PINECONE_CONTROLLER_HOST"):
        monkeypatch.setenv(variable, provider)
    for variable in ("CHROMA_API_KEY", "PINECONE_API_KEY"):
        monkeypatch.setenv(variable, "local")
    monkeypatch.chdir(tmp_path)
    exec(snippet, {"__name__": "snippet"})  # type: ignore[call-overload]


def test_every_link_of_the_readme_leads_to_a_file() -> None:
    for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", (ROOT / "README.md").read_text()):
        assert (ROOT / link).exists(), link
