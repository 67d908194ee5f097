"""What the server does around a model with weights: prompts, limits, overload, shutdown, what it tells operators."""

import asyncio
import json
import logging
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest

from sparse_embed import BadRequestError, DenseEncoder, SparseEncoder
from sparse_embed.server import create_app, serve_in_thread
from sparse_embed.server.access import JsonLines
from sparse_embed.server.engines.weights import ModelError
from sparse_embed.server.models import check_offer, find_models
from sparse_embed.server.served import Settings
from tests.toy import Toy, served

KEY = "the-server-key-4711"
SECRET_TEXT = "Zaphod was here"


@contextmanager
def serving(*models, settings=None, **options):
    """A server with models started; gives its client."""
    found = []
    for name, encoder in models:
        found.append(served(name, encoder))
        found[-1].start(encoder, settings or Settings())
    with (
        serve_in_thread(create_app(api_key=KEY, models=found, **options)) as url,
        httpx.Client(base_url=url, timeout=30) as client,
    ):
        yield client


def chroma(client, texts, *, model="toy", path="/embed_sparse", **body):
    headers = {"x-chroma-token": KEY, "x-chroma-embedding-model": model}
    return client.post(path, headers=headers, json={"texts": texts} | (body or {"instructions": ""}))


def pinecone(client, texts, *, model="toy", **parameters):
    body = {"model": model, "inputs": [{"text": text} for text in texts]}
    body["parameters"] = {"input_type": "passage"} | parameters
    return client.post("/embed", headers={"Api-Key": KEY}, json=body)


# --- both wires ---------------------------------------------------------------------------------------------------


def test_a_model_answers_on_both_wires_with_its_own_tokens_and_counts():
    with serving(("toy", Toy())) as client:
        answer = chroma(client, ["a bb a", ""], instructions="", fetch_labels=True)
        assert answer.json() == {
            "embeddings": [
                {"indices": [1, 2], "values": [2.0, 1.0], "labels": ["#", "##"]},
                {"indices": [], "values": [], "labels": []},
            ],
            "num_tokens": 3,
        }
        assert answer.headers["x-sparse-embed-engine"] == "sentence-transformers"
        assert re.fullmatch(r"queue;dur=[\d.]+, compute;dur=[\d.]+", answer.headers["server-timing"])
        answer = pinecone(client, ["a bb a"], return_tokens=True).json()
        assert answer["data"][0]["sparse_tokens"] == ["#", "##"]
        assert answer["usage"] == {"total_tokens": 3}
        assert chroma(client, []).json() == {"embeddings": [], "num_tokens": 0}
        assert chroma(client, ["a"], model="local/bm25").status_code == 200


def test_texts_are_cut_or_refused_as_asked():
    with serving(("toy", Toy(limit=10))) as client:
        assert pinecone(client, ["a " * 20]).json()["usage"] == {"total_tokens": 10}
        assert pinecone(client, ["a " * 20], max_tokens_per_sequence=8).json()["usage"] == {"total_tokens": 8}
        refused = pinecone(client, ["a", "a " * 20], truncate="NONE")
        assert refused.status_code == 400
        message = refused.json()["error"]["message"]
        assert "text 1 has 20 tokens" in message
        assert "reads 10" in message
        assert pinecone(client, ["a"], max_tokens_per_sequence=11).status_code == 400
        described = client.get("/models/toy", headers={"Api-Key": KEY}).json()
        assert described["max_sequence_length"] == 10


def test_a_dimension_is_for_models_that_were_trained_for_it():
    qwen, other = Toy("dense"), Toy("dense")
    qwen.size = 1024
    with serving(("Qwen/Qwen3-Embedding-0.6B", qwen), ("other", other)) as client:
        for dimension in (32, 1024):
            answer = pinecone(client, ["a"], model="Qwen/Qwen3-Embedding-0.6B", dimension=dimension).json()
            assert len(answer["data"][0]["values"]) == dimension
        for wrong in (31, 1025):
            assert pinecone(client, ["a"], model="Qwen/Qwen3-Embedding-0.6B", dimension=wrong).status_code == 400
        refused = pinecone(client, ["a"], model="other", dimension=32)
        assert "unknown 'dimension'" in refused.json()["error"]["message"]


QWEN = "Instruct: find what answers the question\nQuery:"


