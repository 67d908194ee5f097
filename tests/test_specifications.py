"""The local provider and the client keep to the two providers' specifications, ``specs/*.yaml``.

``pytest --hypothesis-profile=long tests/test_specifications.py`` tries twenty times as much.
"""

import asyncio
import copy
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import schemathesis
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from sparse_embed import DenseEncoder, InvalidResponseError, SparseEmbedError, SparseEncoder
from sparse_embed.server import local_provider
from sparse_embed.testing import no_wait
from sparse_embed.testing.fakes import made_up_answer
from sparse_embed.transport.client import Exchange, mock_clients

HERE = Path(__file__).parent / "specs"
SPECS: dict[str, Any] = {name: yaml.safe_load((HERE / f"{name}.yaml").read_text()) for name in ("chroma", "pinecone")}


# --- the local provider ------------------------------------------------------------------------------------------


def try_out(name: str, examples: int, home: Path) -> tuple[bool, int, str]:
    """Run schemathesis against a local provider: whether nothing was found, the number of requests, what it said."""
    report = home / f"{name}.json"
    with local_provider(stand_in=True, api_key="any") as url:
        command = [sys.executable, "-m", "schemathesis.cli", "--config-file", HERE / "schemathesis.toml", "run"]
        command += [HERE / f"{name}.yaml", "--url", url, "--max-examples", str(examples), "--continue-on-failure"]
        command += ["--no-color", "--suppress-health-check", "all", "--report", "json", "--report-json-path", report]
        done = subprocess.run(command, cwd=home, capture_output=True, text=True, check=False)
    cases = json.loads(report.read_text())["test_cases"]["generated"] if report.exists() else 0
    return done.returncode == 0, cases, done.stdout + done.stderr


@pytest.mark.parametrize("name", SPECS)
def test_the_local_provider_answers_right_and_wrong_requests_as_documented(name: str, tmp_path: Path) -> None:
    clean, cases, said = try_out(name, settings().max_examples // 4, tmp_path)
    assert clean, said
    assert cases > settings().max_examples  # the greater part walks through the schemas and needs no number


# --- what the client sends ---------------------------------------------------------------------------------------


def pointed(name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """A schema together with what it points to."""
    return {**schema, "components": SPECS[name]["components"]}


def check_request(name: str, exchange: Exchange) -> None:
    spec = SPECS[name]
    operation = spec["paths"][exchange.path]["post"]
    assert exchange.headers["content-type"] == "application/json"
    content = operation["requestBody"]["content"]["application/json"]
    Draft202012Validator(pointed(name, content["schema"])).validate(json.loads(exchange.body))
    parameters = spec["components"].get("parameters", {})
    for parameter in operation["parameters"]:
        header = parameters[parameter["$ref"].rpartition("/")[2]] if "$ref" in parameter else parameter
        Draft202012Validator(header["schema"]).validate(exchange.headers[header["name"]])
    for scheme in spec["components"].get("securitySchemes", {}).values():
        assert exchange.headers[scheme["name"]] == "key"


unicode = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
texts = st.lists(unicode.filter(lambda text: not (not text or text.isspace())), max_size=250)
models = next(
    parameter["schema"]["enum"]
    for parameter in SPECS["chroma"]["components"]["parameters"].values()
    if parameter["name"] == "x-chroma-embedding-model"
)


def some(**options: Any) -> st.SearchStrategy[dict[str, Any]]:
    """Any of the options."""
    return st.fixed_dictionaries({}, optional=options)


chroma_options = st.builds(
    lambda *parts: {key: value for part in parts for key, value in part.items()},
    some(model=st.sampled_from(models), query_model=st.sampled_from(models), return_tokens=st.booleans()),
    some(task=unicode) | some(instructions=unicode, query_instructions=unicode),
)
pinecone_options = {
    SparseEncoder: some(
        truncate=st.sampled_from(["END", "NONE"]),
        return_tokens=st.booleans(),
        max_tokens_per_sequence=st.sampled_from([512, 2048]),
        api_version=st.sampled_from(["2025-04", "2026-04"]),
    ),
    DenseEncoder: some(
        truncate=st.sampled_from(["END", "NONE", "START"]),
        dimension=st.sampled_from([384, 512, 768, 1024, 2048]),
        parameters=some(dimension=st.just(384), truncate=st.just("NONE")),
    )
    | some(model=st.just("multilingual-e5-large"), truncate=st.sampled_from(["END", "NONE"])),
}


@pytest.mark.parametrize("kind", [SparseEncoder, DenseEncoder])
@pytest.mark.parametrize("provider", ["chroma", "pinecone"])
@given(data=st.data())
def test_every_request_of_the_client_is_one_that_the_specification_allows(
    provider: Any, kind: Any, data: st.DataObject
) -> None:
    def answer(exchange: Exchange) -> tuple[int, bytes]:
        sent.append(exchange)
        return 200, json.dumps(made_up_answer(exchange.path, exchange.body)).encode()

    sent: list[Exchange] = []
    client, async_client = mock_clients(answer)
    options = data.draw(chroma_options if provider == "chroma" else pinecone_options[kind])
    if kind is DenseEncoder:
        options.pop("return_tokens", None)  # refused: dense vectors have no tokens
    options |= data.draw(some(batch_size=st.integers(1, 100), max_concurrency=st.integers(1, 4)))
    if provider == "pinecone" and options.get("batch_size", 0) > 96:
        options["batch_size"] = 96
    encoder = kind(provider, api_key="key", http_client=client, http_async_client=async_client, **options)
    documents = data.draw(texts)
    encoder.embed_documents(documents)
    asyncio.run(encoder.aembed_documents(documents))
    encoder.embed_query("question")
    for exchange in sent:
        check_request(provider, exchange)


# --- what the client understands ---------------------------------------------------------------------------------

TEXTS = ["zero", "one", "two"]
WIRES = [
    pytest.param("chroma", SparseEncoder, "SparseEmbedResponse", id="chroma sparse"),
    pytest.param("chroma", DenseEncoder, "DenseEmbedResponse", id="chroma dense"),
    pytest.param("pinecone", SparseEncoder, "EmbeddingsList", id="pinecone sparse"),
    pytest.param("pinecone", DenseEncoder, "EmbeddingsList", id="pinecone dense"),
]
ERRORS = {name: [int(status) for status in spec["paths"]["/embed"]["post"]["responses"] if status != "200"]
          for name, spec in SPECS.items()}  # fmt: skip


def conforming(name: str, answer: str, schemas: Any = None) -> st.SearchStrategy[Any]:
    """Answers that a schema of a specification allows, as schemathesis makes them: as bodies of requests."""
    body = {"required": True, "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{answer}"}}}}
    spec = {
        "openapi": SPECS[name]["openapi"],
        "info": SPECS[name]["info"],
        "paths": {"/answer": {"post": {"requestBody": body, "responses": {}}}},
        "components": {"schemas": schemas or SPECS[name]["components"]["schemas"]},
    }
    cases: st.SearchStrategy[Any] = schemathesis.openapi.from_dict(spec)["/answer"]["POST"].as_strategy()
    return cases.map(lambda case: case.body)


