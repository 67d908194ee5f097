"""A model with weights without weights: for what the server does around a model."""

import threading
from pathlib import Path

from sparse_embed.server.engines import Tokens, TooLongError
from sparse_embed.server.engines.weights import ModelFiles
from sparse_embed.server.served import Served

PROMPTS = {"query": "", "document": ""}


class Toy:
    """A word is a token, its length the id, its count the weight. Runs only while the gate is open."""

    size = 100

    def __init__(self, vector_type="sparse", limit=64, prompts=None):
        self.vector_type = vector_type
        self.limits = {"document": limit, "query": limit}
        self.prompts = PROMPTS | (prompts or {})
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()

    def prepare(self, texts, role, *, prompt="", max_tokens=None, cut=True):
        limit = min(max_tokens or self.limits[role], self.limits[role])
        prepared = []
        for position, text in enumerate(texts):
            ids = [len(word) for word in (prompt + text).split()]
            if len(ids) > limit and not cut:
                raise TooLongError(position, len(ids), limit)
            prepared.append(Tokens(ids[:limit], role))
        return prepared

    def forward(self, batch):
        self.entered.set()
        assert self.gate.wait(20)
        if any(len("unfortunately") in text.ids for text in batch):
            raise ValueError("the bug of a model")
        counts = [{i: float(text.ids.count(i)) for i in sorted(set(text.ids))} for text in batch]
        if self.vector_type == "sparse":
            return [(list(count), list(count.values())) for count in counts]
        return [[count.get(at, 0.0) for at in range(self.size)] for count in counts]

    def shorten(self, vector, dimension):
        return vector[:dimension]

    def terms(self, indices):
        return ["#" * index for index in indices]


def served(name, encoder):
    """The model as the command line would make it, before it is started."""
    return Served(name, ModelFiles(Path(), "toy", None, encoder.vector_type))
