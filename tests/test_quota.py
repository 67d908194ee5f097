"""A quota that the user knows is met without a refusal, and is used."""

import asyncio
import copy
import os
import pickle
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_sparse_embed import (
    ChromaCloudEmbeddings,
    ChromaCloudSparseEmbeddings,
    PineconeInferenceEmbeddings,
    PineconeInferenceSparseEmbeddings,
)
from llama_index_sparse_embed import (
    ChromaCloudEmbedding,
    ChromaCloudSparseEmbedding,
    PineconeInferenceEmbedding,
    PineconeInferenceSparseEmbedding,
)
from simulation.limits import FixedWindow, TokenBucket
from simulation.quotas import simulate, texts_of
from sparse_embed import (
    APIConnectionError,
    BadRequestError,
    ConfigurationError,
    DenseEncoder,
    Quota,
    RateLimitError,
    ServerError,
    SparseEncoder,
)
from sparse_embed.events import RequestSent
from sparse_embed.quota import Turn
from sparse_embed.testing import fake_clients, no_wait
from sparse_embed.transport import client
from tests.faultserver import GOOD, PATIENCE, RESET, Action, FaultServer, Gate, first, status
from tests.ways import KEY, both_ways, deaf_port, meeting, right, together, workers_end


def one(tokens):
    return 1


def itself(tokens):
    return tokens


def tokens_of(text, per_byte=0.25):
    return 2 + round(per_byte * len(text))


@settings(max_examples=40)
@given(
    requests_per_minute=st.integers(10, 3000),
    tokens_per_minute=st.integers(20_000, 3_000_000),
    known=st.sampled_from(["requests", "tokens", "both"]),
    longest=st.integers(10, 2000),
    batch_size=st.integers(1, 20),
    per_byte=st.floats(0.1, 1.0),
    latency=st.floats(0.001, 3.0),
    encoders=st.integers(1, 3),
    concurrency=st.integers(1, 16),
    seed=st.integers(0, 1000),
)
def test_no_minute_exceeds_the_quota(  # noqa: PLR0917  # what Hypothesis draws
    requests_per_minute, tokens_per_minute, known, longest, batch_size, per_byte, latency, encoders, concurrency, seed
):
    limits = {"requests_per_minute": requests_per_minute, "tokens_per_minute": tokens_per_minute}
    rng = random.Random(seed)
    run = simulate(
        Quota(**{name: value for name, value in limits.items() if known == "both" or name.startswith(known)}),
        texts_of(range(10, longest + 1), batch_size, 150, seed),
        partial(tokens_of, per_byte=per_byte),
        encoders=encoders,
        concurrency=concurrency,
        latency=lambda: latency * rng.uniform(0.5, 1.5),
    )
    if known != "tokens":
        assert run.busiest_minute(one) <= requests_per_minute
    if known != "requests":
        assert run.busiest_minute(itself) <= tokens_per_minute


@pytest.mark.parametrize(
    ("per_minute", "limit"),
    [
        (1200, TokenBucket(20, 1)),
        (3000, TokenBucket(50, 30)),
        (100, TokenBucket(100 / 60, 10)),
        (100, FixedWindow(100, 60)),
    ],
    ids=["20 a second, burst 1", "50 a second, burst 30", "100 a minute, burst 10", "100 in each minute"],
)
@pytest.mark.parametrize("encoders", [1, 3])
def test_a_quota_of_requests_is_used_without_a_refusal(per_minute, limit, encoders):
    quota = Quota(requests_per_minute=per_minute)
    batches = texts_of(range(10, 500), 1, 2000, seed=0)
    run = simulate(quota, batches, tokens_of, request_limit=copy.copy(limit), encoders=encoders)
    assert run.refused == 0
    assert run.per_minute(one) >= 0.97 * per_minute


@pytest.mark.parametrize(
    ("per_minute", "limit"),
    [
        (250_000, TokenBucket(250_000 / 60, 12_000)),
        (250_000, FixedWindow(250_000, 60)),
        (3_000_000, FixedWindow(3_000_000, 60)),
    ],
    ids=["250,000 a minute, burst 12,000", "250,000 in each minute", "3,000,000 in each minute"],
)
def test_a_quota_of_tokens_is_used_without_a_refusal(per_minute, limit):
    batches = texts_of(range(100, 500), 96, 2000, seed=0)
    run = simulate(Quota(tokens_per_minute=per_minute), batches, tokens_of, token_limit=limit, encoders=2)
    assert run.refused == 0
    assert run.per_minute(itself) >= 0.97 * per_minute


