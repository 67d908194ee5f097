"""The end of a SPLADE model, without the tensor [texts, tokens, vocabulary].

``SpladePooling`` projects every token of a batch, padding included, on the vocabulary and then takes the maximum for
each text: 4.35 GB for 32 texts of 512 tokens. Here each text's own tokens are projected, a few hundred at a time, and
only the maximum is kept (sentence-transformers 6.2, 2026-11).
"""

from typing import Any

import torch
from sentence_transformers import SparseEncoder
from sentence_transformers.base.modules import Router, Transformer
from sentence_transformers.sparse_encoder.modules import SpladePooling
from transformers import PreTrainedModel

TOKENS_AT_ONCE = 512  # 62 MB for a vocabulary of 30,522; more is not faster


class SpladeHead(torch.nn.Module):  # type: ignore[misc]  # torch has no types where types are checked
    """Projection and pooling in one: takes the transformed hidden states, gives what ``SpladePooling`` gives.

    Args:
        projection: The language model's last layer, hidden size to vocabulary.
        pooling: The pooling that it replaces.
    """

    def __init__(self, projection: torch.nn.Module, pooling: SpladePooling) -> None:
        super().__init__()
        self.projection = projection
        self.takes_maximum = pooling.pooling_strategy == "max"
        self.logarithms = 2 if pooling.activation_function == "log1p_relu" else 1

    def forward(self, features: dict[str, Any]) -> dict[str, Any]:
        """Replace the hidden states in ``features`` by one vector per text."""
        mask = features["attention_mask"].bool()
        texts = features.pop("token_embeddings")[mask].split(mask.sum(dim=1).tolist())
        features["sentence_embedding"] = torch.cat([self._pool(group) for group in _groups(texts)])
        return features

    def _pool(self, texts: list[torch.Tensor]) -> torch.Tensor:
        scores = self.projection(torch.cat(texts)).split([len(text) for text in texts])
        if self.takes_maximum:  # of rising functions, so one maximum before them does
            return self._activate(torch.stack([score.amax(dim=0) for score in scores]))
        return torch.stack([self._activate(score).sum(dim=0) for score in scores])

    def _activate(self, scores: torch.Tensor) -> torch.Tensor:
        scores = scores.relu()
        for _ in range(self.logarithms):
            scores = scores.log1p_()
        return scores


def use_splade_heads(model: SparseEncoder) -> None:
    """Replace every SPLADE pooling of a model, those behind a Router too. Other models stay as they are."""
    projections: dict[Transformer, torch.nn.Module] = {}  # two routes may share one transformer
    chains: list[Any] = [model]
    chains += [
        chain for module in model.modules() if isinstance(module, Router) for chain in module.sub_modules.values()
    ]
    for chain in chains:
        for at, (before, pooling) in enumerate(zip(list(chain), list(chain)[1:], strict=False)):
            if isinstance(before, Transformer) and isinstance(pooling, SpladePooling):
                if before not in projections:
                    projections[before] = _detach_projection(before.auto_model)
                chain[at + 1] = SpladeHead(projections[before], pooling)


def _detach_projection(language_model: PreTrainedModel) -> torch.nn.Module:
    """Put an identity in the place of a language model's last layer, and return that layer."""
    projection: torch.nn.Module = language_model.get_output_embeddings()
    # By its name: BERT's `set_output_embeddings` wants a layer with a bias (transformers 5.23).
    name = next(name for name, module in language_model.named_modules() if module is projection)
    parent, _, leaf = name.rpartition(".")
    setattr(language_model.get_submodule(parent), leaf, torch.nn.Identity())
    return projection


def _groups(texts: tuple[torch.Tensor, ...]) -> list[list[torch.Tensor]]:
    """Split texts into runs of some `TOKENS_AT_ONCE` tokens."""
    groups: list[list[torch.Tensor]] = []
    room = 0
    for text in texts:
        if not groups or len(text) > room:
            groups.append([])
            room = TOKENS_AT_ONCE
        groups[-1].append(text)
        room -= len(text)
    return groups
