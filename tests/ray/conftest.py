"""These tests have an environment of their own, `make ray`: Ray starts many processes and brings many packages.

There SPARSE_EMBED_RAY is set, and a missing package is an error; without it nothing here is collected.
"""

import os
from collections.abc import Iterator

import pytest

from sparse_embed.server import local_provider

collect_ignore_glob = [] if "SPARSE_EMBED_RAY" in os.environ else ["test_*.py"]
ENVIRONMENT_KEY = "key-of-the-environment"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "filterwarnings", r"ignore::DeprecationWarning:ray\..*"
    )  # Ray 2.60 sets its own old options
    config.addinivalue_line("filterwarnings", r"ignore::ResourceWarning")  # and leaves files and sockets open


@pytest.fixture(scope="session", autouse=True)
def provider() -> Iterator[str]:
    """A Ray of this machine alone; its workers inherit the environment in which it starts, with this provider in it."""
    with pytest.MonkeyPatch.context() as monkeypatch, local_provider(stand_in=True) as url:
        monkeypatch.setenv("PINECONE_API_KEY", ENVIRONMENT_KEY)
        monkeypatch.setenv("PINECONE_CONTROLLER_HOST", url)
        monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        import ray
        from ray.data import DataContext

        ray.init(
            num_cpus=2,
            include_dashboard=False,
            object_store_memory=256 * 2**20,
            log_to_driver=False,
            _node_ip_address="127.0.0.2",  # Ray 2.60 replaces 127.0.0.1 by this machine's address in the network
        )
        DataContext.get_current().enable_progress_bars = False
        yield url
        ray.shutdown()
