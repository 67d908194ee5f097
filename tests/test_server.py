"""The local provider keeps what the two specifications promise, over a real socket."""

import asyncio
import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from sparse_embed.server import create_app, local_provider, serve_in_thread
from sparse_embed.server.app import MAX_BODY
from sparse_embed.server.engines.bm25 import Bm25
from sparse_embed.server.engines.hashing import Hashing
from sparse_embed.server.run import is_loopback, listen, url_of

KEY = "the-server-key-4711"
SECRET_TEXT = "the patient's name is Zaphod"
BM25, HASHING = Bm25(), Hashing()

CHROMA_OFFICIAL = [
    ("prithivida/Splade_PP_en_v1", "sparse", None),
    ("naver/efficient-splade-VI-BT-large-doc", "sparse", None),
    ("naver/efficient-splade-VI-BT-large-query", "sparse", None),
    ("BAAI/bge-m3", "dense", 1024),
    ("Qwen/Qwen3-Embedding-0.6B", "dense", 1024),
    ("sentence-transformers/all-MiniLM-L6-v2", "dense", 384),
]
PINECONE_OFFICIAL = [
    ("pinecone-sparse-english-v0", "sparse", None),
    ("multilingual-e5-large", "dense", 1024),
    ("llama-text-embed-v2", "dense", 1024),
]


@pytest.fixture(scope="module")
def server():
    with local_provider() as url, httpx.Client(base_url=url) as client:
        yield client


@pytest.fixture(scope="module")
def stand_in():
    with local_provider(stand_in=True) as url, httpx.Client(base_url=url) as client:
        yield client


@pytest.fixture(scope="module")
def locked():
    with local_provider(api_key=KEY) as url, httpx.Client(base_url=url) as client:
        yield client


def chroma(client, texts, *, path="/embed_sparse", model="local/bm25", key="any", raw=None, **body):
    headers = {"x-chroma-token": key, "x-chroma-embedding-model": model}
    body = {"texts": texts} | (body or {"instructions": ""})
    return client.post(path, headers=headers, content=json.dumps(body) if raw is None else raw)


def pinecone(client, texts, *, model="local/bm25", key="any", raw=None, **parameters):
    parameters = {"input_type": "passage"} | parameters
    body = {"model": model, "inputs": [{"text": text} for text in texts]}
    body["parameters"] = {name: value for name, value in parameters.items() if value is not None}
    return client.post("/embed", headers={"Api-Key": key}, content=json.dumps(body) if raw is None else raw)


def assert_refused(response, status, wire, *words):
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    answer = response.json()
    if wire == "chroma":
        assert list(answer) == ["error"]
        message = answer["error"]
    else:
        assert answer["status"] == status
        assert isinstance(answer["error"]["code"], str)
        message = answer["error"]["message"]
    assert all(word in message for word in words), message


# --- vectors -----------------------------------------------------------------------------------------------------


def test_chroma_sparse_gives_the_engines_vectors_without_labels(server):
    texts = ["Quick brown foxes", "", "naïve İstanbul"]
    answer = chroma(server, texts).json()
    vectors, num_tokens = BM25.embed(texts, "document")
    assert answer == {
        "embeddings": [{"indices": v.indices, "values": v.values, "labels": None} for v in vectors],
        "num_tokens": num_tokens,
    }


@pytest.mark.parametrize("flag", [True, "true"])
@pytest.mark.parametrize("name", ["fetch_labels", "fetch_tokens"])
def test_chroma_labels_come_when_asked_for_under_either_name(server, name, flag):
    [item] = chroma(server, ["Quick brown foxes"], instructions="", **{name: flag}).json()["embeddings"]
    assert item["labels"] == ["brown", "quick", "fox"]


@pytest.mark.parametrize("flag", [False, "false", None])
def test_chroma_labels_stay_away_when_declined(server, flag):
    answer = chroma(server, ["foxes"], task="", target="", fetch_tokens=flag, fetch_labels=flag).json()
    assert answer["embeddings"][0]["labels"] is None


@pytest.mark.parametrize(("target", "role"), [("query", "query"), ("documents", "document"), ("", "document")])
def test_chroma_target_tells_a_query_from_documents(server, target, role):
    answer = chroma(server, ["fox fox dog"], task="search", target=target).json()
    assert answer["embeddings"][0]["values"] == BM25.embed(["fox fox dog"], role).vectors[0].values


