"""Nothing is forgotten: names, statuses, versions."""

import re
from http import HTTPStatus
from pathlib import Path
from pkgutil import iter_modules

import sparse_embed
from sparse_embed import APIStatusError, ServerError, SparseEmbedError
from sparse_embed.errors import STATUS_ERRORS, error_for_status

ROOT = Path(__file__).parents[1]
DOCUMENTED = {400, 401, 402, 403, 404, 409, 412, 413, 422, 429, 500, 501, 502, 503, 504}


def test_all_lists_the_public_names_sorted() -> None:
    assert sparse_embed.__all__ == sorted(sparse_embed.__all__)
    public = {name for name in vars(sparse_embed) if not name.startswith("_")}
    modules = {module.name for module in iter_modules(sparse_embed.__path__)}
    assert public - modules == set(sparse_embed.__all__)


def test_every_error_class_is_public() -> None:
    def tree(error: type[SparseEmbedError]) -> set[type[SparseEmbedError]]:
        return {error}.union(*(tree(sub) for sub in error.__subclasses__()))

    assert {error.__name__ for error in tree(SparseEmbedError)} <= set(sparse_embed.__all__)


def test_every_documented_status_has_its_class_and_every_other_one_a_fallback() -> None:
    assert set(STATUS_ERRORS) == DOCUMENTED
    for status in HTTPStatus:
        if status >= 300:
            assert issubclass(error_for_status(status), APIStatusError)
    assert error_for_status(599) is ServerError
    assert error_for_status(302) is APIStatusError


def test_the_changelog_knows_the_packages_version() -> None:
    newest = re.search(r"^## \[(\d+\.\d+\.\d+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest
    assert newest.group(1) == sparse_embed.__version__
