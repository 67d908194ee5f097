"""One encoder lives through loops, threads, forks, pickles and closings, and leaves nothing behind."""

import asyncio
import copy
import gc
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import warnings
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from contextvars import ContextVar
from pathlib import Path

import cloudpickle
import httpx
import pytest

from sparse_embed import ConfigurationError, NotFoundError, SparseEncoder
from sparse_embed.testing import fake_clients, no_wait
from tests.faultserver import GOOD, PATIENCE, Action, FaultServer, Gate, first, sparse_of, stall, status
from tests.ways import KEY, asynchronous, both_ways, each_wire, meeting, right, sync, workers_end

TEXTS = [f"text {number}" for number in range(12)]


@both_ways
def test_one_encoder_serves_one_call_after_another(use):
    with meeting(first(), batch_size=3) as (server, encoder):
        for number in range(3):  # asynchronous: a new event loop each time
            texts = [f"{number} {text}" for text in TEXTS]
            assert use(encoder, "embed_documents", texts) == right(encoder, texts)
        if use is asynchronous:
            server.until(lambda: server.connections == 0)  # each loop closed its own as it ended


def test_loops_in_several_threads_share_an_encoder_with_threads():
    gate = Gate()
    with meeting(lambda _: Action(gate=gate)) as (server, encoder), ThreadPoolExecutor() as pool:
        ways = [asynchronous, sync, asynchronous]
        calls = [pool.submit(use, encoder, "embed_query", f"query {at}") for at, use in enumerate(ways)]
        server.until(lambda: server.in_flight == 3)
        gate.open()
        assert [call.result() for call in calls] == right(encoder, ["query 0", "query 1", "query 2"])


async def test_a_sync_call_works_inside_a_running_loop():
    with meeting(first(), batch_size=3) as (_, encoder):
        assert encoder.embed_documents(TEXTS) == right(encoder, TEXTS)
        assert list(encoder.stream_documents(TEXTS)) == right(encoder, TEXTS)
        assert await encoder.aembed_documents(TEXTS) == right(encoder, TEXTS)
        await encoder.aclose()


@both_ways
def test_closing_twice_is_fine_and_a_closed_encoder_opens_again(use):
    with meeting(first()) as (server, encoder):
        for _ in range(2):
            assert use(encoder, "embed_query", "again") == sparse_of("again")
            encoder.close()
            encoder.close()
            server.until(lambda: server.connections == 0)


async def test_aclose_waits_until_the_connections_of_its_loop_are_closed():
    with FaultServer() as server:
        async with SparseEncoder("chroma", api_key=KEY, base_url=server.url) as encoder:
            for _ in range(2):
                assert await encoder.aembed_query("again") == sparse_of("again")
                await encoder.aclose()
                await encoder.aclose()
                await server.auntil(lambda: server.connections == 0)


@both_ways
def test_closing_disturbs_no_request_of_another_thread(use):
    gates = [Gate(), Gate()]
    with (
        meeting(lambda seen: Action(gate=gates[seen.number > 4]), batch_size=3, max_retries=0) as (server, encoder),
        ThreadPoolExecutor() as pool,
    ):
        before = pool.submit(use, encoder, "embed_documents", TEXTS)
        server.until(lambda: server.in_flight == 4)
        encoder.close()
        after = pool.submit(use, encoder, "embed_query", "on a new connection")
        server.until(lambda: server.in_flight == 5)
        gates[0].open()
        assert before.result() == right(encoder, TEXTS)
        server.until(lambda: server.connections == 1)  # as the last of its requests ended
        gates[1].open()
        assert after.result() == sparse_of("on a new connection")
        assert len(server.requests) == 5