@pytest.mark.parametrize("path", ["/", "/embed"])
def test_chroma_dense_is_served_at_the_root_and_at_embed(server, path):
    answer = chroma(server, ["some words", ""], path=path, model="local/hashing").json()
    vectors, num_tokens = HASHING.embed(["some words", ""], "document", dimension=384)
    assert answer == {"embeddings": vectors, "num_tokens": num_tokens}


@pytest.mark.parametrize(("input_type", "role"), [("query", "query"), ("passage", "document")])
def test_pinecone_sparse_gives_the_engines_vectors_for_the_role(server, input_type, role):
    texts = ["fox fox dog", ""]
    answer = pinecone(server, texts, input_type=input_type).json()
    vectors, num_tokens = BM25.embed(texts, role)
    assert answer == {
        "model": "local/bm25",
        "vector_type": "sparse",
        "data": [{"vector_type": "sparse", "sparse_indices": v.indices, "sparse_values": v.values} for v in vectors],
        "usage": {"total_tokens": num_tokens},
    }


def test_pinecone_tokens_come_when_asked_for(server):
    [item] = pinecone(server, ["Quick brown foxes"], return_tokens=True).json()["data"]
    assert item["sparse_tokens"] == ["brown", "quick", "fox"]


def test_pinecone_dense_respects_the_dimension(server):
    answer = pinecone(server, ["some words"], model="local/hashing", dimension=7).json()
    vectors, num_tokens = HASHING.embed(["some words"], "document", dimension=7)
    assert answer == {
        "model": "local/hashing",
        "vector_type": "dense",
        "data": [{"vector_type": "dense", "values": vectors[0]}],
        "usage": {"total_tokens": num_tokens},
    }


def test_empty_lists_are_answered_by_chroma_and_refused_by_pinecone(server):
    assert chroma(server, []).json() == {"embeddings": [], "num_tokens": 0}
    assert_refused(pinecone(server, []), 400, "pinecone", "inputs")


# --- keys --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [None, ""])
@pytest.mark.parametrize("fixture", ["server", "locked"])
def test_no_key_is_401_everywhere(request, fixture, key):
    client = request.getfixturevalue(fixture)
    for wire, name in (("chroma", "x-chroma-token"), ("pinecone", "Api-Key")):
        headers = {} if key is None else {name: key}
        if wire == "chroma":
            headers["x-chroma-embedding-model"] = "local/bm25"
        for method, path in (("POST", "/embed"), ("GET", "/models"), ("GET", "/models/local/bm25")):
            assert_refused(client.request(method, path, headers=headers), 401, wire, name.lower())
    assert_refused(client.post("/embed_sparse"), 401, "chroma")
    assert_refused(client.post("/"), 401, "chroma")


@pytest.mark.parametrize("key", ["wrong", KEY + "x", KEY[:-1], KEY.upper(), b"\xff\xfe"])
def test_another_key_is_401_and_is_never_repeated(locked, key):
    for response, wire in ((chroma(locked, ["a"], key=key), "chroma"), (pinecone(locked, ["a"], key=key), "pinecone")):
        assert_refused(response, 401, wire, "invalid API key")
        assert KEY[:5] not in response.text
        assert "wrong" not in response.text


def test_the_servers_key_opens_both_wires(locked):
    assert chroma(locked, ["a"], key=KEY).status_code == 200
    assert pinecone(locked, ["a"], key=KEY).status_code == 200


def test_a_key_outside_ascii_works(server):
    with local_provider(api_key="schlüssel") as url:
        headers = [(b"x-chroma-token", "schlüssel".encode()), (b"x-chroma-embedding-model", b"local/bm25")]
        body = {"texts": [], "instructions": ""}
        assert httpx.post(f"{url}/embed_sparse", headers=headers, json=body).status_code == 200


@pytest.mark.parametrize("blank", ["", " \n"])
def test_a_blank_server_key_is_a_mistake_not_an_open_door(blank):
    with pytest.raises(ValueError, match="blank"):
        create_app(api_key=blank)