@both_ways
@pytest.mark.parametrize("counted", ["requests", "tokens"])
def test_two_encoders_keep_one_quota_over_a_real_socket(use, counted):
    quota = Quota(requests_per_minute=1200) if counted == "requests" else Quota(tokens_per_minute=2400)
    # Small buckets, but large enough for a machine so busy that requests arrive a second late.
    bucket = TokenBucket(20, 20) if counted == "requests" else TokenBucket(40, 40)
    texts = [f"text {at}" for at in range(40)]

    def script(seen):  # the server reports a token per text
        amount = 1 if counted == "requests" else len(seen.texts)
        return status(429) if bucket.take(seen.time, amount) else GOOD

    with (
        meeting(script, batch_size=2, quota=quota) as (server, sparse),
        DenseEncoder("pinecone", api_key=KEY, base_url=server.url, batch_size=2, quota=quota) as dense,
        ThreadPoolExecutor() as pool,
    ):
        calls = {one: pool.submit(use, one, "embed_documents", texts) for one in (sparse, dense)}
        for encoder, call in calls.items():
            assert call.result(PATIENCE) == right(encoder, texts)
        assert sparse.usage.retries == dense.usage.retries == 0
    assert len(server.requests) == 40, "80 texts in all"


@both_ways
def test_a_call_that_cannot_wait_for_the_quota_fails_at_once_and_sends_nothing(use):
    with meeting(lambda seen: GOOD, quota=Quota(requests_per_minute=1)) as (server, encoder):
        use(encoder, "embed_query", "first")
        with pytest.raises(RateLimitError, match=r"the quota .* allows the next request .* in [56]\d\.\d s") as caught:
            use(encoder, "embed_query", "second")
        assert caught.value.attempts == 0
        assert caught.value.retry_after > 30
        assert len(server.requests) == 1


@both_ways
def test_a_call_that_cannot_wait_for_the_quota_still_takes_the_answer_on_its_way(use):
    answer = Gate()

    def listen(event):  # slowly, between the start of a request and its sending
        if isinstance(event, RequestSent):
            time.sleep(0.05)

    settings = {"batch_size": 1, "deadline": 30, "quota": Quota(requests_per_minute=1), "on_event": listen}
    with (
        meeting(lambda seen: Action(gate=answer), **settings) as (server, encoder),
        ThreadPoolExecutor() as pool,
    ):
        texts = ["first", "second", "third"]
        call = pool.submit(use, encoder, "embed_documents", texts)
        server.until(lambda: server.in_flight == 1)
        with pytest.raises(TimeoutError):
            call.result(0.3)
        answer.open()
        error = call.exception(PATIENCE)
        assert isinstance(error, RateLimitError)
        [[sent]] = server.texts  # by the thread that was first
        assert error.partial == {texts.index(sent): right(encoder, [sent])[0]}
        assert encoder.usage.texts == encoder.usage.requests == len(server.requests) == 1


@both_ways
def test_an_answer_on_its_way_outlives_the_deadline_that_another_answer_restarts(use):
    # Each answer takes 3 s, and requests start every 2 s: the second is awaited from 2 to 5 s.
    settings = {"batch_size": 1, "deadline": 4.0, "quota": Quota(requests_per_minute=30)}
    texts = ["first", "second"]

    def answer_late(seen):
        gate = Gate()
        threading.Timer(3.0, gate.open).start()
        return Action(gate=gate)

    with meeting(answer_late, **settings) as (server, encoder):
        assert use(encoder, "embed_documents", texts) == right(encoder, texts)
        assert len(server.requests) == 2


@both_ways
def test_a_call_that_cannot_go_on_says_what_failed_before(use):
    settings = {"batch_size": 1, "deadline": 5.0, "quota": Quota(requests_per_minute=1)}
    with meeting(lambda seen: status(503), **settings) as (_, encoder), pytest.raises(ServerError):
        use(encoder, "embed_documents", ["first", "second", "third"])


