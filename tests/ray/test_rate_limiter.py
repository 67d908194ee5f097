"""`RayRateLimiter` gives one rate limit to all actors of a cluster."""

import asyncio
import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import ray

from sparse_embed import ConfigurationError, SparseEncoder
from sparse_embed.ray import EmbedBatch, RayRateLimiter, map_options
from sparse_embed.ray.limiter import NAMESPACE
from tests.faultserver import FaultServer


async def test_threads_and_tasks_take_turns() -> None:
    limiter = RayRateLimiter(0.001, name="turns")
    with ThreadPoolExecutor(4) as pool:
        threads = [asyncio.wrap_future(pool.submit(limiter.acquire, blocking=False)) for _ in range(10)]
        turns = await asyncio.gather(*threads, *(limiter.aacquire(blocking=False) for _ in range(10)))
    assert sorted(turns) == [False] * 19 + [True]


def test_all_processes_share_the_turns_of_a_name() -> None:
    limiter, other = (RayRateLimiter(0.001, name=name) for name in ("shared", "other"))

    @ray.remote(num_cpus=0.1)
    def takes(limiter: RayRateLimiter) -> bool:
        return limiter.acquire(blocking=False)

    assert sorted(ray.get([takes.remote(limiter) for _ in range(4)])) == [False, False, False, True]
    assert other.acquire(blocking=False)


def test_a_datasets_requests_take_turns() -> None:
    limiter = RayRateLimiter(0.001, name="dataset")
    with FaultServer() as server:
        where = {"provider": "pinecone", "base_url": server.url, "rate_limiter": limiter}
        ray.data.from_items([{"text": "fox"}]).map_batches(EmbedBatch, **map_options(where)).materialize()
        assert len(server.requests) == 1
    assert not limiter.acquire(blocking=False)


def test_it_goes_on_when_its_actor_dies() -> None:
    limiter = RayRateLimiter(1000, name="dies")
    with FaultServer() as server, SparseEncoder("pinecone", base_url=server.url, rate_limiter=limiter) as encoder:
        encoder.embed_query("before")
        ray.kill(ray.get_actor("dies", namespace=NAMESPACE))
        encoder.embed_query("after")
        asyncio.run(encoder.aembed_query("after that"))
        assert len(server.requests) == 3


def test_a_pickle_is_its_settings() -> None:
    limiter = RayRateLimiter(20, name="pickled")
    assert repr(pickle.loads(pickle.dumps(limiter))) == repr(limiter) == "RayRateLimiter(20, name='pickled')"


@pytest.mark.parametrize(
    ("rate", "name", "said"),
    [
        (0, "x", "requests_per_second must be positive, not 0"),
        (float("nan"), "x", "must be positive, not nan"),
        (True, "x", "requests_per_second must be of type int or float, not bool"),
        ("20", "x", "requests_per_second must be of type int or float, not str"),
        (20, "", "name must not be empty"),
        (20, None, "name must be of type str, not NoneType"),
    ],
)
def test_settings_that_cannot_work_are_refused(rate: Any, name: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        RayRateLimiter(rate, name=name)


def test_without_ray_it_does_not_start_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(ConfigurationError, match=r"call ray\.init\(\) first"):
        RayRateLimiter(20).acquire()