# --- refusals ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw",
    [
        "", "{", "[]", "null", "7", b"\xff\xfe", '"text"', "{}",
        '{"texts": "a", "instructions": ""}', '{"texts": [1], "instructions": ""}',
        '{"texts": [null], "instructions": ""}', '{"texts": ["a"], "instructions": 5}',
        '{"texts": ["\\ud800"], "instructions": ""}',
        '{"texts": ["a"], "instructions": "", "fetch_labels": "yes"}',
        '{"texts": ["a"], "instructions": "", "fetch_labels": 1}',
        '{"texts": ["a"]}', '{"texts": ["a"], "task": ""}', '{"texts": ["a"], "target": "query"}',
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    ("path", "model"), [("/embed_sparse", "local/bm25"), ("/embed", "local/hashing"), ("/", "local/hashing")]
)
def test_a_malformed_chroma_body_is_400(server, path, model, raw):
    assert_refused(chroma(server, [], path=path, model=model, raw=raw), 400, "chroma")


@pytest.mark.parametrize(
    "raw",
    [
        "", "{", "[]", "null", b"\xff\xfe", "{}", '{"model": "local/bm25"}',
        '{"model": 5, "inputs": [{"text": "a"}]}', '{"model": "local/bm25", "inputs": ["a"]}',
        '{"model": "local/bm25", "inputs": [{}]}', '{"model": "local/bm25", "inputs": [{"text": 5}]}',
        '{"model": "local/bm25", "inputs": "a"}',
        '{"model": "local/bm25", "inputs": [{"text": "a"}], "parameters": []}',
    ],
)  # fmt: skip
def test_a_malformed_pinecone_body_is_400(server, raw):
    assert_refused(pinecone(server, [], raw=raw), 400, "pinecone")


def test_a_refusal_never_repeats_a_text(server):
    for raw in (
        {"texts": [SECRET_TEXT, 5], "instructions": ""},
        {"texts": SECRET_TEXT, "instructions": ""},
        {"texts": ["a"], "instructions": "", "fetch_labels": SECRET_TEXT},
        {"texts": ["a"], "instructions": [SECRET_TEXT]},
    ):
        response = chroma(server, [], raw=json.dumps(raw))
        assert_refused(response, 400, "chroma")
        assert "Zaphod" not in response.text
    for raw in (
        {"model": "local/bm25", "inputs": [{"text": [SECRET_TEXT]}]},
        {"model": "local/bm25", "inputs": [{"text": "a"}], "parameters": {"input_type": SECRET_TEXT}},
        {"model": "local/bm25", "inputs": [{"text": "a"}], "parameters": {"input_type": [SECRET_TEXT]}},
    ):
        response = pinecone(server, [], raw=json.dumps(raw))
        assert_refused(response, 400, "pinecone")
        assert "Zaphod" not in response.text


@pytest.mark.parametrize(
    ("model", "parameters", "words"),
    [
        ("local/bm25", {"input_type": None}, ["input_type is required", "query", "passage"]),
        ("local/hashing", {"input_type": None}, ["input_type is required"]),
        ("local/bm25", {"input_type": "document"}, ["input_type", "query, passage"]),
        ("local/bm25", {"input_type": True}, ["input_type", "string"]),
        ("local/bm25", {"truncate": "START"}, ["truncate", "END, NONE"]),
        ("local/bm25", {"return_tokens": "true"}, ["return_tokens", "boolean"]),
        ("local/bm25", {"return_tokens": 1}, ["return_tokens", "boolean"]),
        ("local/bm25", {"max_tokens_per_sequence": 600}, ["max_tokens_per_sequence", "512, 2048"]),
        ("local/bm25", {"dimension": 384}, ["unknown 'dimension'", "return_tokens"]),
        ("local/hashing", {"dimension": 0}, ["dimension", "from 1 to"]),
        ("local/hashing", {"dimension": 20_001}, ["dimension"]),
        ("local/hashing", {"dimension": "384"}, ["dimension", "integer"]),
        ("local/hashing", {"dimension": 384.0}, ["dimension", "integer"]),
        ("local/hashing", {"dimension": True}, ["dimension", "integer"]),
        ("local/hashing", {"return_tokens": True}, ["unknown 'return_tokens'"]),
    ],
)
def test_a_wrong_pinecone_parameter_is_400_and_says_what_is_right(server, model, parameters, words):
    assert_refused(pinecone(server, ["a"], model=model, **parameters), 400, "pinecone", *words)


