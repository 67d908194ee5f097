"""The built site has every public name, every option of the command line, and its form for language models."""

import ast
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import typer.main

from sparse_embed.cli import app

BUILT = Path(__file__).parents[2] / "docs/_build/html"
MODULES = [
    "sparse_embed",
    "sparse_embed.bulk",
    "sparse_embed.ray",
    "sparse_embed.testing",
    "sparse_embed.server",
    "langchain_sparse_embed",
    "langchain_sparse_embed.retrievers",
    "llama_index_sparse_embed",
    "llama_index_sparse_embed.retrievers",
]


@pytest.fixture(scope="module")
def anchors() -> set[str]:
    pages = (page.read_text() for page in (BUILT / "api").glob("*.html"))
    return {anchor for page in pages for anchor in re.findall(r'<dt class="sig[^"]*" id="([^"]+)"', page)}


def public_names(module: str) -> list[str]:
    """``__all__``, read without an import: Ray is not in this environment."""
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    for statement in ast.parse(Path(spec.origin).read_text()).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "__all__":
            names: list[str] = ast.literal_eval(statement.value)
            return names
    raise LookupError(module)


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_is_in_the_reference(module: str, anchors: set[str]) -> None:
    assert {f"{module}.{name}" for name in public_names(module)} <= anchors


def options() -> Iterator[tuple[str, str]]:
    command_line = typer.main.get_command(app)
    for name, command in command_line.commands.items():  # type: ignore[attr-defined]  # a group
        for parameter in command.params:
            yield name, parameter.opts[0]


@pytest.mark.parametrize(("command", "option"), list(options()))
def test_every_option_is_on_the_page_of_the_command_line(command: str, option: str) -> None:
    page = (BUILT / "command-line.md").read_text()
    section = page.partition(f"## `sparse-embed {command}`")[2].partition("\n## ")[0]
    assert f"`{option}" in section


def test_language_models_find_every_page() -> None:
    listed = re.findall(r"\]\((.+?)\)", (BUILT / "llms.txt").read_text())
    pages = {str(page.relative_to(BUILT).with_suffix(".md")) for page in BUILT.rglob("*.html")}
    assert set(listed) == pages - {"genindex.md", "py-modindex.md", "search.md"}
    full = (BUILT / "llms-full.txt").read_text()
    assert all((BUILT / page).read_text() in full for page in listed)