def test_what_a_failed_call_left_behind_is_closed_as_it_ends():
    gate = Gate()

    def refused_once_all_are_there(seen):
        return Action(404, gate=all_there) if seen.number == 1 else Action(gate=gate)

    all_there = Gate()
    with meeting(refused_once_all_are_there, batch_size=3) as (server, encoder), ThreadPoolExecutor() as pool:
        call = pool.submit(encoder.embed_documents, TEXTS)
        server.until(lambda: server.in_flight == 4)
        all_there.open()
        assert isinstance(call.exception(), NotFoundError)
        encoder.close()
        del encoder
        gate.open()
        server.until(lambda: server.connections == 0)
        workers_end()


def test_context_variables_reach_the_threads_that_send():
    request = ContextVar("request", default="none")
    seen = set()

    class Tracing:
        def acquire(self, *, blocking=True):
            seen.add(request.get())
            return blocking

    with meeting(first(), batch_size=1, rate_limiter=Tracing()) as (_, encoder):
        token = request.set("of this caller")
        encoder.embed_documents(TEXTS)
        request.reset(token)
    assert seen == {"of this caller"}


COPIES = {
    "pickle": lambda encoder: pickle.loads(pickle.dumps(encoder)),
    "cloudpickle": lambda encoder: cloudpickle.loads(cloudpickle.dumps(encoder)),
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
}


@both_ways
@each_wire
@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_a_copy_works_on_its_own_and_carries_a_key_that_was_given(use, provider, kind, copied):
    with meeting(first(), provider, kind, batch_size=5, default_headers={"x-team": "search"}) as (server, encoder):
        encoder.embed_query("warm")
        with copied(encoder) as other:
            assert use(other, "embed_documents", TEXTS) == right(other, TEXTS)
            assert other.usage.texts == 12
        assert encoder.usage.texts == 1
        sent = server.requests[-1].headers
        assert KEY in (sent.get("x-chroma-token"), sent.get("api-key"))
        assert sent["x-team"] == "search"


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_a_key_from_the_environment_stays_there_and_is_looked_up_again(monkeypatch, copied):
    monkeypatch.setenv("CHROMA_API_KEY", "first-key")
    with FaultServer() as server, SparseEncoder("chroma", base_url=server.url) as encoder:
        encoder.embed_query("warm")
        assert b"first-key" not in pickle.dumps(encoder) + cloudpickle.dumps(encoder)
        with copied(encoder) as other:
            monkeypatch.setenv("CHROMA_API_KEY", "second-key")
            other.embed_query("cold")
            monkeypatch.delenv("CHROMA_API_KEY")
            with pytest.raises(ConfigurationError, match="CHROMA_API_KEY"):
                other.embed_query("locked out")
        assert [seen.headers["x-chroma-token"] for seen in server.requests] == ["first-key", "second-key"]


def test_a_spawned_process_gets_an_encoder_that_works():
    with (
        meeting(first()) as (server, encoder),
        ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool,
    ):
        encoder.embed_query("warm")
        assert pool.submit(encoder.embed_documents, TEXTS).result() == right(encoder, TEXTS)
        assert {seen.headers["api-key"] for seen in server.requests} == {KEY}


def test_an_encoder_with_its_own_client_says_why_it_is_not_pickled():
    encoder = SparseEncoder("chroma", api_key=KEY, **fake_clients())
    with pytest.raises(ConfigurationError, match="http_client"):
        pickle.dumps(encoder)
    assert copy.deepcopy(encoder).embed_query("one two").values == (1.0, 1.0)


@both_ways
def test_a_callers_client_that_is_closed_is_named(use):
    client, async_client = httpx.Client(), httpx.AsyncClient()
    client.close()
    asyncio.run(async_client.aclose())
    with (
        meeting(first(), http_client=client, http_async_client=async_client) as (_, encoder),
        pytest.raises(ConfigurationError, match=r"client cannot be used: .* closed"),
    ):
        use(encoder, "embed_query", "text")