@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        ("local/bm25", {"truncate": "NONE", "max_tokens_per_sequence": 2048, "return_tokens": False}),
        ("local/hashing", {"truncate": "START", "dimension": 1}),
    ],
)
def test_every_documented_pinecone_parameter_is_taken(server, model, parameters):
    assert pinecone(server, ["a"], model=model, **parameters).status_code == 200


def test_the_largest_request_is_served_and_one_more_text_is_refused(server):
    assert len(chroma(server, ["a"] * 100).json()["embeddings"]) == 100
    assert_refused(chroma(server, ["a"] * 101), 413, "chroma", "101", "100")
    assert len(pinecone(server, ["a"] * 96).json()["data"]) == 96
    assert_refused(pinecone(server, ["a"] * 97), 400, "pinecone", "97", "96")


def test_a_body_beyond_the_limit_is_413(server):
    assert_refused(chroma(server, [], raw=b" " * (MAX_BODY + 1)), 413, "chroma")


def test_a_chroma_request_without_model_header_is_400(server):
    response = server.post("/embed_sparse", headers={"x-chroma-token": "any"}, json={"texts": [], "instructions": ""})
    assert_refused(response, 400, "chroma", "x-chroma-embedding-model")


def test_an_unknown_model_is_400_for_chroma_and_404_for_pinecone(server):
    long_name = "m" * 500
    for name in ("no/such-model", long_name):
        assert_refused(chroma(server, ["a"], model=name), 400, "chroma", "unknown model", "local/bm25")
        assert_refused(pinecone(server, ["a"], model=name), 404, "pinecone", "unknown model", "local/bm25")
    assert long_name not in chroma(server, ["a"], model=long_name).text


def test_the_other_providers_models_are_unknown(stand_in):
    assert_refused(chroma(stand_in, ["a"], model="pinecone-sparse-english-v0"), 400, "chroma")
    assert_refused(pinecone(stand_in, ["a"], model="prithivida/Splade_PP_en_v1"), 404, "pinecone")


def test_a_model_of_the_other_kind_is_501_for_chroma(server, stand_in):
    assert_refused(chroma(server, ["a"], model="local/hashing"), 501, "chroma", "dense")
    assert_refused(chroma(server, ["a"], path="/embed", model="local/bm25"), 501, "chroma", "sparse")
    assert_refused(chroma(stand_in, ["a"], path="/", model="prithivida/Splade_PP_en_v1"), 501, "chroma", "sparse")
    assert_refused(chroma(stand_in, ["a"], model="BAAI/bge-m3"), 501, "chroma", "dense")


def test_unknown_routes_and_methods_answer_in_the_clients_shape(server):
    assert_refused(server.get("/nowhere", headers={"x-chroma-token": "any"}), 404, "chroma")
    assert_refused(server.get("/nowhere", headers={"Api-Key": "any"}), 404, "pinecone")
    assert_refused(server.get("/nowhere"), 404, "pinecone")
    assert_refused(server.get("/embed_sparse"), 405, "chroma")
    assert_refused(server.get("/embed", headers={"Api-Key": "any"}), 405, "pinecone")
    assert server.get("/embed").headers["allow"] == "POST"
    assert server.put("/").headers["allow"] == "GET, POST"
    assert_refused(server.post("/embed/", headers={"Api-Key": "any"}), 404, "pinecone")


def test_a_bug_is_a_500_in_the_clients_shape_without_its_text(monkeypatch):
    def fail(*_):
        raise RuntimeError(SECRET_TEXT)

    monkeypatch.setattr(Bm25, "embed", fail)
    with local_provider() as url:
        for ask, wire in ((chroma, "chroma"), (pinecone, "pinecone")):
            with httpx.Client(base_url=url) as client:  # one each: a server closes the connection after a bug
                response = ask(client, ["a"])
            assert_refused(response, 500, wire)
            assert "Zaphod" not in response.text


