"""These tests have an environment of their own, `make engines`: Spark needs Java, and both are large.

There SPARSE_EMBED_ENGINES is set, and a missing package is an error; without it nothing here is collected.
"""

import os

import pytest

collect_ignore_glob = [] if "SPARSE_EMBED_ENGINES" in os.environ else ["test_*.py"]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("filterwarnings", "ignore::DeprecationWarning")  # of the engines, about themselves
    config.addinivalue_line("filterwarnings", "ignore::FutureWarning")
    config.addinivalue_line("filterwarnings", "ignore::ResourceWarning")
