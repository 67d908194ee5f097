"""A quota that the user knows is met without a refusal, and used."""

import asyncio
import pickle
from functools import partial
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulation.limits import FixedWindow, TokenBucket
from simulation.quotas import simulate, texts_of
from sparse_embed.quota import Quota


def one(tokens):
    return 1


def same(tokens):
    return tokens


def tokens_of(text, per_byte=0.25):
    return 2 + round(per_byte * len(text))


@settings(max_examples=60)
@given(
    requests_per_minute=st.none() | st.integers(10, 3000),
    tokens_per_minute=st.none() | st.integers(20_000, 3_000_000),
    longest=st.integers(10, 2000),
    batch_size=st.integers(1, 20),
    per_byte=st.floats(0.1, 1.0),
    latency=st.floats(0.001, 3.0),
    encoders=st.integers(1, 3),
    concurrency=st.integers(1, 16),
    seed=st.integers(0, 1000),
)
def test_no_minute_exceeds_the_quota(
    requests_per_minute, tokens_per_minute, longest, batch_size, per_byte, latency, encoders, concurrency, seed
):
    if requests_per_minute is None and tokens_per_minute is None:
        return
    rng = random.Random(seed)
    run = simulate(
        Quota(requests_per_minute=requests_per_minute, tokens_per_minute=tokens_per_minute),
        texts_of(range(10, longest + 1), batch_size, 300, seed),
        partial(tokens_of, per_byte=per_byte),
        encoders=encoders,
        concurrency=concurrency,
        latency=lambda: latency * rng.uniform(0.5, 1.5),
    )
    assert run.busiest_minute(one) <= (requests_per_minute or 10**9)
    assert run.busiest_minute(same) <= (tokens_per_minute or 10**9)
