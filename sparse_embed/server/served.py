"""One model with weights, under the name that clients ask for: from the words of the command line to vectors.

Decides prompts, limits and what an id stands for. Leaves files to ``engines.weights``, batches to ``batching``.
"""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sparse_embed.server.batching import MAX_BATCH_TOKENS, Batch, Batcher, BusyError, Job, StoppedError
from sparse_embed.server.engines import DenseAnswer, Encoder, Question, Role, SparseAnswer, SparseTerms, TooLongError
from sparse_embed.server.engines.weights import ModelError, ModelFiles, find_files
from sparse_embed.server.errors import Refusal, clip

ENGINE = "sentence-transformers"

# Ids that are called otherwise on the hub.
HUB_IDS = {"multilingual-e5-large": "intfloat/multilingual-e5-large"}  # Pinecone's model card, read 2026-11

# Prompts that the authors' model cards ask for, and that are in none of the files (huggingface.co, read 2026-11).
_E5_PROMPTS = {"query": "query: ", "document": "passage: "}
PROMPTS = {f"intfloat/multilingual-e5-{size}": _E5_PROMPTS for size in ("small", "base", "large")}

# Lengths of vectors that were trained to be cut (Matryoshka), and are then brought back to length 1: model cards of the
# authors, read 2026-11.
MATRYOSHKA: dict[str, Sequence[int]] = {
    "Qwen/Qwen3-Embedding-0.6B": range(32, 1024 + 1),
    "Qwen/Qwen3-Embedding-4B": range(32, 2560 + 1),
    "Qwen/Qwen3-Embedding-8B": range(32, 4096 + 1),
    "google/embeddinggemma-300m": (128, 256, 512, 768),
}

# chromadb 1.5.9 `CHROMA_CLOUD_QWEN_DEFAULT_INSTRUCTIONS`, read 2026-11: the one task that it has a text for.
TASKS: dict[str, dict[Role, str]] = {
    "nl_to_code": {
        "document": "",
        "query": "Given a question about coding, retrieval code or passage that can solve user's question",
    }
}

# How models that follow instructions want them: Qwen3-Embedding, multilingual-e5-large-instruct, GTE-Qwen2.
_INSTRUCTED = re.compile(r"(Instruct: ).*(\nQuery: ?)", re.DOTALL)

WARM_UP = "The quick brown fox jumps over the lazy dog. " * 6


@dataclass(frozen=True)
class Settings:
    """How models run.

    Attributes:
        device: Where torch computes; None for the best there is.
        threads: Threads that torch computes with; None for one per core.
        max_batch_tokens: Largest batch, padding included.
        max_queue_tokens: Tokens that may wait per model; None for what it reads in 20 seconds.
    """

    device: str | None = None
    threads: int | None = None
    max_batch_tokens: int = MAX_BATCH_TOKENS
    max_queue_tokens: int | None = None


