import pytest

from sparse_embed.server import local_provider


@pytest.fixture(scope="session")
def local():
    """URL of a local provider over a real loopback socket."""
    with local_provider() as url:
        yield url