# --- stand-in ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("model", "vector_type", "dimension"), CHROMA_OFFICIAL)
def test_chromas_models_are_501_until_stand_in_answers_for_them(server, stand_in, model, vector_type, dimension):
    path = "/embed_sparse" if vector_type == "sparse" else "/embed"
    assert_refused(chroma(server, ["a fox"], path=path, model=model), 501, "chroma", "--stand-in")
    response = chroma(stand_in, ["fox fox"], path=path, model=model)
    if vector_type == "sparse":
        role = "query" if model.endswith("-query") else "document"
        assert response.json()["embeddings"][0]["values"] == BM25.embed(["fox fox"], role).vectors[0].values
        assert response.headers["x-sparse-embed-engine"] == "local/bm25"
    else:
        assert response.json()["embeddings"] == HASHING.embed(["fox fox"], "document", dimension=dimension).vectors
        assert response.headers["x-sparse-embed-engine"] == "local/hashing"


@pytest.mark.parametrize(("model", "vector_type", "dimension"), PINECONE_OFFICIAL)
def test_pinecones_models_are_404_until_stand_in_answers_for_them(server, stand_in, model, vector_type, dimension):
    assert_refused(pinecone(server, ["a"], model=model), 404, "pinecone", "--stand-in")
    response = pinecone(stand_in, ["a fox"], model=model)
    answer = response.json()
    assert (answer["model"], answer["vector_type"]) == (model, vector_type)
    assert response.headers["x-sparse-embed-engine"] == ("local/bm25" if vector_type == "sparse" else "local/hashing")
    if dimension:
        assert len(answer["data"][0]["values"]) == dimension


def test_llama_gives_its_other_dimensions_and_no_others(stand_in):
    model = "llama-text-embed-v2"
    for dimension in (384, 512, 768, 1024, 2048):
        answer = pinecone(stand_in, ["a"], model=model, dimension=dimension).json()
        assert len(answer["data"][0]["values"]) == dimension
    assert_refused(pinecone(stand_in, ["a"], model=model, dimension=100), 400, "pinecone", "dimension")
    assert_refused(
        pinecone(stand_in, ["a"], model="multilingual-e5-large", dimension=384), 400, "pinecone", "dimension"
    )


def test_every_answer_names_its_engine(server):
    assert chroma(server, ["a"]).headers["x-sparse-embed-engine"] == "local/bm25"
    assert pinecone(server, ["a"], model="local/hashing").headers["x-sparse-embed-engine"] == "local/hashing"
    key = {"Api-Key": "any"}
    assert server.get("/models/local/bm25", headers=key).headers["x-sparse-embed-engine"] == "local/bm25"
    assert server.get("/models", headers=key).headers["x-sparse-embed-engine"] == "local/bm25, local/hashing"


# --- the page ----------------------------------------------------------------------------------------------------


def test_the_page_is_served_without_a_key_and_allows_nothing_inline_or_from_elsewhere(locked):
    for path, kind in (("/", "html"), ("/playground.js", "javascript"), ("/playground.css", "css")):
        response = locked.get(path)
        assert response.status_code == 200
        assert response.headers["content-type"] == f"text/{kind}; charset=utf-8"
        policy = response.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
        assert "unsafe" not in policy
        assert response.headers["x-content-type-options"] == "nosniff"
        assert KEY not in response.text


# --- the list of models ------------------------------------------------------------------------------------------


def names(client, **params):
    response = client.get("/models", headers={"Api-Key": "any"}, params=params)
    return [model["model"] for model in response.json()["models"]]


def test_the_list_has_local_models_always_and_official_ones_with_stand_in(server, stand_in):
    assert names(server) == ["local/bm25", "local/hashing"]
    assert names(stand_in) == ["local/bm25", "local/hashing", *(name for name, *_ in PINECONE_OFFICIAL)]
    chroma_list = stand_in.get("/models", headers={"x-chroma-token": "any"}).json()["models"]
    assert [model["model"] for model in chroma_list][2:] == [name for name, *_ in CHROMA_OFFICIAL]


def test_the_list_is_filtered_by_type_and_vector_type(stand_in):
    assert names(stand_in, type="embed") == names(stand_in)
    assert names(stand_in, type="rerank") == []
    assert names(stand_in, vector_type="sparse") == ["local/bm25", "pinecone-sparse-english-v0"]
    assert names(stand_in, type="embed", vector_type="dense")[0] == "local/hashing"
    for params in ({"type": "other"}, {"vector_type": "other"}):
        assert_refused(stand_in.get("/models", headers={"Api-Key": "any"}, params=params), 400, "pinecone")


