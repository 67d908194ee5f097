"""Models of every architecture, with random weights and a few thousand words, made on disk in a second each."""

from collections import Counter
from pathlib import Path
from pydoc_data.topics import topics

import torch
from sentence_transformers import SentenceTransformer, SparseEncoder
from sentence_transformers.base.modules import Normalize, Router, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from sentence_transformers.sparse_encoder.modules import SparseAutoEncoder, SparseStaticEmbedding, SpladePooling
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertModel,
    DistilBertConfig,
    DistilBertForMaskedLM,
    ModernBertConfig,
    ModernBertForMaskedLM,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3Model,
    XLMRobertaConfig,
    XLMRobertaForMaskedLM,
)

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
COUNTS = Counter(word for text in topics.values() for word in text.lower().split() if word.isalpha())
WORDS = [word for word, _ in COUNTS.most_common(1500)]
LETTERS = [*"abcdefghijklmnopqrstuvwxyz.,?!'"]
VOCABULARY = [*SPECIAL, *LETTERS, *("##" + letter for letter in LETTERS), *(w for w in WORDS if len(w) > 1)]
LENGTH = 64
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": len(VOCABULARY)}
BERT = SIZES | {"intermediate_size": 64, "max_position_embeddings": LENGTH}


def tokenizer(*, left: bool = False, length: int = LENGTH) -> PreTrainedTokenizerFast:
    made = Tokenizer(models.WordPiece({word: at for at, word in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    ends = "$A [SEP]" if left else "[CLS] $A [SEP]"
    made.post_processor = processors.TemplateProcessing(single=ends, special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "mask_token": "[MASK]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        model_max_length=length,
        padding_side="left" if left else "right",
        **names | ({} if left else {"cls_token": "[CLS]"}),
    )


def language_model(folder: Path, kind: str) -> Path:
    """A plain folder of transformers, as the authors of a SPLADE model often publish it."""
    torch.manual_seed(7)
    made = {
        "bert": lambda: BertForMaskedLM(BertConfig(**BERT)),
        "distilbert": lambda: DistilBertForMaskedLM(
            DistilBertConfig(dim=32, n_layers=2, n_heads=2, hidden_dim=64, vocab_size=len(VOCABULARY))
        ),
        "xlm-roberta": lambda: XLMRobertaForMaskedLM(
            XLMRobertaConfig(**BERT | {"max_position_embeddings": LENGTH + 2}, pad_token_id=0)
        ),
        "modernbert": lambda: ModernBertForMaskedLM(
            ModernBertConfig(
                **BERT, pad_token_id=0, cls_token_id=2, sep_token_id=3, global_attn_every_n_layers=2, local_attention=8
            )
        ),
        "bert without head": lambda: BertModel(BertConfig(**BERT)),
        "qwen3": lambda: Qwen3Model(
            Qwen3Config(**BERT, num_key_value_heads=1, head_dim=16, pad_token_id=0, max_window_layers=2)
        ),
    }[kind]()
    with torch.no_grad():  # random weights are small: larger ones give vectors that differ
        for parameter in made.parameters():
            parameter.mul_(4)
    made.save_pretrained(folder)
    tokenizer(left=kind == "qwen3").save_pretrained(folder)
    return folder


def splade(folder: Path, kind: str, **pooling: str) -> Path:
    plain = language_model(folder.parent / f"{folder.name}-plain", kind)
    modules = [Transformer(str(plain), transformer_task="fill-mask"), SpladePooling(**pooling)]
    SparseEncoder(modules=modules, device="cpu").save(str(folder))
    return folder


def router(folder: Path) -> Path:
    """Queries cost no forward pass: each of their tokens has a fixed weight."""
    plain = language_model(folder.parent / f"{folder.name}-plain", "bert")
    weights = torch.linspace(0.1, 3, len(VOCABULARY))
    weights[:5] = 0
    made = Router.for_query_document(
        query_modules=[SparseStaticEmbedding(tokenizer(), weight=weights)],
        document_modules=[Transformer(str(plain), transformer_task="fill-mask"), SpladePooling()],
    )
    SparseEncoder(modules=[made], device="cpu").save(str(folder))
    return folder


def two_encoders(folder: Path) -> Path:
    """Both roles have a language model of their own."""
    chains = []
    for kind in ("distilbert", "bert"):
        plain = language_model(folder.parent / f"{folder.name}-{kind}", kind)
        chains.append([Transformer(str(plain), transformer_task="fill-mask"), SpladePooling()])
    made = Router.for_query_document(query_modules=chains[0], document_modules=chains[1])
    SparseEncoder(modules=[made], device="cpu").save(str(folder))
    return folder


def autoencoder(folder: Path) -> Path:
    """Sparse, but its ids are no tokens."""
    plain = language_model(folder.parent / f"{folder.name}-plain", "bert without head")
    transformer = Transformer(str(plain))
    torch.manual_seed(3)
    modules = [transformer, Pooling(32), SparseAutoEncoder(input_dim=32, hidden_dim=128, k=8)]
    SparseEncoder(modules=modules, device="cpu", max_active_dims=8).save(str(folder))
    return folder


def dense(
    folder: Path, kind: str = "bert without head", *, prompts: dict[str, str] | None = None, **pooling: object
) -> Path:
    plain = language_model(folder.parent / f"{folder.name}-plain", kind)
    modules = [Transformer(str(plain)), Pooling(32, **pooling), Normalize()]
    SentenceTransformer(modules=modules, device="cpu", prompts=prompts).save(str(folder))
    return folder


MODELS = {
    "bert": lambda at: splade(at, "bert"),
    "bert, sum": lambda at: splade(at, "bert", pooling_strategy="sum"),
    "bert, two logarithms": lambda at: splade(at, "bert", activation_function="log1p_relu"),
    "bert, no modules.json": lambda at: language_model(at, "bert"),
    "distilbert": lambda at: splade(at, "distilbert"),
    "xlm-roberta": lambda at: splade(at, "xlm-roberta"),
    "modernbert": lambda at: splade(at, "modernbert"),
    "router": router,
    "two encoders": two_encoders,
    "autoencoder": autoencoder,
    "dense": dense,
    "dense, prompts": lambda at: dense(at, prompts={"query": "query: ", "document": "passage: "}),
    "dense, prompt left out": lambda at: dense(
        at, prompts={"query": "represent this text: ", "document": ""}, include_prompt=False
    ),
    "qwen3": lambda at: dense(
        at,
        "qwen3",
        prompts={"query": "Instruct: find what answers the question\nQuery:", "document": ""},
        pooling_mode="lasttoken",
    ),
}
