"""These tests have an environment of their own, `make models`: torch and the weights are 1.4 GB.

There SPARSE_EMBED_MODELS is the folder of the real weights; without it nothing here is collected.
"""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
collect_ignore_glob = [] if "SPARSE_EMBED_MODELS" in os.environ else ["*.py"]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny model; each is made once."""
    from tests.models import tiny

    home, made = tmp_path_factory.mktemp("tiny"), {}

    def make(name: str) -> Path:
        if name not in made:
            made[name] = tiny.MODELS[name](home / name.replace(" ", "-").replace(",", ""))
        return made[name]

    return make


@pytest.fixture(scope="session")
def weights() -> Path:
    """Two real models: the folders "splade" and "minilm"."""
    return Path(os.environ["SPARSE_EMBED_MODELS"]).absolute()