def test_one_model_is_described_as_pinecone_describes_it(server, stand_in):
    key = {"Api-Key": "any"}
    sparse = server.get("/models/local/bm25", headers=key).json()
    assert server.get("/models/local%2Fbm25", headers=key).json() == sparse
    assert (sparse["type"], sparse["vector_type"], sparse["max_batch_size"]) == ("embed", "sparse", 96)
    assert sparse["supported_parameters"][0] == {
        "parameter": "input_type",
        "type": "one_of",
        "value_type": "string",
        "required": True,
        "allowed_values": ["query", "passage"],
    }
    llama = stand_in.get("/models/llama-text-embed-v2", headers=key).json()
    assert llama["default_dimension"] == 1024
    assert llama["supported_dimensions"] == [384, 512, 768, 1024, 2048]
    assert "supported_dimensions" not in server.get("/models/local/hashing", headers=key).json()  # a range is no list
    assert_refused(server.get("/models/llama-text-embed-v2", headers=key), 404, "pinecone", "--stand-in")
    assert_refused(server.get("/models/none", headers=key), 404, "pinecone", "unknown model")


# --- the server --------------------------------------------------------------------------------------------------


def test_it_answers_others_while_it_computes(monkeypatch):
    entered, released = threading.Event(), threading.Event()
    embed = Bm25.embed

    def slow(self, texts, role):
        if texts == ["slow"]:
            entered.set()
            assert released.wait(10)
        return embed(self, texts, role)

    monkeypatch.setattr(Bm25, "embed", slow)
    with local_provider() as url, httpx.Client(base_url=url) as client, ThreadPoolExecutor(1) as pool:
        late = pool.submit(chroma, client, ["slow"])
        assert entered.wait(10)
        assert chroma(client, ["fast"]).status_code == 200
        assert not late.done()
        released.set()
        assert late.result().status_code == 200


async def test_it_runs_inside_an_event_loop():
    with local_provider() as url:
        async with httpx.AsyncClient(base_url=url, headers={"Api-Key": "any"}) as client:
            answers = await asyncio.gather(*(client.get("/models") for _ in range(5)))
    assert [answer.status_code for answer in answers] == [200] * 5


def test_it_stops_with_a_clients_connection_still_open_and_frees_its_port():
    before = set(threading.enumerate())
    with httpx.Client() as client:
        with local_provider() as url:
            assert client.get(f"{url}/models", headers={"Api-Key": "any"}).status_code == 200
        with pytest.raises(httpx.TransportError):
            client.get(f"{url}/models", headers={"Api-Key": "any"})
    assert not [thread for thread in set(threading.enumerate()) - before if thread.name == "sparse-embed-server"]
    listen("127.0.0.1", int(url.rpartition(":")[2])).close()


def test_it_can_stop_before_anyone_came():
    for _ in range(3):
        with serve_in_thread(create_app()) as url:
            assert url.startswith("http://127.0.0.1:")


def test_a_taken_port_is_an_error_at_once():
    with listen("127.0.0.1", 0) as taken:
        second = serve_in_thread(create_app(), port=taken.getsockname()[1])
        with pytest.raises(OSError, match="in use"), second:
            pytest.fail("bound twice")


def test_a_client_that_hangs_up_does_no_harm(server):
    address = (server.base_url.host, server.base_url.port)
    with socket.create_connection(address) as connection:
        connection.sendall(b"POST /embed HTTP/1.1\r\nhost: x\r\napi-key: any\r\ncontent-length: 100\r\n\r\n{")
    assert pinecone(server, ["a"]).status_code == 200


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False),
     ("10.0.0.1", False), ("example.org", False), ("", False)],
)  # fmt: skip
def test_only_loopback_counts_as_loopback(host, expected):
    assert is_loopback(host) is expected


def test_the_url_of_an_open_address_leads_to_this_machine():
    with listen("0.0.0.0", 0) as listener:
        assert url_of(listener) == f"http://127.0.0.1:{listener.getsockname()[1]}"