def ask(name: Any, kind: Any, status: int, answer: object) -> list[Any]:
    client, async_client = mock_clients(lambda _: (status, json.dumps(answer).encode()))
    encoder = kind(name, api_key="key", max_retries=1, http_client=client, http_async_client=async_client)
    with no_wait():
        vectors: list[Any] = encoder.embed_documents(TEXTS)
    return vectors


@pytest.mark.parametrize(("name", "kind", "answer"), WIRES)
@given(data=st.data())
def test_an_answer_of_the_documented_form_is_understood_or_refused(
    name: str, kind: Any, answer: str, data: st.DataObject
) -> None:
    try:
        vectors = ask(name, kind, 200, data.draw(conforming(name, answer)))
    except InvalidResponseError as error:
        assert error.status == 200
    else:
        assert len(vectors) == len(TEXTS)


@pytest.mark.parametrize(("name", "kind", "answer"), WIRES)
@given(data=st.data())
def test_an_answer_that_fits_the_question_too_is_understood_as_it_stands(
    name: str, kind: Any, answer: str, data: st.DataObject
) -> None:
    body = data.draw(conforming(name, answer, fitting(name, kind)))
    items = body["embeddings" if name == "chroma" else "data"]
    if kind is DenseEncoder:
        assert ask(name, kind, 200, body) == [item if name == "chroma" else item["values"] for item in items]
        return
    prefix = "" if name == "chroma" else "sparse_"
    for item in items:  # 7.0 is an integer to JSON Schema; no provider writes that, and the client refuses it
        item[f"{prefix}indices"] = list(map(int, item[f"{prefix}indices"]))
    for item, vector in zip(items, ask(name, kind, 200, body), strict=True):
        pairs = zip(item[f"{prefix}indices"], item[f"{prefix}values"], strict=True)
        assert [*zip(vector.indices, vector.values, strict=True)] == sorted(pair for pair in pairs if pair[1])


def fitting(name: str, kind: Any) -> Any:
    """The schemas, narrowed to three vectors of this kind with two values each."""
    schemas = copy.deepcopy(SPECS[name]["components"]["schemas"])
    two, three = {"minItems": 2, "maxItems": 2}, {"minItems": 3, "maxItems": 3}
    indices = two | {"uniqueItems": True, "items": {"type": "integer", "minimum": 0, "maximum": 2**32 - 1}}
    if name == "chroma":
        for answer in ("SparseEmbedResponse", "DenseEmbedResponse"):
            schemas[answer]["properties"]["embeddings"] |= three
        schemas["DenseEmbedResponse"]["properties"]["embeddings"]["items"] |= two
        schemas["SparseEmbeddingItem"]["properties"]["indices"] |= indices
        schemas["SparseEmbeddingItem"]["properties"]["values"] |= two
    else:
        said, item = ("sparse", "SparseEmbedding") if kind is SparseEncoder else ("dense", "DenseEmbedding")
        answer = schemas["EmbeddingsList"]["properties"]
        answer["vector_type"] = {"const": said}
        answer["data"] |= three | {"items": {"$ref": f"#/components/schemas/{item}"}}
        schemas["DenseEmbedding"]["properties"]["values"] |= two
        schemas["SparseEmbedding"]["properties"]["sparse_indices"] |= indices
        schemas["SparseEmbedding"]["properties"]["sparse_values"] |= two
    return schemas


@pytest.mark.parametrize("name", SPECS)
@given(data=st.data())
def test_a_documented_error_is_an_error_of_ours_with_what_it_says(name: str, data: st.DataObject) -> None:
    status = data.draw(st.sampled_from(ERRORS[name]))
    body = data.draw(conforming(name, "ErrorResponse"))
    with pytest.raises(SparseEmbedError) as caught:
        ask(name, DenseEncoder, status, body)
    assert caught.value.status == status
    assert caught.value.code == (body["error"]["code"] if name == "pinecone" else None)
    said = body["error"]["message"] if name == "pinecone" else body["error"]
    assert " ".join(said.split())[:100] in caught.value.message
