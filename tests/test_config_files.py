"""Configuration files hold no key, use the environment's, and cannot send it to a host of their choosing.

One way of loading is one function here. LangGraph's has an environment of its own: tests/langgraph.
"""

import importlib
import json
import tomllib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from langchain_core._api import LangChainBetaWarning
from langchain_core.embeddings import Embeddings
from langchain_core.load import dumps, loads
from llama_index.core import Settings

import langchain_sparse_embed
import llama_index_sparse_embed
from langchain_sparse_embed import init_embeddings, init_sparse_embeddings
from llama_index_sparse_embed import init_embedding, init_sparse_embedding
from sparse_embed import ConfigurationError, DenseEncoder, RateLimitError, SparseEmbedError, SparseEncoder
from sparse_embed.server import local_provider
from sparse_embed.stores.chroma import EncoderFunction

KEY = "key-of-the-environment"
HEADER = "secret-header"
ELSEWHERE = "https://elsewhere.example"
VARIABLES = {"chroma": "CHROMA_API_KEY", "pinecone": "PINECONE_API_KEY"}
FROM_SPARSE = [SparseEncoder.from_config, init_sparse_embeddings, init_sparse_embedding]
FROM_DENSE = [DenseEncoder.from_config, init_embeddings, init_embedding]
MODELS = {"sparse": "local/bm25", "dense": "local/hashing"}


@pytest.fixture(scope="module")
def local():
    """A provider that accepts the environment's key alone."""
    with local_provider(api_key=KEY) as url:
        yield url