@both_ways
def test_a_refused_request_takes_no_tokens_from_the_quota(use):
    text = "x" * 400  # two thirds of the minute's tokens, as estimated
    with meeting(first(status(400)), quota=Quota(tokens_per_minute=200)) as (_, encoder):
        with pytest.raises(BadRequestError):
            use(encoder, "embed_query", text)
        use(encoder, "embed_query", text)


@both_ways
def test_a_refused_connection_takes_nothing_from_the_quota(use):
    quota = Quota(requests_per_minute=1, tokens_per_minute=1000)
    texts = ["first", "second", "third"]
    with (
        deaf_port() as port,
        SparseEncoder(
            "pinecone", api_key=KEY, base_url=f"http://127.0.0.1:{port}", batch_size=1, quota=quota
        ) as encoder,
        pytest.raises(APIConnectionError, match="nothing listens on"),
    ):
        use(encoder, "embed_documents", texts)
    workers_end()  # another thread of the call may still find out that its connection is refused
    with meeting(lambda seen: GOOD, quota=quota) as (_, encoder):
        use(encoder, "embed_query", "at once")


async def test_a_request_takes_the_place_of_cancelled_ones():
    with meeting(lambda seen: GOOD, quota=Quota(requests_per_minute=60)) as (server, encoder):
        calls = [asyncio.ensure_future(encoder.aembed_query(f"query {at}")) for at in range(20)]
        await server.auntil(lambda: server.requests)
        for call in calls[1:-1]:
            call.cancel()
        await asyncio.wait(calls)
        assert server.requests[1].time - server.requests[0].time < 5, "of 19 s at first"
        await encoder.aclose()


@both_ways
def test_an_error_ends_the_wait_for_the_quota_and_leaves_no_place_in_line(use):
    quota, refuse = Quota(requests_per_minute=60), Gate()
    with meeting(lambda seen: Action(401, gate=refuse), batch_size=1, quota=quota) as (server, encoder):
        with ThreadPoolExecutor() as pool:
            call = pool.submit(use, encoder, "embed_documents", [f"text {at}" for at in range(16)])
            server.until(lambda: server.in_flight)
            refuse.open()
            assert call.exception(PATIENCE).status == 401
        workers_end()
        server.script = lambda seen: GOOD
        assert use(encoder, "embed_query", "next in line") is not None
        assert len(server.requests) <= 3


async def test_a_cancelled_call_leaves_no_place_in_line():
    quota = Quota(requests_per_minute=60)
    with meeting(lambda seen: GOOD, batch_size=1, quota=quota) as (server, encoder):
        call = asyncio.ensure_future(encoder.aembed_documents([f"text {at}" for at in range(16)]))
        await server.auntil(lambda: server.requests)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await encoder.aembed_query("next in line")
        assert len(server.requests) <= 3
        await encoder.aclose()


@both_ways
def test_no_request_counts_before_the_client_is_created(use, monkeypatch):
    # This takes longer than most answers: requests that waited for it would arrive together.
    quota, create, taken = Quota(requests_per_minute=1200), client._new, []

    def created(kind):
        taken.append(quota._limits.requests._taken)
        return create(kind)

    monkeypatch.setattr(client, "_new", created)
    with meeting(lambda seen: GOOD, batch_size=1, quota=quota) as (server, encoder):
        use(encoder, "embed_documents", ["first", "second"])
    assert taken == [0]
    assert len(server.requests) == 2


def test_a_wait_for_the_quota_holds_no_permit():
    slow = Quota(requests_per_minute=30)
    with meeting(lambda seen: GOOD, max_concurrency=1, quota=slow) as (server, encoder):
        encoder.embed_query("first")
        waiting = threading.Thread(target=encoder.embed_query, args=("second",))
        waiting.start()
        while not slow._line and waiting.is_alive():
            time.sleep(0.001)
        permits = encoder._http.permits
        permits.acquire()
        permits.release()
        assert len(server.requests) == 1, "the second was waiting"
        waiting.join(PATIENCE)
        assert len(server.requests) == 2


