"""Open models with sentence-transformers: token ids in, vectors out. Imported on first use: torch alone takes seconds.

Decides how a model is loaded and when it is refused. Leaves its files to ``weights``, batches to ``batching``.
"""

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sparse_embed.server.engines import NO_LIMIT, Role, SparseRow, Tokens, TooLongError, VectorType
from sparse_embed.server.engines.weights import ModelError, ModelFiles, first_line

# Threads of OpenMP that spin while they wait take the processors from the tokenizer and the server: 12 instead of
# 75 texts per second on two cores. Read when torch is loaded (GNU OpenMP; 2026-11).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# oneDNN keeps the kernels of the last 1,024 shapes, and nearly every batch has another: 200 MB after some minutes, and
# no text faster; a model's own layers have about ten. Read when torch is loaded
# (https://oneapi-src.github.io/oneDNN/dev_guide_primitive_cache.html, 2026-11).
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "32")

import torch
import transformers
from sentence_transformers import SentenceTransformer, SparseEncoder
from sentence_transformers.base.model import BaseModel
from sentence_transformers.base.modules import InputModule, Normalize, Router
from sentence_transformers.sparse_encoder.modules import SparseStaticEmbedding, SpladePooling
from sentence_transformers.util import select_max_active_dims

from sparse_embed.server.engines.splade_head import use_splade_heads

ROLES: tuple[Role, ...] = ("document", "query")
DOCUMENT_PROMPTS = ("document", "passage", "corpus")  # as `encode_document` looks for them
PROBES = ("The quick brown fox jumps over the lazy dog, and then it rests in the warm sun.", "Fox")
TOLERANCE = 1e-4


def use_threads(count: int) -> None:
    """Let torch compute with so many threads, in the whole process."""
    torch.set_num_threads(count)


def load(
    files: ModelFiles, *, device: str | None = None, prompts: Mapping[str, str] | None = None
) -> "TransformersEncoder":
    """Load a model, and check that it gives the vectors that sentence-transformers gives.

    Args:
        files: Its files.
        device: Where torch computes: ``cpu``, ``cuda``, ``mps``; None for the best there is.
        prompts: Prompts that its authors ask for and its files do not hold.

    Raises:
        ModelError: It cannot be served.
    """
    transformers.utils.logging.disable_progress_bar()
    kind = SparseEncoder if files.kind == "sparse" else SentenceTransformer
    try:
        with _missing_weights() as missing:
            model = kind(
                str(files.folder),
                device=device,
                local_files_only=True,
                model_kwargs={"dtype": torch.float32},  # bfloat16 moves by 1e-3 with the texts of the batch
                prompts=dict(prompts or {}),
            )
        if missing:
            raise ModelError(
                f"weights are missing in its files, {len(missing)} with {sorted(missing)[0]}:"
                " they would be random numbers. Fetch the files again"
            )
        for role in ROLES:
            _check_tokenizer(_input_module(model, role))
        return TransformersEncoder(model.float().eval())
    except ModelError as error:
        raise ModelError(f"{files.folder} cannot be served: {error}") from None
    except Exception as error:
        raise ModelError(f"{files.folder} cannot be loaded: {first_line(error)}") from error