@both_ways
@pytest.mark.parametrize("error", [NotImplementedError("no such route"), RecursionError(), RuntimeError("in a hook")])
def test_what_a_callers_client_raises_while_it_is_open_is_raised_as_it_is(use, error):
    def answer(request):
        raise error

    transport = httpx.MockTransport(answer)
    clients = {"http_client": httpx.Client(transport=transport)}
    clients["http_async_client"] = httpx.AsyncClient(transport=transport)
    with SparseEncoder("chroma", api_key=KEY, **clients) as encoder, pytest.raises(type(error)) as caught:
        use(encoder, "embed_query", "text")
    assert caught.value is error


def test_a_callers_client_that_is_closed_in_mid_call_costs_no_vector():
    client, closed = httpx.Client(), Gate()

    def close(done, total):
        if done >= 6:
            client.close()
            closed.open()

    def script(seen):  # or all could be answered before the caller hears of the first
        return GOOD if seen.number <= 2 else Action(gate=closed)

    texts = [f"text {number}" for number in range(300)]
    settings = {"batch_size": 3, "max_concurrency": 1, "http_client": client, "on_progress": close}
    with meeting(script, **settings) as (_, encoder), no_wait():
        with pytest.raises(ConfigurationError, match="http_client cannot be used") as caught:
            encoder.embed_documents(texts)
        received = caught.value.partial
        assert len(received) >= 6
        assert received == {at: sparse_of(texts[at]) for at in received}


def test_an_async_client_of_another_loop_is_named():
    with meeting(first(), http_async_client=httpx.AsyncClient()) as (_, encoder):
        asynchronous(encoder, "embed_query", "first loop")
        with pytest.raises(ConfigurationError, match=r"http_async_client cannot be used: .* belongs to one event loop"):
            asynchronous(encoder, "embed_query", "second loop")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # of the first loop's socket, which nobody closed
        del encoder
        gc.collect()


def script(body, server, **kwargs):
    """Start a Python of its own, with every warning an error, that has `url` and the names that the tests use."""
    head = f"""
import asyncio, contextlib, gc, os, sys, threading
from itertools import count
from sparse_embed import SparseEncoder
from tests.faultserver import sparse_of
url = {server.url!r}
texts = [f"text {{number}}" for number in range(12)]
def new(**settings):
    return SparseEncoder("chroma", api_key="key", base_url=url, **{{"timeout": 1000, "batch_size": 3}} | settings)
"""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-X", "dev", "-c", head + body],
        cwd=Path(__file__).parent.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **kwargs,
    )


DROPPED = {
    "sync": """
encoder = new()
assert encoder.embed_documents(texts) == list(map(sparse_of, texts))
del encoder
""",
    "sync, at exit": """
encoder = new()
assert encoder.embed_documents(texts) == list(map(sparse_of, texts))
""",
    "sync stream left early": """
encoder = new()
for vector in encoder.stream_documents(f"text {n}" for n in count()):
    break
del encoder
""",
    "with the coroutine": """
async def main():
    encoder = new()
    assert await encoder.aembed_documents(texts) == list(map(sparse_of, texts))
asyncio.run(main())
""",
    "after the loop": """
encoder = new()
for _ in range(3):
    assert asyncio.run(encoder.aembed_documents(texts)) == list(map(sparse_of, texts))
del encoder
""",
    "async, at exit": """
encoder = new()
asyncio.run(encoder.aembed_query("x"))
""",
    "async stream left early": """
async def main():
    encoder = new()
    async for vector in encoder.astream_documents(f"text {n}" for n in count()):
        break
asyncio.run(main())
""",
    "from another thread": """
encoder = new()
async def main():
    global encoder
    await encoder.aembed_documents(texts)
    def drop():
        global encoder
        del encoder
    await asyncio.to_thread(drop)
asyncio.run(main())
""",
}


@pytest.mark.parametrize("body", DROPPED.values(), ids=DROPPED)
def test_an_encoder_that_nobody_closes_is_dropped_without_a_warning(body):
    with FaultServer() as server:
        process = script(body + "\ngc.collect()", server)
        out, err = process.communicate(timeout=3 * PATIENCE)
        assert process.returncode == 0, err
        assert "Warning" not in out + err
        assert "ignored" not in out + err
        assert "never" not in out + err