@pytest.mark.parametrize(
    ("prompts", "body", "tokens"),
    [
        ({}, {"instructions": ""}, 1),
        ({"query": "query: ", "document": "passage: of mine "}, {"instructions": ""}, 4),
        ({"query": "query: ", "document": "passage: of mine "}, {"task": "", "target": "query"}, 2),
        ({"query": "query: ", "document": "passage: of mine "}, {"instructions": "my own words "}, 4),
        ({"query": QWEN}, {"instructions": "three words here"}, 5),  # Instruct: three words here Query:a
        ({"query": QWEN}, {"instructions": "Instruct: one\nQuery:"}, 3),
        ({"query": QWEN}, {"task": "nl_to_code", "target": "query"}, 16),
        ({"query": QWEN}, {"task": "nl_to_code", "target": "documents"}, 1),
        ({"class": "classify this: "}, {"task": "class", "target": "documents"}, 3),
    ],
)
def test_instructions_and_tasks_reach_a_model_as_its_prompt(prompts, body, tokens):
    with serving(("toy", Toy("dense", prompts=prompts))) as client:
        answer = chroma(client, ["a"], path="/embed", **body)
        assert answer.json()["num_tokens"] == tokens


@pytest.mark.parametrize(
    ("prompts", "body", "words"),
    [
        ({}, {"instructions": "find it"}, "not trained with instructions"),
        ({}, {"task": "nl_to_code", "target": "query"}, "no prompt for task 'nl_to_code'; its prompts: none"),
        ({"query": "q: "}, {"task": "nl_to_code", "target": "query"}, "its prompts: query"),
    ],
)
def test_instructions_that_a_model_does_not_know_are_refused(prompts, body, words):
    with serving(("toy", Toy("dense", prompts=prompts))) as client:
        refused = chroma(client, ["a"], path="/embed", **body)
        assert refused.status_code == 400
        assert words in refused.json()["error"]


def test_each_encoder_of_a_pair_takes_its_own_role_only():
    pair = "naver/efficient-splade-VI-BT-large-doc", "naver/efficient-splade-VI-BT-large-query"
    with serving((pair[0], Toy(prompts={"query": "q "})), (pair[1], Toy(prompts={"query": "q "}))) as client:
        for name, tokens in zip(pair, (1, 2), strict=True):  # the role is the model's, whatever is not said
            assert chroma(client, ["a"], model=name).json()["num_tokens"] == tokens
        refused = chroma(client, ["a"], model=pair[0], task="", target="query")
        assert refused.status_code == 400
        assert "document encoder of a pair" in refused.json()["error"]
        assert pinecone(client, ["a"], model=pair[1]).status_code == 400
        ours = SparseEncoder("chroma", model=pair[0], base_url=str(client.base_url), api_key=KEY, task="")
        assert ours.embed_query("a").nnz == 1
        assert ours.embed_documents(["a"])[0].nnz == 1


def test_a_providers_id_takes_a_model_of_its_length_only():
    wrong = served("BAAI/bge-m3", Toy("dense"))
    wrong.start(Toy("dense"), Settings())
    with pytest.raises(ModelError, match="gives 1024 numbers per text, toy 100"):
        check_offer(wrong)


def test_names_are_checked_before_anything_is_loaded(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["BertForMaskedLM"]}))
    for options, words in (
        ([f"local/bm25={tmp_path}"], "the name is taken"),
        ([f"BAAI/bge-m3={tmp_path}"], "gives dense vectors"),
        ([f"one={tmp_path}", f"one={tmp_path}"], "two models have one name"),
        ([f"={tmp_path}"], "has no name"),
        ([f"one={tmp_path / 'nowhere'}"], "there is no folder"),
    ):
        with pytest.raises(ModelError, match=words):
            find_models(options)
    with pytest.raises(ModelError, match="--revision goes with one --model"):
        find_models([f"one={tmp_path}", f"two={tmp_path}"], revision="main")
    with pytest.raises(ModelError, match="is for models of the hub"):
        find_models([f"one={tmp_path}"], revision="main")


# --- overload and shutdown ----------------------------------------------------------------------------------------