@both_ways
def test_retries_take_from_the_quota_too(use):
    quota = Quota(requests_per_minute=600)
    with meeting(first(RESET, status(503)), quota=quota) as (server, encoder):
        use(encoder, "embed_query", "text")
        assert quota._limits.requests._taken == len(server.requests) == 3


def test_a_request_of_more_than_a_thirty_second_of_a_minutes_tokens_is_split():
    texts = [f"{at} ".ljust(400, "x") for at in range(16)]  # about 120 tokens each
    with meeting(lambda seen: GOOD, quota=Quota(tokens_per_minute=32 * 500)) as (server, encoder), no_wait():
        assert encoder.embed_documents(texts) == right(encoder, texts)
        assert {len(sent) for sent in server.texts} <= {4, 8, 16}
        assert len(server.texts[0]) == 4


def test_one_text_of_more_than_a_minutes_tokens_is_sent_alone():
    with meeting(lambda seen: GOOD, quota=Quota(tokens_per_minute=10)) as (server, encoder):
        encoder.embed_query("x" * 1000)
        assert len(server.requests) == 1


def test_a_query_waits_for_few_requests_of_an_ingestion():
    quota = Quota(requests_per_minute=300)
    texts = [f"text {at}" for at in range(12)]
    with meeting(lambda seen: GOOD, batch_size=1, quota=quota) as (server, encoder), ThreadPoolExecutor() as pool:
        ingestion = pool.submit(encoder.embed_documents, texts)
        server.until(lambda: server.requests)
        encoder.embed_query("question")
        at = server.texts.index(["question"])
        ingestion.result(PATIENCE)
        assert at <= 4


@both_ways
def test_two_encoders_get_through_on_one_quota_when_the_permits_of_one_are_all_in_use(use):
    def answer(seen):
        if seen.path.endswith("sparse"):
            return GOOD
        gate = Gate()
        threading.Timer(0.2, gate.open).start()
        return Action(gate=gate)

    settings = {"api_key": KEY, "quota": Quota(requests_per_minute=1200)}
    with (
        FaultServer(answer) as server,
        DenseEncoder("chroma", base_url=server.url, max_concurrency=1, **settings) as slow,
        SparseEncoder("chroma", base_url=server.url, **settings) as fast,
    ):
        pair = {"slow": slow, "fast": fast}
        queries = [(encoder, "embed_query", f"{name} {at}") for name, encoder in pair.items() for at in range(12)]
        assert together(use, queries) == [right(encoder, [text])[0] for encoder, _, text in queries]


@both_ways
def test_a_rate_limiter_is_asked_once_per_request_also_with_a_quota(use):
    asked = []

    class Limiter:
        def acquire(self, *, blocking=True):
            asked.append(blocking)
            time.sleep(0.05)  # in the meantime, others are allowed to start, and one is faster
            return True

        async def aacquire(self, *, blocking=True):
            asked.append(blocking)
            await asyncio.sleep(0.05)
            return True

    settings = {"batch_size": 1, "quota": Quota(requests_per_minute=1200), "rate_limiter": Limiter()}
    with meeting(lambda seen: GOOD, **settings) as (server, encoder):
        use(encoder, "embed_documents", [f"text {at}" for at in range(16)])
        assert len(asked) == len(server.requests) == 16


