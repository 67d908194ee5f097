"""Each id of the two providers, by a small model of its architecture, with its pooling, prompts, limit and dimension.

What the real files hold is written here from model cards and configurations on huggingface.co: nothing is downloaded.
all-MiniLM-L6-v2, and a SPLADE model, are tested with real weights in test_real_weights.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from sentence_transformers import SentenceTransformer, SparseEncoder
from sentence_transformers.base.modules import Transformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertModel,
    DistilBertConfig,
    DistilBertForMaskedLM,
    PreTrainedModel,
    Qwen3Config,
    Qwen3Model,
    XLMRobertaConfig,
    XLMRobertaModel,
)

import sparse_embed
from sparse_embed import BadRequestError, DenseEncoder
from sparse_embed.server import local_provider
from sparse_embed.server.models import MODELS
from tests.models import tiny

WORDS = len(tiny.VOCABULARY)
TEXT = "What is the value of an expression?"
WEB_SEARCH = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:"


def bert(kind: type[PreTrainedModel], width: int) -> PreTrainedModel:
    sizes = {"hidden_size": width, "num_attention_heads": 2, "intermediate_size": 64, "num_hidden_layers": 2}
    return kind(BertConfig(vocab_size=WORDS, max_position_embeddings=512, **sizes))


def distilbert() -> PreTrainedModel:
    return DistilBertForMaskedLM(DistilBertConfig(vocab_size=WORDS, dim=32, n_heads=2, hidden_dim=64, n_layers=2))


def xlm_roberta(positions: int) -> PreTrainedModel:
    sizes = {"hidden_size": 1024, "num_attention_heads": 16, "intermediate_size": 64, "num_hidden_layers": 1}
    config = XLMRobertaConfig(vocab_size=WORDS, max_position_embeddings=positions, pad_token_id=0, **sizes)
    return XLMRobertaModel(config)


def qwen3() -> PreTrainedModel:
    sizes = {"hidden_size": 1024, "num_attention_heads": 16, "intermediate_size": 64, "num_hidden_layers": 1}
    config = Qwen3Config(
        vocab_size=WORDS, num_key_value_heads=8, head_dim=128, max_position_embeddings=32768, pad_token_id=0, **sizes
    )
    return Qwen3Model(config).bfloat16()


@dataclass(frozen=True)
class Real:
    """What the files of one id hold."""

    make: Callable[[], PreTrainedModel]
    limit: int
    dimension: int | None = None  # of dense ones
    pooling: str = ""
    prompts: dict[str, str] = field(default_factory=dict)  # in its files
    role: str | None = None
    bin_weights: bool = False
    architecture: str | None = None  # in its config.json, where it is not the class that sentence-transformers loads


REAL = {
    "prithivida/Splade_PP_en_v1": Real(lambda: bert(BertForMaskedLM, 32), 512),
    "naver/efficient-splade-VI-BT-large-doc": Real(distilbert, 512, role="document", bin_weights=True),
    "naver/efficient-splade-VI-BT-large-query": Real(
        lambda: bert(BertForMaskedLM, 128), 512, role="query", bin_weights=True
    ),
    "BAAI/bge-m3": Real(lambda: xlm_roberta(8194), 8192, 1024, "cls", bin_weights=True),
    "Qwen/Qwen3-Embedding-0.6B": Real(
        qwen3, 32768, 1024, "lasttoken", {"query": WEB_SEARCH, "document": ""}, architecture="Qwen3ForCausalLM"
    ),
    "sentence-transformers/all-MiniLM-L6-v2": Real(lambda: bert(BertModel, 384), 256, 384, "mean"),
    "multilingual-e5-large": Real(lambda: xlm_roberta(514), 512, 1024, "mean"),
}
# What stands before a text: the prompts of the files, and those that only a model card names.
PROMPTS = {name: {"query": "", "document": ""} | real.prompts for name, real in REAL.items()}
PROMPTS["multilingual-e5-large"] = {"query": "query: ", "document": "passage: "}


def make(folder: Path, real: Real) -> Path:
    torch.manual_seed(11)
    plain = folder if real.dimension is None else folder / "plain"
    model = real.make()
    model.save_pretrained(plain)
    tiny.tokenizer(left=real.pooling == "lasttoken", length=real.limit).save_pretrained(plain)
    if real.dimension is not None:
        modules = [Transformer(str(plain)), Pooling(real.dimension, pooling_mode=real.pooling), Normalize()]
        SentenceTransformer(modules=modules, device="cpu", prompts=real.prompts or None).save(str(folder))
    if real.architecture is not None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"architectures": [real.architecture]}))
    if real.bin_weights:
        (folder / "model.safetensors").unlink()
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("ids")
    return {name: make(home / name.replace("/", "--"), real) for name, real in REAL.items()}


@pytest.fixture(scope="module")
def url(folders: dict[str, Path]) -> Iterator[str]:
    with local_provider(models=[f"{name}={folder}" for name, folder in folders.items()]) as url:
        yield url


def alone(folder: Path, real: Real, text: str) -> Any:
    """What sentence-transformers gives for a text, prompt included."""
    kind = SparseEncoder if real.dimension is None else SentenceTransformer
    options = {"convert_to_sparse_tensor": False} if real.dimension is None else {}
    model = kind(str(folder), device="cpu", local_files_only=True, model_kwargs={"dtype": torch.float32})
    return model.encode(text, prompt="", convert_to_tensor=True, **options)


@pytest.mark.parametrize("wire", ["chroma", "pinecone"])
@pytest.mark.parametrize("name", REAL)
def test_the_id_gives_its_vectors_in_each_role_on_both_wires(url, folders, name, wire):
    real = REAL[name]
    kind = sparse_embed.SparseEncoder if real.dimension is None else DenseEncoder
    # Over Chroma's wire a request says its role with a task only, and the other encoder of a pair is not asked.
    options = {"task": "", "query_model": name} if wire == "chroma" else {}
    encoder = kind(wire, model=name, base_url=url, api_key="any", **options)
    for role in ("document", "query"):
        if real.role in {None, role}:
            got = encoder.embed_query(TEXT) if role == "query" else encoder.embed_documents([TEXT, "Fox"])[0]
            expected = alone(folders[name], real, PROMPTS[name][role] + TEXT)
            if real.dimension is None:
                found = torch.zeros_like(expected)
                found[list(got.indices)] = torch.tensor(got.values)
                assert got.nnz > 5
            else:
                found = torch.tensor(got)
                assert len(got) == real.dimension
                assert found.norm().item() == pytest.approx(1, abs=1e-5)
            assert (found - expected).abs().max() <= 1e-5
        else:
            with pytest.raises(BadRequestError, match="encoder of a pair"):
                encoder.embed_query(TEXT) if role == "query" else encoder.embed_documents([TEXT])


def test_limits_dimensions_and_prompts_are_told(url):
    told = httpx.get(f"{url}/info", headers={"api-key": "any"}).json()["models"]
    found = {model["name"]: (model["max_tokens"], model["dimension"], model.get("prompts")) for model in told}
    for name, real in REAL.items():
        assert found[name] == (real.limit, real.dimension, PROMPTS[name])


def test_qwen_follows_instructions_and_gives_shorter_vectors(url, folders):
    name = "Qwen/Qwen3-Embedding-0.6B"
    asked = {"base_url": url, "api_key": "any", "model": name}
    got = DenseEncoder("chroma", query_instructions="Find the code", **asked).embed_query(TEXT)
    expected = alone(folders[name], REAL[name], f"Instruct: Find the code\nQuery:{TEXT}")
    assert (torch.tensor(got) - expected).abs().max() <= 1e-5
    short = torch.tensor(DenseEncoder("pinecone", dimension=256, **asked).embed_documents([TEXT])[0])
    whole = alone(folders[name], REAL[name], TEXT)[:256]
    assert (short - whole / whole.norm()).abs().max() <= 1e-5


def test_a_model_without_prompts_refuses_instructions(url):
    for name in ("BAAI/bge-m3", "sentence-transformers/all-MiniLM-L6-v2"):
        with pytest.raises(BadRequestError, match="not trained with instructions"):
            DenseEncoder("chroma", query_instructions="Find", base_url=url, api_key="any", model=name).embed_query(TEXT)


def test_all_seven_ids_are_here():
    open_ids = {model.name for model in MODELS if model.official} - {
        "pinecone-sparse-english-v0",
        "llama-text-embed-v2",
    }
    assert set(REAL) == open_ids