def test_a_full_queue_is_429_with_a_time_and_other_models_answer_on():
    toy = Toy()
    with serving(("toy", toy), settings=Settings(max_queue_tokens=10)) as client, ThreadPoolExecutor(3) as pool:
        toy.entered.clear()
        toy.gate.clear()
        running = pool.submit(chroma, client, ["a b"])
        assert toy.entered.wait(10)
        waiting = pool.submit(chroma, client, ["a " * 5] * 2)
        until(lambda: 'sparse_embed_queue_tokens{model="toy"} 10.0' in client.get("/metrics").text)
        refused = chroma(client, ["b", "c"])
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert int(refused.headers["retry-after-ms"]) >= 1
        assert pinecone(client, ["a"] * 2, model="toy").json()["error"]["code"] == "RESOURCE_EXHAUSTED"
        assert chroma(client, ["a"], model="local/bm25").status_code == 200
        toy.gate.set()
        assert running.result().status_code == waiting.result().status_code == 200


def test_our_encoder_gets_every_vector_from_an_overloaded_server():
    toy = Toy()
    texts = [" ".join("x" * (1 + at % 6) for _ in range(5)) for at in range(200)]
    with serving(("toy", toy), settings=Settings(max_queue_tokens=50)) as client:
        encoder = SparseEncoder("chroma", model="toy", base_url=str(client.base_url), api_key=KEY, batch_size=5)
        vectors = encoder.embed_documents(texts)
        assert [list(vector.indices) for vector in vectors] == [[1 + at % 6] for at in range(200)]


def until(happened):
    deadline = time.monotonic() + 10
    while not happened():
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)


async def test_who_hangs_up_leaves_the_queue():
    toy = Toy()
    with serving(("toy", toy)) as client:
        toy.gate.clear()
        async with httpx.AsyncClient(base_url=client.base_url, timeout=30) as impatient:
            toy.entered.clear()
            asks = [asyncio.create_task(achroma(impatient, ["a b"] * 2))]
            await asyncio.to_thread(toy.entered.wait, 10)
            asks += [asyncio.create_task(achroma(impatient, ["a b"] * 2)) for _ in range(2)]
            await asyncio.to_thread(until, lambda: queued(client) == 4)
            asks[2].cancel()
            await asyncio.to_thread(until, lambda: queued(client) == 2)
            toy.gate.set()
            assert [(await ask).status_code for ask in asks[:2]] == [200, 200]


async def achroma(client, texts):
    headers = {"x-chroma-token": KEY, "x-chroma-embedding-model": "toy"}
    return await client.post("/embed_sparse", headers=headers, json={"texts": texts, "instructions": ""})


def queued(client):
    return float(re.search(r'^sparse_embed_queue_size\{model="toy"\} (\S+)', client.get("/metrics").text, re.M)[1])


def test_a_models_bug_is_500_for_its_request_only():
    with serving(("toy", Toy())) as client:
        with httpx.Client(base_url=client.base_url) as unlucky:  # a server closes the connection after a bug
            assert chroma(unlucky, ["unfortunately"]).status_code == 500
        assert chroma(client, ["fine"]).status_code == 200


def test_a_stopping_server_answers_what_runs_and_says_so(caplog):
    toy = Toy()
    with ThreadPoolExecutor(1) as pool, httpx.Client(timeout=30) as client:
        found = served("toy", toy)
        found.start(toy, Settings())
        toy.entered.clear()
        toy.gate.clear()
        with serve_in_thread(create_app(api_key=KEY, models=[found])) as url:
            client.base_url = url
            answer = pool.submit(chroma, client, ["a b"])
            assert toy.entered.wait(10)
            threading.Timer(0.2, toy.gate.set).start()
        assert answer.result().status_code == 200
    assert "stopping: toy finished 1 requests and refused 0" in caplog.text


def test_a_stopping_server_refuses_what_takes_too_long(caplog, monkeypatch):
    monkeypatch.setattr("sparse_embed.server.run.REFUSAL_TIME", 7.9)  # a tenth of a second is left for work
    toy = Toy()
    with ThreadPoolExecutor(1) as pool, httpx.Client(timeout=30) as client:
        found = served("toy", toy)
        found.start(toy, Settings())
        toy.entered.clear()
        toy.gate.clear()
        with serve_in_thread(create_app(api_key=KEY, models=[found])) as url:
            client.base_url = url
            answer = pool.submit(chroma, client, ["a b"])
            assert toy.entered.wait(10)
        assert answer.result().status_code == 503
        assert "stopping" in answer.result().json()["error"]
        toy.gate.set()
    assert "stopping: toy finished 0 requests and refused 1" in caplog.text


# --- operators ----------------------------------------------------------------------------------------------------


