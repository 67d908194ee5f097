"""These tests have an environment of their own, `make milvus`: the extra `milvus` needs an older setuptools.

There SPARSE_EMBED_MILVUS is set, and a missing package is an error; without it nothing here is collected.
"""

import os

import pytest

collect_ignore_glob = [] if "SPARSE_EMBED_MILVUS" in os.environ else ["test_*.py"]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("filterwarnings", "ignore:pkg_resources is deprecated:UserWarning")  # milvus-lite 2.5.1
