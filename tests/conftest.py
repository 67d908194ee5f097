"""Settings of all tests, and what takes long to start."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

# No test is about time: a first import, or a busy machine, would miss Hypothesis' limits.
UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("untimed", UNTIMED)
settings.register_profile("quick", UNTIMED, max_examples=20)  # make quick
settings.register_profile("long", UNTIMED, max_examples=2000)  # pytest --hypothesis-profile=long
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """Connection string of a real PostgreSQL."""
    from tests.postgres import running_postgres  # POSIX only

    with running_postgres() as address:
        yield address