@pytest.fixture(params=list(VARIABLES))
def provider(request, monkeypatch):
    for name in ("CHROMA_API_KEY", "CHROMA_EMBED_URL", "PINECONE_API_KEY", "PINECONE_CONTROLLER_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(VARIABLES[request.param], KEY)
    return request.param


def built(config: dict[str, dict[str, Any]]) -> list[Any]:
    """The core's encoders, and both frameworks' classes."""
    return [build(config["sparse"]) for build in FROM_SPARSE] + [build(config["dense"]) for build in FROM_DENSE]


def sections(provider: str, base_url: str) -> dict[str, dict[str, Any]]:
    common = {"provider": provider, "base_url": base_url, "max_retries": 1, "timeout": 5.0}
    return {kind: common | {"model": model} for kind, model in MODELS.items()}


@pytest.mark.parametrize("build", [*FROM_SPARSE, *FROM_DENSE])
def test_a_quota_in_a_file_is_a_quota_everywhere(build, provider, local):
    config = yaml.safe_load(f"{{provider: {provider}, base_url: '{local}', quota: {{requests_per_minute: 1}}}}")
    model = build(config | {"deadline": 5.0})
    query = getattr(model, "embed_query", None) or model.get_query_embedding
    with pytest.raises(SparseEmbedError):  # the local provider has no such model: it takes the minute's request
        query("first")
    with pytest.raises(RateLimitError, match="the quota"):
        query("second")
    with pytest.raises(ConfigurationError, match="requests_per_minute"):
        build({"provider": provider, "quota": {"requests": 1}})


def from_yaml(provider: str, base_url: str, folder: Path) -> list[Any]:
    path = folder / "embeddings.yaml"
    path.write_text(yaml.safe_dump(sections(provider, base_url)))
    return built(yaml.safe_load(path.read_text()))


def from_toml(provider: str, base_url: str, folder: Path) -> list[Any]:
    path = folder / "embeddings.toml"
    tables = sections(provider, base_url).items()
    lines = [
        [f"[{kind}]", *(f"{name} = {json.dumps(value)}" for name, value in table.items())] for kind, table in tables
    ]
    path.write_text("\n".join(line for table in lines for line in table))
    return built(tomllib.loads(path.read_text()))


def from_json(provider: str, base_url: str, folder: Path) -> list[Any]:
    path = folder / "embeddings.json"
    path.write_text(json.dumps(sections(provider, base_url)))
    return built(json.loads(path.read_text()))


def from_strings(provider: str, base_url: str, folder: Path) -> list[Any]:
    sparse, dense = (f"{provider}:{model}" for model in MODELS.values())
    loaded = [build(sparse, base_url=base_url) for build in FROM_SPARSE[1:]]
    return loaded + [build(dense, base_url=base_url) for build in FROM_DENSE[1:]]


def from_langchain(provider: str, base_url: str, folder: Path) -> list[Any]:
    config = sections(provider, base_url)
    secret = {"default_headers": {"x-secret": HEADER}}
    loaded = []
    for one in (init_sparse_embeddings(config["sparse"], **secret), init_embeddings(config["dense"], **secret)):
        path = folder / f"{type(one).__name__}.json"
        path.write_text(dumps(one))
        for from_environment in (False, True):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", LangChainBetaWarning)  # langchain-core 1.7 still calls `loads` beta
                loaded.append(
                    loads(
                        path.read_text(),
                        allowed_objects=[type(one)],
                        valid_namespaces=["langchain_sparse_embed"],
                        secrets_from_env=from_environment,
                    )
                )
    return loaded


def from_llama_index(provider: str, base_url: str, folder: Path) -> list[Any]:
    """As mlflow's llama_index flavour stores and restores Settings (mlflow 3, serialize_objects.py)."""
    config = sections(provider, base_url)
    path = folder / "settings.json"
    before = Settings._embed_model
    try:
        Settings.embed_model = init_embedding(config["dense"], default_headers={"x-secret": HEADER})
        stored = Settings.embed_model.to_dict()
        stored.pop("class_name")
        cls = type(Settings.embed_model)
        stored = {"object_constructor": f"{cls.__module__}.{cls.__qualname__}", "object_kwargs": stored}
        path.write_text(json.dumps({"_embed_model": stored}))
        read = json.loads(path.read_text())["_embed_model"]
        module, _, name = read["object_constructor"].rpartition(".")
        Settings.embed_model = getattr(importlib.import_module(module), name).from_dict(read["object_kwargs"])
        return [Settings.embed_model]
    finally:
        Settings._embed_model = before


def from_chroma(provider: str, base_url: str, folder: Path) -> list[Any]:
    """What chromadb stores of a collection's embedding function."""
    settings = sections(provider, base_url)["sparse"] | {"default_headers": {"x-secret": HEADER}}
    path = folder / "function.json"
    path.write_text(json.dumps(EncoderFunction(SparseEncoder.from_config(settings)).get_config()))
    return [EncoderFunction.build_from_config(json.loads(path.read_text()))]


every_way = pytest.mark.parametrize(
    "load", [from_yaml, from_toml, from_json, from_strings, from_langchain, from_llama_index, from_chroma]
)
Load = Callable[[str, str, Path], list[Any]]


def query(loaded: Any, text: str) -> object:
    if isinstance(loaded, EncoderFunction):
        return loaded.embed_query(input=[text])
    if hasattr(loaded, "get_query_embedding"):
        return loaded.get_query_embedding(text)
    return loaded.embed_query(text)


@every_way
def test_what_is_loaded_uses_the_environments_key_and_the_files_hold_none(
    load: Load, provider: str, local: str, tmp_path: Path
) -> None:
    loaded = load(provider, local, tmp_path)
    assert loaded
    for one in loaded:
        assert query(one, "fox")
    for path in tmp_path.iterdir():
        assert KEY not in path.read_text()
        assert HEADER not in path.read_text()


@every_way
def test_a_file_that_names_another_host_does_not_get_the_environments_key(
    load: Load, provider: str, tmp_path: Path
) -> None:
    for one in load(provider, ELSEWHERE, tmp_path):
        with pytest.raises(ConfigurationError, match=r"is not sent to elsewhere\.example") as caught:
            query(one, "fox")
        assert KEY not in str(caught.value)


@pytest.mark.parametrize("build", FROM_SPARSE + FROM_DENSE)
def test_a_provider_alone_has_its_usual_model(build: Callable[[Any], Any], provider: str) -> None:
    kind = "sparse" if build in FROM_SPARSE else "dense"
    encoder = (SparseEncoder if kind == "sparse" else DenseEncoder)(provider)
    for config in (provider, {"provider": provider}):
        one = build(config)
        assert encoder.model == (one.model_name if hasattr(one, "model_name") else one.model)


def test_the_dense_classes_are_langchains_embeddings() -> None:
    assert isinstance(init_embeddings("pinecone:llama-text-embed-v2", dimension=512), Embeddings)


def test_an_argument_wins_over_the_file() -> None:
    file = {"provider": "chroma", "model": "of-the-file"}
    assert init_embeddings(file, model="given").model == "given"
    assert init_embedding(file, model="given").model_name == "given"
    assert init_embedding(file, model_name="given").model_name == "given"


@pytest.mark.parametrize("build", FROM_SPARSE + FROM_DENSE)
@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("openai:text-embedding-3-small", "unknown provider 'openai': choose one of chroma, pinecone"),
        ("", "unknown provider ''"),
        ({"provider": ["chroma"]}, "unknown provider"),
        ({"model": "BAAI/bge-m3"}, "names no provider"),
        ({"provider": "chroma", 7: "seven"}, "a mapping with names"),
        ({"provider": "chroma", "cashe": 100}, "cashe"),
        ({"provider": "chroma", "batch_size": "many"}, "batch_size"),
        (None, "a mapping with names"),
        (["chroma"], "a mapping with names"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused(build: Callable[[Any], Any], config: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        build(config)


def test_llamahub_finds_what_pyproject_promises() -> None:
    hub = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["tool"]["llamahub"]
    module = importlib.import_module(hub["import_path"])
    assert set(hub["class_authors"]) == {name for name in module.__all__ if name[0].isupper()}


def test_the_plugins_list_their_public_names_sorted() -> None:
    for module in (langchain_sparse_embed, llama_index_sparse_embed):
        assert module.__all__ == sorted(module.__all__)
        assert all(hasattr(module, name) for name in module.__all__)
