"""The command line: ``sparse-embed serve``, ``sparse-embed bm25-length`` and ``sparse-embed demo``.

Decides options and what is printed. Leaves the work to the modules it calls. Each command imports the local provider
itself: the commands of ``commands`` start in half the time without it.
"""

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

from sparse_embed import __version__

if TYPE_CHECKING:
    from sparse_embed.server.engines.bm25 import Bm25
    from sparse_embed.server.engines.weights import ModelError
    from sparse_embed.server.served import Served


@contextmanager
def _complete() -> Iterator[None]:
    """Around imports: a missing package as a sentence instead of a traceback."""
    try:
        yield
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] == "sparse_embed":
            raise
        raise SystemExit(f"sparse-embed: {missing.name} is not installed: pip install 'sparse-embed[cli]'") from None


with _complete():
    import typer

    from sparse_embed import commands

KEY_VARIABLE = "SPARSE_EMBED_SERVER_KEY"

# Without markup: rich would take the brackets of an extra, [all], for a style and hide them.
app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_show_locals=False, rich_markup_mode=None
)
app.add_typer(commands.app)


class LogLevel(StrEnum):
    """How much the server writes to stderr; info is one line per request."""

    critical = "critical"
    error = "error"
    warning = "warning"
    info = "info"
    debug = "debug"


class LogFormat(StrEnum):
    """How log lines look."""

    text = "text"
    json = "json"


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"sparse-embed {__version__}")
        raise typer.Exit


