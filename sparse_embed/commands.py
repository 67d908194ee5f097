"""The commands that embed and search: ``sparse-embed embed``, ``search``, ``encode`` and ``check``.

Decides options and what is printed. Leaves the work to the modules it calls, which are imported when they are needed.
"""

import gc
import json
import os
import time
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from textwrap import shorten
from typing import Annotated, Any, Final

import typer

from sparse_embed.encoder import DenseEncoder, SparseEncoder
from sparse_embed.errors import (
    APIConnectionError,
    AuthenticationError,
    ConfigurationError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    SparseEmbedError,
    UnsupportedModelError,
)
from sparse_embed.providers import PROVIDERS
from sparse_embed.vectors import SparseVector

app = typer.Typer()
INTERRUPTED: Final = 130  # as shells report Ctrl-C
NEW_OBJECTS: Final = 200_000  # before garbage is looked for: `embed` makes little, and looking visits all new vectors

Sparse = Annotated[
    str | None,
    typer.Option(
        metavar="PROVIDER[:MODEL]", help="Sparse model: chroma or pinecone. Default: the one whose key is set."
    ),
]


class LayoutName(StrEnum):
    """Columns of the target."""

    plain = "plain"
    pinecone = "pinecone"
    milvus = "milvus"


class OnBadRow(StrEnum):
    """What becomes of a row that cannot be read."""

    fail = "fail"
    skip = "skip"


@app.command()
def embed(  # noqa: PLR0917  # an option of the command is a parameter
    source: Annotated[
        str,
        typer.Argument(help="JSONL, CSV, TSV or Parquet file, folder or quoted glob of them, or - for JSONL on stdin."),
    ],
    target: Annotated[str | None, typer.Argument(help="File that ends in .parquet or .jsonl.")] = None,
    to: Annotated[
        str | None, typer.Option(metavar="qdrant:URL/COLLECTION", help="Write into a store instead of a file.")
    ] = None,
    text: Annotated[str, typer.Option(metavar="COLUMN", help="Column of the texts.")] = "text",
    id: Annotated[  # noqa: A002  # the word of every store
        str | None, typer.Option(metavar="COLUMN", help="Column of the ids. Default: the row's number, from 0.")
    ] = None,
    keep: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="A further column to keep. Repeatable.")
    ] = None,
    sparse: Annotated[
        str | None, typer.Option(metavar="PROVIDER[:MODEL]", help="Sparse model; the provider is chroma or pinecone.")
    ] = None,
    dense: Annotated[
        str | None, typer.Option(metavar="PROVIDER[:MODEL]", help="Dense model, also beside --sparse.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="JSON, TOML or YAML file with sections `sparse` and `dense`: arguments of the encoders."),
    ] = None,
    layout: Annotated[LayoutName, typer.Option(help="Our columns, or those of an importer.")] = LayoutName.plain,
    on_bad_row: Annotated[OnBadRow, typer.Option(help="What to do about a row that cannot be read.")] = OnBadRow.fail,
    part_rows: Annotated[int, typer.Option(min=1, help="Rows that may be received and not saved, at most.")] = 4096,
    price: Annotated[float | None, typer.Option(min=0, help="Price of a million tokens, for the report.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write the closing report to this file, as JSON.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print errors only.")] = False,
) -> None:
    """Embed the texts of a file of any size; the same command goes on where it was stopped.

    Keys are read from CHROMA_API_KEY, PINECONE_API_KEY and QDRANT_API_KEY.
    """
    if (target is None) == (to is None):
        raise typer.BadParameter("give a TARGET or --to, and not both")
    if to is not None and not to.startswith("qdrant:"):
        raise typer.BadParameter("must begin with qdrant: (for other stores, write a file)", param_hint="--to")
    goal = target or to or ""
    sections = {} if config is None else _read_sections(config)
    for kind, option in (("sparse", sparse), ("dense", dense)):
        if option is not None:
            if kind in sections:
                raise typer.BadParameter(f"{config} has a section `{kind}` already", param_hint=f"--{kind}")
            sections[kind] = option
    with _plain_errors():
        from sparse_embed.bulk import embed_file
        from sparse_embed.bulk.progress import Display, closing_lines
    display = Display(quiet=quiet)
    gc.set_threshold(NEW_OBJECTS)
    try:
        with _plain_errors(going_on=display), display.shown(source):
            done = embed_file(
                source,
                goal,
                **sections,
                text=text,
                id=id,
                keep=keep or (),
                layout=layout.value,
                part_rows=part_rows,
                on_bad_row=on_bad_row.value,
                price=price,
                on_progress=display.on_progress,
                on_event=display.on_event,
            )
    except KeyboardInterrupt:
        saved = f"{display.report.rows:,} of {display.report.total:,} rows are saved" if display.report else "stopped"
        typer.echo(f"Interrupted: {saved}. Run the same command again to go on.", err=True)
        raise typer.Exit(INTERRUPTED) from None
    if report is not None:
        report.write_text(done.to_json() + "\n", encoding="utf-8")
    if not quiet:
        finished_before = display.report is None or (to is not None and done.resumed and not done.vectors)
        lines = [f"{goal} is finished already; nothing was sent."] if finished_before else closing_lines(goal, done)
        typer.echo("\n".join(lines))