@pytest.mark.parametrize("fails", [False, True])
async def test_an_encoder_dropped_in_a_running_loop_closes_its_connections(fails):
    with FaultServer(lambda seen: status(404) if fails else GOOD) as server:
        encoder = SparseEncoder("chroma", api_key=KEY, base_url=server.url, batch_size=3)
        with suppress(NotFoundError):
            await encoder.aembed_documents(TEXTS)
        del encoder
        gc.collect()  # after an error, its traceback and the frames in it hold the encoder and one another
        await server.auntil(lambda: server.connections == 0)


INTERRUPTED = {
    "query": (1, "new().embed_query('x')"),
    "one batch": (1, "new().embed_documents(texts[:3])"),
    "many batches": (4, "new().embed_documents(texts)"),
    "stream": (4, "list(new().stream_documents(iter(texts)))"),
    "async query": (1, "asyncio.run(new().aembed_query('x'))"),
    "async many batches": (4, "asyncio.run(new().aembed_documents(texts))"),
    "in line": (1, "new(max_concurrency=1).embed_documents(texts)"),
}


@pytest.mark.parametrize(("in_flight", "body"), INTERRUPTED.values(), ids=INTERRUPTED)
def test_ctrl_c_ends_a_stalled_call_and_the_interpreter(in_flight, body):
    with FaultServer(lambda _: stall()) as server:
        process = script(body, server)
        server.until(lambda: server.in_flight == in_flight)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE)  # the reads themselves would last 1000 s
        assert "KeyboardInterrupt" in err
        assert process.returncode == -signal.SIGINT
        assert "Warning" not in err
        assert "ignored" not in err


FORKED = {
    "sync": """
encoder = new(max_concurrency=4)
def check(who):
    for turn in range(10):
        mine = [f"{who} {turn} {text}" for text in texts]
        assert encoder.embed_documents(mine) == list(map(sparse_of, mine))
check("before")
children = []
for child in range(4):
    pid = os.fork()
    if not pid:
        check(child)
        os._exit(0)
    children.append(pid)
check("parent")
assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 4
check("after")
""",
    "async": """
encoder = new(max_concurrency=4)
async def check(who):
    for turn in range(10):
        mine = [f"{who} {turn} {text}" for text in texts]
        assert await encoder.aembed_documents(mine) == list(map(sparse_of, mine))
async def main():
    await check("before")
    children = []
    for child in range(4):
        pid = os.fork()
        if not pid:
            asyncio.run(check(child))
            os._exit(0)
        children.append(pid)
    await check("parent")
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 4
    await check("after")
asyncio.run(main())
""",
    "while threads send": """
import time
encoder = new(max_concurrency=4)
def check(who, turns=10):
    for turn in range(turns):
        mine = [f"{who} {turn} {text}" for text in texts]
        assert encoder.embed_documents(mine) == list(map(sparse_of, mine))
check("before")
busy = [threading.Thread(target=check, args=(f"thread {n}", 40)) for n in range(4)]
for thread in busy:
    thread.start()
children = []
for child in range(8):
    pid = os.fork()
    if not pid:
        check(f"child {child}")
        os._exit(0)
    children.append(pid)
    time.sleep(0.01)
for thread in busy:
    thread.join()
assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 8
check("after")
""",
}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("body", FORKED.values(), ids=FORKED)
def test_a_fork_with_warm_connections_mixes_up_no_answers(body):
    with FaultServer() as server:
        process = script(f"import warnings; warnings.simplefilter('ignore', DeprecationWarning)\n{body}", server)
        _, err = process.communicate(timeout=3 * PATIENCE)
        assert process.returncode == 0, err
        assert "Traceback" not in err