class Served:
    """A model with weights.

    Args:
        name: The id that clients ask for.
        files: Its files.

    Attributes:
        observe: Told of each batch.
    """

    def __init__(self, name: str, files: ModelFiles) -> None:
        self.name = name
        self.files = files
        self.observe: Callable[[Batch], None] = lambda _: None
        self._encoder: Encoder | None = None
        self._batcher: Batcher | None = None

    @classmethod
    def find(cls, option: str, *, revision: str | None = None, download: bool = False) -> "Served":
        """Find the files of a model; nothing is loaded.

        Args:
            option: ``NAME`` for a model of the hub, ``NAME=PATH`` for a folder or a hub id under another name.
            revision: Branch, tag or commit on the hub.
            download: Whether to fetch from the hub what is not here.

        Raises:
            ModelError: There is none, or it cannot be served.
        """
        name, _, source = option.partition("=")
        if not name:
            raise ModelError(f"{option!r} has no name: give NAME or NAME=PATH")
        try:
            return cls(name, find_files(source or HUB_IDS.get(name, name), revision=revision, download=download))
        except ModelError as error:
            raise ModelError(f"model {name}: {error}") from None

    def load(self, settings: Settings) -> None:
        """Load the model, and run it once.

        Raises:
            ModelError: It cannot be served.
        """
        try:
            from sparse_embed.server.engines import transformers
        except ModuleNotFoundError as missing:
            raise ModelError(f"model {self.name} needs {missing.name}: pip install 'sparse-embed[models]'") from None

        if settings.threads is not None:
            transformers.use_threads(settings.threads)
        try:
            encoder: Encoder = transformers.load(self.files, device=settings.device, prompts=PROMPTS.get(self._hub_id))
        except ModelError as error:
            raise ModelError(f"model {self.name}: {error}") from None
        self.start(encoder, settings)

    def start(self, encoder: Encoder, settings: Settings) -> None:
        """Run a model for the first time, and open its queue."""
        texts = encoder.prepare([WARM_UP] * 4, "document")
        encoder.forward(texts)  # slower than all others
        started = time.monotonic()
        encoder.forward(texts)
        rate = sum(len(text.ids) for text in texts) / (time.monotonic() - started)
        self._encoder = encoder
        self._batcher = Batcher(
            encoder.forward,
            max_batch_tokens=settings.max_batch_tokens,
            max_queue_tokens=settings.max_queue_tokens,
            rate=rate,
            observe=lambda batch: self.observe(batch),  # noqa: PLW0108  # it is set later
        )

    @property
    def ready(self) -> bool:
        """Whether it is loaded."""
        return self._batcher is not None

    @property
    def encoder(self) -> Encoder:
        """The model, loaded."""
        assert self._encoder is not None  # noqa: S101  # nobody asks a model that is not ready
        return self._encoder

    @property
    def batcher(self) -> Batcher:
        """Its queue."""
        assert self._batcher is not None  # noqa: S101  # nobody asks a model that is not ready
        return self._batcher

    def waiting(self) -> tuple[int, int]:
        """Return the number of texts and of tokens in the queue; none before it is loaded."""
        return self._batcher.waiting() if self._batcher is not None else (0, 0)

    @property
    def dimensions(self) -> Sequence[int]:
        """Lengths that its dense vectors can have; a range when there are many."""
        return MATRYOSHKA.get(self._hub_id, (self.encoder.size,))

    @property
    def _hub_id(self) -> str:
        return HUB_IDS.get(self.name, self.name) if self.files.revision is None else self.files.source

    def submit(self, question: Question) -> Job:
        """Put a request in the model's queue.

        Raises:
            Refusal: 400 for what the model cannot do, 429 when the queue is full, 503 when the server stops.
        """
        prompt = self._prompt(question)
        # Over Chroma's default form a query looks like a document, but it comes alone.
        urgent = question.role == "query" or len(question.texts) == 1
        try:
            self.batcher.check_room(urgent=urgent)
            texts = self.encoder.prepare(
                question.texts, question.role, prompt=prompt, max_tokens=question.max_tokens, cut=question.cut
            )
            return self.batcher.submit(texts, urgent=urgent)
        except TooLongError as error:
            raise Refusal(
                400,
                f"text {error.position} has {error.length} tokens, special ones included; {self.name} reads"
                f" {error.limit}: split the text, or let its end be cut",
            ) from None
        except BusyError as error:
            raise Refusal(
                429, f"{self.name} has as many texts waiting as it can read in time", retry_after=error.retry_after
            ) from None
        except StoppedError:
            raise stopping() from None

    def answer(self, question: Question, job: Job) -> SparseAnswer | DenseAnswer:
        """Return what a finished job found, as its request wants it."""
        vectors = job.future.result()
        if self.encoder.vector_type == "sparse":
            terms = self.encoder.terms if question.labelled else lambda _: None
            return SparseAnswer([SparseTerms(ids, weights, terms(ids)) for ids, weights in vectors], job.num_tokens)
        if question.dimension not in {None, self.encoder.size}:
            vectors = [self.encoder.shorten(vector, question.dimension) for vector in vectors]
        return DenseAnswer(vectors, job.num_tokens)

    def _prompt(self, question: Question) -> str:
        own = self.encoder.prompts
        instructions = question.instructions
        if question.task:
            if question.task in own:
                return own[question.task]
            if question.task not in TASKS or not _INSTRUCTED.fullmatch(own["query"]):
                named = ", ".join(name for name in own if own[name]) or "none"
                raise Refusal(
                    400,
                    f"{self.name} has no prompt for task {clip(question.task)}; its prompts: {named}. Leave task empty",
                )
            instructions = TASKS[question.task][question.role]
        if not instructions:
            return own[question.role]
        if not any(own.values()):
            raise Refusal(400, f"{self.name} was not trained with instructions: leave them empty")
        template = _INSTRUCTED.fullmatch(own["query"])
        if template is None or instructions.startswith(template[1]):
            return instructions
        return f"{template[1]}{instructions}{template[2]}"


def stopping() -> Refusal:
    """Return the refusal of a server that stops."""
    return Refusal(503, "the server is stopping; it did not read this request", retry_after=1.0)
