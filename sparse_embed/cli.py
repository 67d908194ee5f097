"""The command line: ``sparse-embed serve`` and ``sparse-embed demo``.

Decides options and what is printed. Leaves the work to the modules it calls.
"""

import os
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, NoReturn

try:
    import typer

    from sparse_embed.server import create_app
    from sparse_embed.server.engines.weights import ModelError
    from sparse_embed.server.models import find_models
    from sparse_embed.server.run import is_loopback, listen, load_models, url_of
    from sparse_embed.server.run import serve as run_server
    from sparse_embed.server.served import Served, Settings
except ModuleNotFoundError as missing:
    # The console script imports this module by itself: the one place where a sentence can replace its traceback.
    if (missing.name or "").partition(".")[0] == "sparse_embed":
        raise
    raise SystemExit(f"sparse-embed: {missing.name} is not installed: pip install 'sparse-embed[cli]'") from None

KEY_VARIABLE = "SPARSE_EMBED_SERVER_KEY"

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_show_locals=False)


class LogLevel(StrEnum):
    """How much the server writes to stderr; info is a line for each request."""

    critical = "critical"
    error = "error"
    warning = "warning"
    info = "info"
    debug = "debug"


class LogFormat(StrEnum):
    """How log lines look."""

    text = "text"
    json = "json"


@app.callback()
def main() -> None:
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
    ] = Settings.max_batch_tokens,
    max_queue_tokens: Annotated[
        int | None,
        typer.Option(min=1, help="Tokens that may wait per model, more is refused. [default: 20 seconds of work]"),
    ] = None,
    log_level: Annotated[LogLevel, typer.Option(help="How much to write to stderr.")] = LogLevel.warning,
    log_format: Annotated[LogFormat, typer.Option(help="How log lines look.")] = LogFormat.text,
) -> None:
    """Run a local provider that speaks the wire of Chroma Cloud Embed and of Pinecone Inference.

    It accepts every key that is not empty, or only the one in the variable SPARSE_EMBED_SERVER_KEY, which is needed to
    listen on more than loopback. (A key is no option: others on the machine could read it in the process list.)
    """
    api_key = os.environ.get(KEY_VARIABLE, "").strip() or None
    if api_key is None and not is_loopback(host):
        typer.echo(f"{host} can be reached from other machines: set {KEY_VARIABLE} first.", err=True)
        raise typer.Exit(2)
    try:
        models = find_models(model or (), revision=revision, download=download)
    except ModelError as error:
        _fail(error)
    try:
        listener = listen(host, port)
    except OSError as error:
        typer.echo(f"Cannot listen on {host} port {port}: {error.strerror or error}", err=True)
        raise typer.Exit(1) from None

    url = url_of(listener)

    def load() -> None:
        for served in models:
            typer.echo(f"Loading {served.name} ({served.files.kind}) from {served.files.source} ...", err=True)
        load_models(models, Settings(device, threads, max_batch_tokens, max_queue_tokens))
        _announce(url, api_key, stand_in=stand_in, models=models)

    served_app = create_app(api_key=api_key, stand_in=stand_in, models=models)
    try:
        run_server(served_app, listener, log_level=log_level.value, log_format=log_format.value, load=load)
    except ModelError as error:
        _fail(error)


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


def _announce(url: str, api_key: str | None, *, stand_in: bool, models: Sequence[Served]) -> None:
    with_weights = "".join(f", {served.name} ({served.files.kind})" for served in models)
    typer.echo(f"Local provider on {url} (Ctrl-C stops it)")
    typer.echo(f"Models: local/bm25 (sparse), local/hashing (dense, no semantics){with_weights}")
    if stand_in:
        typer.echo(
            "Stand-in: these two also answer for the providers' own models. Those answers are NOT their vectors."
        )
    typer.echo("\nPoint clients at it:")
    typer.echo(f"  export CHROMA_EMBED_URL={url} CHROMA_API_KEY={_key_hint(api_key)}")
    typer.echo(f"  export PINECONE_CONTROLLER_HOST={url} PINECONE_API_KEY={_key_hint(api_key)}")


def _fail(error: ModelError) -> NoReturn:
    typer.echo(str(error), err=True)
    raise typer.Exit(1) from None


def _key_hint(api_key: str | None) -> str:
    return "local" if api_key is None else f'"${KEY_VARIABLE}"'