@app.command()
def search(
    file: Annotated[Path, typer.Argument(help="Parquet or JSONL file that `sparse-embed embed` has written.")],
    query: Annotated[str, typer.Argument(help="What to search for.")],
    sparse: Annotated[
        str | None, typer.Option(metavar="PROVIDER[:MODEL]", help="Sparse model. Default: that of the file.")
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Number of results.")] = 10,
) -> None:
    """Search a file of sparse vectors: the best rows, with the terms that matched."""
    with _plain_errors():
        from sparse_embed.bulk.identity import leaves_idf_to_the_store
        from sparse_embed.bulk.reading import read_index, read_maker
        from sparse_embed.index import Origin

        made = read_maker(file)
        config = sparse or (made and made.arguments)
        if config is None:
            raise ConfigurationError(f"there is no manifest beside {file}: name its model with --sparse")
        index = read_index(file, idf=made is not None and leaves_idf_to_the_store(*made.origin))
        with SparseEncoder.from_config(_named(config, return_tokens=True)) as encoder:
            hits = index.search(encoder.embed_query(query), k, terms=True)
        address = encoder._settings.base_url_for(encoder._provider.endpoint)
        now = Origin.of(encoder)
        if made and (made.address != address or not made.origin.agrees(now)):
            before = f"the file was embedded with {made.origin}, at {made.address}"
            typer.echo(f"Note: {before}; the query with {now}, at {address}.", err=True)
    if not hits:
        typer.echo("No row has a term of the query.")
    for rank, hit in enumerate(hits, 1):
        terms = ", ".join(f"{term} {weight:.2f}" for term, weight in (hit.terms.top(5) if hit.terms else ()))
        typer.echo(f"{rank:>3}. {hit.score:.3f}  {hit.id}  {terms}")
        if hit.metadata:
            shown = "; ".join(f"{name}: {value}" for name, value in hit.metadata.items())
            typer.echo(f"     {shorten(shown, 100)}")


@app.command()
def encode(
    text: Annotated[str, typer.Argument(help="The text.")],
    sparse: Sparse = None,
    query: Annotated[bool, typer.Option("--query", help="Encode it as a query.")] = False,
    top: Annotated[int, typer.Option(min=1, help="Number of terms.")] = 20,
) -> None:
    """Show the terms of a text's sparse vector, heaviest first."""
    with (
        _plain_errors(),
        SparseEncoder.from_config(_named(sparse or _provider_with_key(), return_tokens=True)) as encoder,
    ):
        vector = encoder.embed_query(text) if query else encoder.embed_documents([text])[0]
    terms = vector.top(top)
    width = max((len(str(term)) for term, _ in terms), default=0)
    for term, weight in terms:
        bar = "█" * round(30 * weight / terms[0][1])
        typer.echo(f"{term!s:>{width}} {weight:7.3f} {bar}")
    typer.echo(f"{_terms(vector)}, {encoder.provider}, {encoder.model}{_computed_by(encoder)}", err=True)


@app.command()
def check(
    sparse: Sparse = None,
    dense: Annotated[str | None, typer.Option(metavar="PROVIDER[:MODEL]", help="Dense model to check.")] = None,
) -> None:
    """Send one request and say whether key, address and model work, and what to do if not."""
    with _plain_errors():
        encoders: list[SparseEncoder | DenseEncoder] = []
        if sparse or not dense:
            encoders.append(SparseEncoder.from_config(sparse or _provider_with_key()))
        if dense:
            encoders.append(DenseEncoder.from_config(dense))
    for encoder in encoders:
        _check(encoder)


def _check(encoder: SparseEncoder | DenseEncoder) -> None:
    kind, endpoint = encoder._provider.kind, encoder._provider.endpoint
    with _plain_errors():
        address = encoder._settings.address(endpoint)
    typer.echo(f"provider  {encoder.provider}")
    typer.echo(f"model     {encoder.model} ({kind})")
    typer.echo(f"address   {address.base_url} ({address.route.url_source or 'default'})")
    typer.echo(f"key       from {address.route.key_source}")
    typer.echo(
        f"limits    {encoder._batch_size} texts per request, {encoder._settings.max_concurrency} requests in flight"
    )
    began = time.monotonic()
    try:
        with encoder:
            vector = encoder.embed_query("Does this work?")
    except SparseEmbedError as error:
        typer.echo(f"failed    {type(error).__name__}: {error}", err=True)
        for reason, advice in ADVICE.items():
            if isinstance(error, reason):
                advised = advice.format(endpoint=endpoint, address=address.base_url, kind=kind)
                typer.echo(f"to do     {advised}", err=True)
                break
        raise typer.Exit(1) from None
    size = f"{len(vector)} dimensions" if isinstance(vector, list) else _terms(vector)
    typer.echo(f"works     {size} in {time.monotonic() - began:.2f} s{_computed_by(encoder)}")


ADVICE: Final[Mapping[type[SparseEmbedError], str]] = {
    AuthenticationError: "Copy the key from the provider's console into {endpoint.key_variable}.",
    PermissionDeniedError: "The key is known, and its account may not do this: check plan, payment and permissions.",
    NotFoundError: "Check the model's name, and the address in {endpoint.url_variable}.",
    UnsupportedModelError: "Choose a {kind} model of this provider.",
    RateLimitError: "Wait for the quota to renew, or ask the provider for a higher one.",
    APIConnectionError: "Check that {address} can be reached from here (network, proxy, {endpoint.url_variable}).",
}


def _terms(vector: SparseVector) -> str:
    return f"{vector.nnz} term{'' if vector.nnz == 1 else 's'}"


def _computed_by(encoder: SparseEncoder | DenseEncoder) -> str:
    return f", computed by {encoder.engine}" if encoder.engine else ""


def _provider_with_key() -> str:
    found = [name for name, provider in PROVIDERS.items() if os.environ.get(provider.endpoint.key_variable)]
    if len(found) != 1:
        variables = " and ".join(provider.endpoint.key_variable for provider in PROVIDERS.values())
        raise ConfigurationError(
            f"both of {variables} are set: name the provider, such as --sparse {found[0]}"
            if found
            else f"neither of {variables} is set: set one, or start `sparse-embed serve --stand-in` and paste its lines"
        )
    return found[0]


def _named(config: str | Mapping[str, Any], **arguments: Any) -> dict[str, Any]:  # noqa: ANN401  # an encoder's
    from sparse_embed.providers import read_config

    return read_config(config) | arguments


def _read_sections(path: Path) -> dict[str, Any]:
    try:
        content = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            sections = json.loads(content)
        elif path.suffix == ".toml":
            sections = tomllib.loads(content)
        elif path.suffix in (".yaml", ".yml"):
            import yaml

            sections = yaml.safe_load(content)
        else:
            raise ValueError("its name must end in .json, .toml, .yaml or .yml")
    except ModuleNotFoundError:
        raise typer.BadParameter("YAML needs PyYAML: pip install pyyaml", param_hint="--config") from None
    except (OSError, ValueError) as error:
        raise typer.BadParameter(f"{path}: {error}", param_hint="--config") from None
    surplus = set(sections) - {"sparse", "dense"} if isinstance(sections, dict) else set()
    if not isinstance(sections, dict) or not sections or surplus:
        raise typer.BadParameter(
            f"{path} must have sections `sparse` and `dense`, or one of them"
            + (f", and not {', '.join(sorted(map(repr, surplus)))} beside them" if surplus else ""),
            param_hint="--config",
        )
    return sections


@contextmanager
def _plain_errors(going_on: Any = None) -> Iterator[None]:  # noqa: ANN401  # a Display, whose module needs an extra
    """Errors as a sentence instead of a traceback."""
    try:
        yield
    except ImportError as missing:
        typer.echo(str(missing), err=True)
        raise typer.Exit(1) from None
    except SparseEmbedError as error:
        typer.echo(f"{type(error).__name__}: {error}", err=True)
        if going_on is not None and going_on.report is not None and going_on.report.rows:
            typer.echo("What was embedded before is saved: run the same command again to go on.", err=True)
        raise typer.Exit(1) from None