def test_requests_that_come_back_to_the_line_keep_their_order_and_let_others_take_turns():
    quota = Quota(requests_per_minute=60)
    faster, query = Turn(quota, ["text"], "another call"), Turn(quota, ["question"], "a query")
    ingestion = [Turn(quota, ["text"], "an ingestion") for _ in range(6)]
    for turn in [*ingestion, faster]:
        assert turn.wait(0.0).own == 0, "nobody has started"
    assert faster.start(0.0)
    query.wait(0.0)
    for at in (3, 0, 5, 1, 2, 4):
        assert not ingestion[at].start(0.0)
    seconds = [round(turn.wait(0.0).own) for turn in [query, *ingestion]]
    assert seconds == [2, 1, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("copied", [lambda quota: pickle.loads(pickle.dumps(quota)), copy.copy, copy.deepcopy])
def test_a_copy_of_a_quota_has_its_limits_and_starts_anew(copied):
    quota = Quota(requests_per_minute=1, tokens_per_minute=1000)
    with FaultServer() as server:
        settings = {"api_key": KEY, "base_url": server.url}
        with SparseEncoder("pinecone", quota=quota, **settings) as encoder:
            encoder.embed_query("text")
        twin = copied(quota)
        assert repr(twin) == repr(quota) == "Quota(requests_per_minute=1, tokens_per_minute=1000)"
        with SparseEncoder("pinecone", quota=twin, **settings) as encoder:
            encoder.embed_query("text")
            with pytest.raises(RateLimitError, match="quota"):
                encoder.embed_query("text")


def test_encoders_that_are_pickled_together_still_share_a_quota():
    quota = Quota(requests_per_minute=1)
    with FaultServer() as server:
        settings = {"api_key": KEY, "base_url": server.url, "quota": quota}
        pair = SparseEncoder("pinecone", **settings), DenseEncoder("pinecone", **settings)
        with pickle.loads(pickle.dumps(pair))[0] as sparse, pickle.loads(pickle.dumps(pair))[1] as dense:
            sparse.embed_query("text")
            dense.embed_query("text")
        sparse, dense = pickle.loads(pickle.dumps(pair))
        with sparse, dense:
            sparse.embed_query("text")
            with pytest.raises(RateLimitError, match="quota"):
                dense.embed_query("text")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_forked_quota_starts_anew():
    quota, never = Quota(requests_per_minute=1), Gate()
    with (
        meeting(lambda seen: GOOD if seen.number > 1 else Action(gate=never), quota=quota) as (server, encoder),
        ThreadPoolExecutor() as pool,
    ):
        parents = pool.submit(encoder.embed_query, "of the parent")
        server.until(lambda: server.in_flight == 1)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                encoder.embed_query("of the child")
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        never.open()
        parents.result(PATIENCE)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "a Quota needs requests_per_minute, tokens_per_minute or both"),
        ({"requests_per_minute": 0}, "requests_per_minute must be a whole number of at least 1, not 0"),
        ({"tokens_per_minute": "250k"}, "tokens_per_minute must be a whole number of at least 1, not str"),
    ],
)
def test_wrong_quotas_are_refused(given, said):
    with pytest.raises(ConfigurationError, match=said):
        Quota(**given)


def test_a_quota_in_the_wrong_place_is_refused():
    with pytest.raises(ConfigurationError, match="quota must be of type Quota, not int"):
        SparseEncoder("pinecone", quota=100)
    with pytest.raises(ConfigurationError, match="pass a Quota as quota="):
        SparseEncoder("pinecone", rate_limiter=Quota(requests_per_minute=1))


FRAMEWORKS = [
    *(ChromaCloudEmbeddings, ChromaCloudSparseEmbeddings, PineconeInferenceEmbeddings),
    *(PineconeInferenceSparseEmbeddings, ChromaCloudEmbedding, ChromaCloudSparseEmbedding),
    *(PineconeInferenceEmbedding, PineconeInferenceSparseEmbedding),
]


@pytest.mark.parametrize("cls", FRAMEWORKS, ids=lambda cls: cls.__name__)
def test_every_framework_class_and_its_copies_keep_the_quota(cls):
    embedding = cls(api_key="k", quota=Quota(requests_per_minute=1), **fake_clients())
    query = "embed_query" if hasattr(embedding, "embed_query") else "get_query_embedding"
    getattr(embedding, query)("first")
    for same in (embedding, embedding.model_copy(), copy.deepcopy(embedding)):
        with pytest.raises(RateLimitError, match="quota"):
            getattr(same, query)("second")
    assert "quota" not in embedding.model_dump()
    with pytest.raises(ConfigurationError, match="quota"):
        cls(api_key="k", quota=100)


def test_a_configuration_file_holds_a_quota():
    limits = {"requests_per_minute": 2_000}
    encoder = SparseEncoder.from_config({"provider": "chroma", "api_key": "any", "quota": limits, **fake_clients()})
    assert encoder.embed_query("text").nnz
    with pytest.raises(
        ConfigurationError, match="quota has requests_per_minute and tokens_per_minute, not 'per_minute'"
    ):
        SparseEncoder.from_config({"provider": "chroma", "quota": {"per_minute": 1}})