@app.callback()
def main(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Sparse and dense embeddings from Chroma Cloud, Pinecone Inference, or this machine."""


@app.command()
def serve(
    *,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8900,
    stand_in: Annotated[
        bool,
        typer.Option("--stand-in", help="Answer for the providers' own models too, with local/bm25 and local/hashing."),
    ] = False,
    bm25: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[,OPTION=VALUE...]",
            help="A further BM25 model, e.g. de,language=german,document-length=90; also stop-words=FILE. Repeatable.",
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[=PATH]",
            help="An open model under this name, from a folder or the Hugging Face hub. Repeatable. Needs the extra"
            " `models`.",
        ),
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Commit, tag or branch of the hub, for one model.")] = None,
    download: Annotated[bool, typer.Option("--download", help="Fetch from the hub what is not here yet.")] = False,
    device: Annotated[str | None, typer.Option(help="Where models run: cpu, cuda, mps ... [default: the best]")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads that models compute with.")] = None,
    max_batch_tokens: Annotated[
        int, typer.Option(min=1, help="Largest batch of a model, padding included; more for a GPU.")
    ] = 512,  # as in the server's Settings
    max_queue_tokens: Annotated[
        int | None,
        typer.Option(min=1, help="Tokens that may wait per model, more is refused. [default: 20 seconds of work]"),
    ] = None,
    log_level: Annotated[LogLevel, typer.Option(help="How much to write to stderr.")] = LogLevel.warning,
    log_format: Annotated[LogFormat, typer.Option(help="How log lines look.")] = LogFormat.text,
) -> None:
    """Run a local provider that speaks the wire formats of Chroma Cloud Embed and of Pinecone Inference.

    It accepts every key that is not empty. If the variable SPARSE_EMBED_SERVER_KEY is set, it accepts only that key; to
    listen on more than loopback, it must be set. (There is no option for the key, because other users of the machine
    could read it in the process list.)
    """
    with _complete():
        from sparse_embed.server import create_app, own_bm25
        from sparse_embed.server.engines.weights import ModelError
        from sparse_embed.server.models import find_models
        from sparse_embed.server.run import is_loopback, listen, load_models, url_of
        from sparse_embed.server.run import serve as run_server
        from sparse_embed.server.served import Settings
    try:
        socket.getaddrinfo(host, port)
    except (socket.gaierror, UnicodeError):  # a name that IDNA does not allow is a UnicodeError
        raise typer.BadParameter(f"this machine knows no host {host!r}", param_hint="--host") from None
    api_key = os.environ.get(KEY_VARIABLE, "").strip() or None
    if api_key is None and not is_loopback(host):
        typer.echo(f"Other machines can reach host {host!r}: set {KEY_VARIABLE} first.", err=True)
        raise typer.Exit(2)
    try:
        models = find_models(model or (), revision=revision, download=download)
    except ModelError as error:
        _fail(error)
    try:
        further = [own_bm25.read_option(option) for option in bm25 or ()]
        served = create_app(api_key=api_key, stand_in=stand_in, own_bm25=further, models=models)
    except ValueError as error:
        typer.echo(f"--bm25: {error}", err=True)
        raise typer.Exit(2) from None
    try:
        listener = listen(host, port)
    except OSError as error:
        said = error.strerror or error
        typer.echo(f"Cannot listen on {host} port {port}: {said} (--port 0 takes a free one)", err=True)
        raise typer.Exit(1) from None

    url = url_of(listener)

    def load() -> None:
        for found in models:
            typer.echo(f"Loading {found.name} ({found.files.kind}) from {found.files.source} ...", err=True)
        load_models(models, Settings(device, threads, max_batch_tokens, max_queue_tokens))
        _announce(url, api_key, stand_in=stand_in, own_bm25=further, models=models)

    try:
        run_server(served, listener, log_level=log_level.value, log_format=log_format.value, load=load)
    except ModelError as error:
        _fail(error)


@app.command()
def bm25_length(
    file: Annotated[Path, typer.Argument(help="UTF-8, one document per line; .jsonl: objects with a `text`.")],
    language: Annotated[str, typer.Option(help="Language of the documents.")] = "english",
    stop_words: Annotated[Path | None, typer.Option(help="File of stop words, for another list.")] = None,
) -> None:
    """Print the mean length of a file's documents, for `document-length` of serve's --bm25."""
    with _complete():
        from sparse_embed.server import own_bm25
    try:
        mean, documents = own_bm25.measure_length(file, own_bm25.read_language(language, stop_words))
    except ValueError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    typer.echo(f"{mean:.1f}")
    typer.echo(f"words per document, without stop words, in {documents:,} documents", err=True)


class ProviderName(StrEnum):
    """The real providers."""

    chroma = "chroma"
    pinecone = "pinecone"


@app.command()
def demo(
    provider: Annotated[
        ProviderName | None, typer.Option(help="Use the real service, with its key in the environment.")
    ] = None,
    sparse_model: Annotated[
        str | None,
        typer.Option(metavar="NAME[=PATH]", help="An open model instead of BM25, as of serve's --model."),
    ] = None,
    dense_model: Annotated[
        str | None,
        typer.Option(metavar="NAME[=PATH]", help="An open model instead of hashed n-grams, as of serve's --model."),
    ] = None,
) -> None:
    """Search Python's own documentation with both frameworks; no account is needed.

    Needs the extra `all`: pip install 'sparse-embed[all]'; for models also the extra `models`.
    """
    if provider is not None and (sparse_model or dense_model):
        typer.echo("--provider has its own models: leave --sparse-model and --dense-model out", err=True)
        raise typer.Exit(2)
    try:
        from sparse_embed.demo import run
    except ModuleNotFoundError as missing:
        typer.echo(f"The demo needs {missing.name}: pip install 'sparse-embed[all]'", err=True)
        raise typer.Exit(1) from None
    from rich.console import Console

    from sparse_embed.errors import SparseEmbedError
    from sparse_embed.server.engines.weights import ModelError

    try:
        run(
            None if provider is None else provider.value,
            Console(),
            sparse_model=sparse_model,
            dense_model=dense_model,
        )
    except ModelError as error:
        _fail(error)
    except SparseEmbedError as error:
        typer.echo(f"{type(error).__name__}: {error}", err=True)
        raise typer.Exit(1) from None


def _announce(
    url: str, api_key: str | None, *, stand_in: bool, own_bm25: "Sequence[Bm25]", models: "Sequence[Served]"
) -> None:
    further = "".join(f", {engine.name} (sparse)" for engine in own_bm25)
    further += "".join(f", {model.name} ({model.files.kind})" for model in models)
    typer.echo(f"Local provider on {url} (Ctrl-C stops it)")
    typer.echo(f"Models: local/bm25 (sparse), local/hashing (dense, no semantics){further}")
    if stand_in:
        typer.echo(
            "Stand-in: these two also answer for the providers' own models. Those answers are NOT their vectors."
        )
    typer.echo(f"Playground: open {url} in a browser")
    typer.echo("\nPoint clients at it:")
    typer.echo(f"  export CHROMA_EMBED_URL={url} CHROMA_API_KEY={_key_hint(api_key)}")
    typer.echo(f"  export PINECONE_CONTROLLER_HOST={url} PINECONE_API_KEY={_key_hint(api_key)}")


def _fail(error: "ModelError") -> NoReturn:
    typer.echo(str(error), err=True)
    raise typer.Exit(1) from None


def _key_hint(api_key: str | None) -> str:
    return "local" if api_key is None else f'"${KEY_VARIABLE}"'
