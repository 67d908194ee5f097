"""These tests have an environment of their own, `make ray`: Ray starts many processes and brings many packages.

There SPARSE_EMBED_RAY is set, and a missing package is an error; without it nothing here is collected.
"""

import os
from collections.abc import Iterator

import pytest

collect_ignore_glob = [] if "SPARSE_EMBED_RAY" in os.environ else ["test_*.py"]
ENVIRONMENT_KEY = "key-of-the-environment"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "filterwarnings", r"ignore::DeprecationWarning:ray\..*"
    )  # Ray 2.60 sets its own old options
    config.addinivalue_line("filterwarnings", r"ignore::ResourceWarning")  # and leaves files and sockets open


@pytest.fixture(scope="session", autouse=True)
def cluster() -> Iterator[None]:
    """A Ray of this machine alone; its workers inherit the environment in which it starts."""
    settings = {"PINECONE_API_KEY": ENVIRONMENT_KEY, "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        import ray
        from ray.data import DataContext

        ray.init(
            num_cpus=2,
            include_dashboard=False,
            object_store_memory=256 * 2**20,
            log_to_driver=False,
            _node_ip_address="127.0.0.1",
        )
        DataContext.get_current().enable_progress_bars = False
        yield
        ray.shutdown()
