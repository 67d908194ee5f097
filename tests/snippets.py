"""The snippets of the README and of docs/, as the tests run them."""

import re
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, Final

import pytest

ROOT: Final = Path(__file__).parents[1]
PAGES: Final = [ROOT / "README.md", *sorted((ROOT / "docs").glob("[!_]*.md"))]
PAGES += sorted((ROOT / "docs/upstream").glob("*.md"))


def snippets(language: str) -> list[Any]:
    """What is between ```` ```language ```` and its end, compiled, with what it says that it prints.

    That is in a comment after `print(...)`, or in the block ```` ```text printed ```` below.
    """
    found = []
    for page in PAGES:
        text = page.read_text()
        below = r"(?:\n\n```text printed\n(.*?)^```)?"
        for block in re.finditer(rf"^```{language}\n(.*?)^```{below}", text, re.MULTILINE | re.DOTALL):
            line = text.count("\n", 0, block.start(1))
            source = after_change(block.group(1)) if language == "diff" else block.group(1)
            code = compile("\n" * line + source, str(page), "exec")  # tracebacks name the page's line
            printed = re.findall(r"print\(.*\)  # (.*)$", source, re.MULTILINE)
            printed += (block.group(2) or "").splitlines()
            found.append(pytest.param(code, printed, id=f"{page.name}:{line + 1}"))
    return found


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
