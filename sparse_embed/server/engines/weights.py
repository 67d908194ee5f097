"""Where a model's files are, and what they say: found, fetched, and refused before anything is loaded.

Decides sparse or dense from the files alone. Leaves loading to ``transformers``. Everything refused here or there would
load without an error and give wrong vectors, or end in a traceback that names no file of the user.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparse_embed.server.engines import VectorType

SPARSE_MODULES = {"SpladePooling", "SparseAutoEncoder", "SparseStaticEmbedding"}
KINDS: dict[str, VectorType] = {"SparseEncoder": "sparse", "SentenceTransformer": "dense"}
# What sentence-transformers does not read; some repositories hold a model five times over.
NOT_FETCHED = ["onnx/*", "openvino/*", "coreml/*", "*.onnx", "*.h5", "*.ot", "*.msgpack", "*.gguf", "*.tflite"]
# Nor these, where the same weights are there as safetensors, which load faster and hold no code.
OLDER_WEIGHTS = ["*.bin", "*.pt"]

_HUB_ID = re.compile(r"[\w][\w.-]*(/[\w][\w.-]*)?")


class ModelError(Exception):
    """A model that cannot be served; the message names it and says what to do."""


@dataclass(frozen=True)
class ModelFiles:
    """The files of one model.

    Attributes:
        folder: Where they are.
        source: Folder or hub id that the user named.
        revision: The hub's commit, None for a folder.
        kind: What the model gives.
    """

    folder: Path
    source: str
    revision: str | None
    kind: VectorType


def find_files(source: str, *, revision: str | None = None, download: bool = False) -> ModelFiles:
    """Find a model in a folder or among the hub's downloads, and read what it gives.

    Args:
        source: A folder, or a hub id such as ``BAAI/bge-m3``.
        revision: Branch, tag or commit on the hub.
        download: Whether to fetch from the hub what is not here.

    Raises:
        ModelError: There is none, or it cannot be served.
    """
    folder = Path(source).expanduser()
    commit = None
    if not folder.exists() and _HUB_ID.fullmatch(source):
        try:
            folder = _fetch(source, revision) if download else _find_download(source, revision)
        except ModuleNotFoundError as missing:
            raise ModelError(f"a model of the hub needs {missing.name}: pip install 'sparse-embed[models]'") from None
        commit = folder.name
    elif revision is not None:
        raise ModelError(f"{source} is a folder: --revision is for models of the hub")
    if not folder.is_dir():
        raise ModelError(f"{source} is not a folder" if folder.exists() else f"there is no folder {source}")
    return ModelFiles(folder, source, commit, read_kind(folder))


def read_kind(folder: Path) -> VectorType:
    """Return what the model of a folder gives.

    Raises:
        ModelError: The folder does not say, or holds something else.
    """
    config = _read_json(folder / "config_sentence_transformers.json")
    declared = config.get("model_type", "SentenceTransformer")
    if not (folder / "modules.json").exists():
        architectures = _read_json(folder / "config.json").get("architectures") or []
        if any(name.endswith("ForMaskedLM") for name in architectures):
            return "sparse"  # SPLADE, as sentence-transformers takes it: maximum over the tokens
        if not (folder / "config.json").exists():
            raise ModelError(f"{folder} holds no model: neither modules.json nor config.json is there")
        raise ModelError(
            f"{folder} holds {', '.join(architectures) or 'a model'} without modules.json: nothing says how the vectors"
            " of tokens become one. Load it with sentence-transformers as its authors say, and save it with save()"
        )
    modules = _module_classes(folder)
    foreign = [name for name in modules if not name.startswith("sentence_transformers.")]
    if foreign:
        raise ModelError(f"{folder} runs code of its own, {foreign[0]}: such models are not loaded")
    if declared not in KINDS:
        raise ModelError(f"{folder} holds a {declared}, which gives no vector per text")
    kind: VectorType = "sparse" if SPARSE_MODULES & {name.rpartition(".")[2] for name in modules} else "dense"
    if kind != KINDS[declared]:
        raise ModelError(
            f"{folder} contradicts itself: config_sentence_transformers.json says {declared},"
            f" and the modules of modules.json give {kind} vectors"
        )
    return kind


def _module_classes(folder: Path) -> list[str]:
    """Return the classes that a folder names, those behind a Router too."""
    classes = []
    for module in _read_json(folder / "modules.json"):
        classes.append(module["type"])
        for name in ("router_config.json", "config.json"):  # the second one in files of older versions
            types = _read_json(folder / module["path"] / name).get("types")
            if classes[-1].endswith((".Router", ".Asym")) and types:
                classes += types.values()
                break
    return classes


def _read_json(file: Path) -> Any:  # noqa: ANN401  # whatever a file of the hub holds
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ModelError(f"{file} is not JSON: {error}") from None


def _find_download(source: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        # huggingface_hub 2.4 takes a download for incomplete that lacks a file which is not ignored here.
        ignored = [*NOT_FETCHED, *OLDER_WEIGHTS]
        return Path(snapshot_download(source, revision=revision, ignore_patterns=ignored, local_files_only=True))
    except LocalEntryNotFoundError:
        at = f" --revision {revision}" if revision else ""
        raise ModelError(
            f"there is no folder {source}, and no model of that name was downloaded before."
            f" From the Hugging Face hub it comes with: sparse-embed serve --model {source}{at} --download"
        ) from None


def _fetch(source: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download

    try:
        # A hub that cannot be reached is no error where the files are here.
        ignored = [*NOT_FETCHED, *OLDER_WEIGHTS]
        folder = Path(snapshot_download(source, revision=revision, ignore_patterns=ignored))
        if not any(folder.rglob("*.safetensors")):
            folder = Path(snapshot_download(source, revision=revision, ignore_patterns=NOT_FETCHED))
    except Exception as error:  # noqa: BLE001  # network, rights, disk: whatever it is, the user needs the sentence
        raise ModelError(f"{source} cannot be downloaded: {first_line(error)}") from None
    return folder


def first_line(error: Exception) -> str:
    """Return what a library says of an error, in one line."""
    return f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), 'no message')}"