def test_health_and_requests_are_503_until_all_models_are_loaded():
    toy = Toy()
    found = served("toy", toy)
    with serve_in_thread(create_app(api_key=KEY, models=[found])) as url, httpx.Client(base_url=url) as client:
        assert (client.get("/health").status_code, client.get("/health").json()) == (503, {"status": "loading"})
        for response in (chroma(client, ["a"]), pinecone(client, ["a"]), chroma(client, ["a"], model="local/bm25")):
            assert response.status_code == 503
            assert int(response.headers["retry-after"]) >= 1
        found.start(toy, Settings())
        assert (client.get("/health").status_code, client.get("/health").json()) == (200, {"status": "ok"})
        assert chroma(client, ["a"]).status_code == 200


def test_info_needs_the_key_and_tells_what_is_served():
    with serving(("toy", Toy()), settings=Settings(max_queue_tokens=123)) as client:
        assert client.get("/info").status_code == 401
        told = client.get("/info", headers={"Api-Key": KEY}).json()
        assert [model["name"] for model in told["models"]] == ["local/bm25", "local/hashing", "toy"]
        toy = told["models"][2]
        assert toy.pop("tokens_per_second") > 0
        assert toy == {
            "name": "toy",
            "kind": "sparse",
            "dimension": None,
            "max_tokens": 64,
            "engine": "sentence-transformers",
            "wires": ["chroma", "pinecone"],
            "source": "toy",
            "revision": None,
            "prompts": {"query": "", "document": ""},
            "max_batch_tokens": 512,
            "max_queue_tokens": 123,
        }
        assert told["limits"] == {"chroma_texts": 100, "pinecone_inputs": 96}


def test_metrics_count_requests_failures_batches_and_tokens():
    with serving(("toy", Toy())) as client:
        chroma(client, ["a b", "c"])
        chroma(client, ["a"], model="no/such")
        told = client.get("/metrics").text
    for line in (
        'sparse_embed_request_count_total{model="toy"} 1.0',
        'sparse_embed_request_count_total{model=""} 1.0',
        'sparse_embed_request_failure_total{model="",status="400"} 1.0',
        'sparse_embed_request_tokens_total{model="toy"} 3.0',
        'sparse_embed_request_queue_duration_count{model="toy"} 1.0',
        'sparse_embed_request_inference_duration_count{model="toy"} 1.0',
        'sparse_embed_batch_next_size_sum{model="toy"} 2.0',
        'sparse_embed_batch_next_tokens_sum{model="toy"} 4.0',
        'sparse_embed_batch_padding_tokens_total{model="toy"} 1.0',
        'sparse_embed_queue_size{model="toy"} 0.0',
    ):
        assert line in told.splitlines()


def test_the_access_log_has_facts_and_neither_text_nor_key(caplog):
    caplog.set_level(logging.INFO, "sparse_embed.server")
    with serving(("toy", Toy())) as client:
        chroma(client, [SECRET_TEXT])
        pinecone(client, [SECRET_TEXT], model="local/bm25")
        client.get("/models/%0Aforged%20line", headers={"Api-Key": KEY})
        client.get("/health?text=" + SECRET_TEXT)
    records = [record for record in caplog.records if record.name == "sparse_embed.server"]
    assert len(records) == 4
    first = records[0].getMessage()
    assert re.search(r"method=POST path=/embed_sparse status=200 ms=[\d.]+ model=toy texts=1 tokens=3 queue_ms=", first)
    assert "model=local/bm25 texts=1 tokens=3" in records[1].getMessage()
    everything = "".join(record.getMessage() + JsonLines().format(record) for record in records)
    assert "Zaphod" not in everything
    assert KEY not in everything
    assert "\n" not in everything
    line = json.loads(JsonLines().format(records[0]))
    assert (line["level"], line["path"], line["status"], line["tokens"]) == ("info", "/embed_sparse", 200, 3)


def test_our_dense_client_reads_a_models_vectors_and_its_refusals():
    with serving(("toy", Toy("dense"))) as client:
        options = {"model": "toy", "base_url": str(client.base_url), "api_key": KEY}
        assert DenseEncoder("pinecone", **options).embed_query("a bb")[:3] == [0.0, 1.0, 1.0]
        with pytest.raises(BadRequestError, match="has 65 tokens"):
            DenseEncoder("pinecone", truncate="NONE", **options).embed_documents(["a " * 65])