class TransformersEncoder:
    """A model of sentence-transformers. See `Encoder` for what it promises.

    Args:
        model: The model in evaluation mode; SPLADE poolings in it are replaced.

    Raises:
        ModelError: It answers otherwise here than by itself.
    """

    def __init__(self, model: BaseModel) -> None:
        self._model = model
        self._lock = threading.Lock()  # a tokenizer changes its settings from call to call
        self._inputs = {role: _input_module(model, role) for role in ROLES}
        self.sparse = isinstance(model, SparseEncoder)
        self.vector_type: VectorType = "sparse" if self.sparse else "dense"
        self.limits: Mapping[Role, int] = {
            role: min(module.max_seq_length or NO_LIMIT, NO_LIMIT) for role, module in self._inputs.items()
        }
        for module in self._inputs.values():
            if isinstance(module, SparseStaticEmbedding):
                module.tokenizer.model_max_length = NO_LIMIT  # it takes no options, so its texts are cut here
        self.prompts: Mapping[str, str] = _prompts(model)
        modules = list(model.modules())
        self._leaves_prompt_out = any(not getattr(module, "include_prompt", True) for module in modules)
        self._normalizes = any(isinstance(module, Normalize) for module in modules)
        reference = self._encode_probes()
        self.size = reference["document"].shape[1]
        if self.sparse:
            use_splade_heads(model)
        self._check(reference)
        self._terms: list[str] | None = None
        if any(isinstance(module, SpladePooling | SparseStaticEmbedding) for module in modules):
            tokenizer = self._inputs["document"].tokenizer
            self._terms = [str(term) for term in tokenizer.convert_ids_to_tokens(range(self.size))]

    def prepare(
        self, texts: Sequence[str], role: Role, *, prompt: str = "", max_tokens: int | None = None, cut: bool = True
    ) -> list[Tokens]:
        """Return the token ids of each text, as sentence-transformers makes them."""
        limit = min(max_tokens or NO_LIMIT, self.limits[role])
        options = {"truncation": True, "max_length": limit} if cut and limit < NO_LIMIT else {"truncation": False}
        with self._lock:
            features = self._model.preprocess(
                list(texts), prompt=prompt or None, task=role, processing_kwargs={"text": options | {"verbose": False}}
            )
        prompt_length = features.get("prompt_length", 0) if self._leaves_prompt_out else 0
        prepared = []
        for position, (row, mask) in enumerate(zip(features["input_ids"], features["attention_mask"], strict=True)):
            ids = row[mask.bool()].tolist()
            if len(ids) > limit and not cut:
                raise TooLongError(position, len(ids), limit)
            prepared.append(Tokens(ids[:limit], role, prompt_length))
        return prepared

    def forward(self, batch: Sequence[Tokens]) -> Sequence[SparseRow] | Sequence[list[float]]:
        """Return one vector per text."""
        vectors = self._run(batch)
        if not torch.isfinite(vectors).all():
            raise ArithmeticError("the model gave numbers that are not finite")
        if not self.sparse:
            numbers: list[list[float]] = vectors.tolist()
            return numbers
        rows, columns = vectors.nonzero(as_tuple=True)
        counts = torch.bincount(rows, minlength=len(batch)).tolist()
        indices, values = columns.split(counts), vectors[rows, columns].split(counts)
        return [(ids.tolist(), weights.tolist()) for ids, weights in zip(indices, values, strict=True)]

    def shorten(self, vector: list[float], dimension: int) -> list[float]:
        """Return the first numbers of a dense vector, of length 1 again where the model's vectors are."""
        head = torch.tensor(vector[:dimension])
        shortened: list[float] = (torch.nn.functional.normalize(head, dim=0) if self._normalizes else head).tolist()
        return shortened

    def terms(self, indices: Sequence[int]) -> list[str] | None:
        """Return the model's own tokens for the ids of a sparse vector; None when its ids are no tokens."""
        return None if self._terms is None else [self._terms[index] for index in indices]

    def _run(self, batch: Sequence[Tokens]) -> torch.Tensor:
        role = batch[0].role
        # Padding on the right moves no text's positions, whichever way a model looks.
        shape = len(batch), max(1, *(len(text.ids) for text in batch))
        ids = torch.full(shape, self._inputs[role].tokenizer.pad_token_id or 0)
        mask = torch.zeros(shape, dtype=torch.int64)
        for row, text in enumerate(batch):
            ids[row, : len(text.ids)] = torch.tensor(text.ids, dtype=torch.int64)
            mask[row, : len(text.ids)] = 1
        features = {"input_ids": ids.to(self._model.device), "attention_mask": mask.to(self._model.device)}
        if batch[0].prompt_length:
            features["prompt_length"] = batch[0].prompt_length
        kept = getattr(self._model, "max_active_dims", None)
        options = {} if kept is None else {"max_active_dims": kept}
        with torch.inference_mode():
            vectors: torch.Tensor = self._model(features, task=role, **options)["sentence_embedding"]
            return (vectors if kept is None else select_max_active_dims(vectors, max_active_dims=kept)).cpu()

    def _encode_probes(self) -> dict[Role, torch.Tensor]:
        options = {"convert_to_sparse_tensor": False} if self.sparse else {}

        def encode(text: str, role: Role) -> torch.Tensor:
            prompt = self.prompts[role]
            return self._model.encode(text, prompt=prompt, task=role, convert_to_tensor=True, **options).cpu()

        return {role: torch.stack([encode(text, role) for text in PROBES]) for role in ROLES}

    def _check(self, reference: Mapping[Role, torch.Tensor]) -> None:
        """Compare a batch of ours with each text alone: padding, head, prompt and route all have a part in it."""
        for role in ROLES:
            ours = self._run(self.prepare(PROBES, role, prompt=self.prompts[role]))
            if not torch.allclose(ours, reference[role], rtol=TOLERANCE, atol=TOLERANCE):
                off = (ours - reference[role]).abs().max().item()
                raise ModelError(f"its vectors in a batch are off by {off:.2g} from those that it gives by itself")


@contextmanager
def _missing_weights() -> Iterator[set[str]]:
    """Collect the names of weights that are not in the files: transformers makes them up, and only logs it."""
    missing: set[str] = set()
    original = transformers.PreTrainedModel.from_pretrained.__func__

    def from_pretrained(cls: type, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  # what it stands for takes any
        model, info = original(cls, *args, output_loading_info=True, **kwargs)
        # Many files lack the pooler of BERT, which none of these models uses.
        missing.update(name for name in info["missing_keys"] if not name.startswith("pooler."))
        return model

    transformers.PreTrainedModel.from_pretrained = classmethod(from_pretrained)
    try:
        yield missing
    finally:
        transformers.PreTrainedModel.from_pretrained = classmethod(original)


def _check_tokenizer(module: InputModule) -> None:
    """Refuse a tokenizer made of nothing: without its files, transformers gives one of special tokens only."""
    if isinstance(module, SparseStaticEmbedding):
        needed = module.num_dimensions
    elif hasattr(module, "config"):
        needed = module.config.vocab_size
    else:
        raise ModelError(f"a {type(module).__name__} reads its texts, which is not supported")
    known = len(module.tokenizer)
    if not 0.9 * needed <= known <= needed:  # vocabularies are padded to round numbers
        raise ModelError(f"its tokenizer knows {known} tokens, the model {needed}: files of the tokenizer are missing")


def _input_module(model: BaseModel, role: Role) -> InputModule:
    first = model[0]
    if not isinstance(first, Router):
        return first
    return first.sub_modules[role if role in first.sub_modules else first.default_route][0]


def _prompts(model: BaseModel) -> dict[str, str]:
    """Return the prompts that are not empty, and those of the two roles in any case."""
    own = {name: prompt for name, prompt in model.prompts.items() if prompt}
    default = own.get(model.default_prompt_name, "")
    document = next((own[name] for name in DOCUMENT_PROMPTS if name in own), default)
    return own | {"query": own.get("query", default), "document": document}
