"""The snippets of the README and of docs/, as the tests run them."""

import re
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

ROOT: Final = Path(__file__).parents[1]
PAGES: Final = [ROOT / "README.md", *sorted((ROOT / "docs").glob("[!_]*.md"))]
UPSTREAM: Final = sorted((ROOT / "docs/upstream").glob("*.md*"))


class Snippet(NamedTuple):
    """A block of code, and what it says that it prints: in a comment after `print(...)`, or in the block below it.

    The block below is ```` ```text printed ````.
    """

    line: int
    source: str
    printed: list[str]


def snippets(language: str) -> list[Any]:
    """What the pages have between ```` ```language ```` and its end; a page for upstream is one program."""
    found = []
    for page in [*PAGES, *UPSTREAM]:
        blocks = list(read(page.read_text(), language))
        if page in UPSTREAM and blocks:
            blocks = [join(blocks)]
        for line, source, printed in blocks:
            code = compile("\n" * line + source, str(page), "exec")  # tracebacks name the page's line
            found.append(pytest.param(code, printed, id=f"{page.name}:{line + 1}"))
    return found


def read(text: str, language: str) -> Iterator[Snippet]:
    """The blocks of a page in one language."""
    below = r"(?:\n\n```text printed\n(.*?)^```)?"
    for block in re.finditer(rf"^```{language}\n(.*?)^```{below}", text, re.MULTILINE | re.DOTALL):
        source = after_change(block.group(1)) if language == "diff" else block.group(1)
        printed = re.findall(r"print\(.*\)  # (.*)$", source, re.MULTILINE)
        yield Snippet(text.count("\n", 0, block.start(1)), source, printed + (block.group(2) or "").splitlines())


def join(blocks: list[Snippet]) -> Snippet:
    """Several blocks as one, each line where it was."""
    first, source = blocks[0].line, ""
    for block in blocks:
        source += "\n" * (block.line - first - source.count("\n")) + block.source
    return Snippet(first, source, [line for block in blocks for line in block.printed])


def after_change(diff: str) -> str:
    """What a diff leaves, each line where it was."""
    return "\n".join("" if line.startswith("-") else line[1:] for line in diff.split("\n"))


def run(code: object, provider: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run one in a folder, with the local provider in the place of both official ones; returns what it printed."""
    for variable in ("CHROMA_EMBED_URL", "PINECONE_CONTROLLER_HOST"):
        monkeypatch.setenv(variable, provider)
    for variable in ("CHROMA_API_KEY", "PINECONE_API_KEY"):
        monkeypatch.setenv(variable, "local")
    monkeypatch.chdir(folder)
    output = StringIO()
    with redirect_stdout(output):
        exec(code, {"__name__": "snippet"})  # type: ignore[call-overload]
    return output.getvalue()
