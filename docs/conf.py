"""The site: `make site` builds it, with every warning an error."""

import importlib
import re
import subprocess
import sys
from pathlib import Path
from typing import TypeVar

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

import sparse_embed

HERE = Path(__file__).parent
PACKAGES = ("sparse_embed", "langchain_sparse_embed", "llama_index_sparse_embed")

project = "sparse-embed"
author = "sparse-embed"
version = release = sparse_embed.__version__
# autodoc imports with TYPE_CHECKING true, which pydantic does not survive; what is imported already it takes as it is.
for module in (
    *PACKAGES,
    "sparse_embed.server",
    "langchain_sparse_embed.retrievers",
    "llama_index_sparse_embed.retrievers",
):
    importlib.import_module(module)

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_markdown_builder",
]
exclude_patterns = ["_build", "_generated", "upstream", "README.md"]
nitpicky = True

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_class_signature = "mixed"
maximum_signature_line_length = 80
autodoc_typehints_format = "short"
autodoc_mock_imports = ["langchain_milvus", "pymilvus", "llama_index.vector_stores.milvus", "ray"]
napoleon_numpy_docstring = False
napoleon_use_ivar = True
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = "sparse-embed"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_copyright = False
copybutton_exclude = ".linenos, .gp, .go"


def write_command_line(app: Sphinx) -> None:
    """What `typer` says of the parser, for command-line.md."""
    target = HERE / "_generated/command-line.md"
    target.parent.mkdir(exist_ok=True)
    command = ["sparse_embed.cli", "utils", "docs", "--name", "sparse-embed", "--title", "Command line"]
    subprocess.run([sys.executable, "-m", "typer", *command, "--output", target], check=True, capture_output=True)


def resolve(app: Sphinx, env: BuildEnvironment, node: pending_xref, text: nodes.Element) -> nodes.Element | None:
    """Find our objects under their public names; leave those of other packages as text.

    Annotations name the module that defines a class; readers know it by the package that exports it.
    """
    target = node["reftarget"]
    package, _, rest = target.partition(".")
    if node["reftype"] == "obj" or package not in PACKAGES or not rest:
        return text  # `single backticks` that name no object, or a type of another package
    name = target.rpartition(".")[2]
    objects = env.domains.python_domain.objects
    found = [known for known in objects if known.rpartition(".")[2] == name and same(known, target)]
    if not found:
        internal = target.startswith(("sparse_embed.server.", "sparse_embed.transport."))  # no user makes these
        return text if internal or isinstance(load(target), TypeVar) else None
    return env.domains.python_domain.resolve_xref(
        env, node["refdoc"], app.builder, "obj", min(found, key=len), node, text
    )


def same(one: str, other: str) -> bool:
    """Whether two dotted names are one object."""
    return load(one) is load(other) is not None


def load(dotted: str) -> object | None:
    module, _, name = dotted.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name, None)
    except ImportError:
        return None


# What pydantic and the frameworks make of every class.
INHERITED = {
    "class_name",
    "is_lc_serializable",
    "lc_attributes",
    "lc_secrets",
    "model_config",
    "model_copy",
    "num_workers",
}
INHERITED |= {"callback_manager", "embeddings_cache"}


def skip_inherited(app: Sphinx, what: str, name: str, member: object, skip: bool, options: object) -> bool | None:
    """Leave out what a class inherits from a framework, pydantic or Python."""
    if name in INHERITED or type(member).__name__ == "_tuplegetter":  # "Alias for field number 0"
        return True
    module = getattr(getattr(member, "fget", member), "__module__", None) or ""
    return True if callable(member) and module.partition(".")[0] not in PACKAGES else None


def name_vectors(
    app: Sphinx, what: str, name: str, member: object, options: object, arguments: str | None, returns: str | None
) -> tuple[str | None, str | None] | None:
    """The two encoders share their methods; each reader wants to see the type of one.

    Errors are not made by users, and a pydantic model lists its fields as parameters below.
    """
    if what == "exception":
        return "", None
    if what == "class" and hasattr(member, "model_fields"):
        return "(**settings)", None
    if returns is None:
        return None
    vector = "~sparse_embed.SparseVector" if ".SparseEncoder." in name else "tuple[float, ...]"
    return arguments, re.sub(r"~?sparse_embed\.encoder\.V\b", vector, returns)


def write_for_models(app: Sphinx, failed: Exception | None) -> None:
    """Beside the pages, what language models read (llmstxt.org): llms.txt, llms-full.txt, and each page in Markdown."""
    if failed or app.builder.name != "markdown":
        return
    env, site = app.env, HERE / "_build/html"
    index, full = [f"# {project}", "", "> Sparse and dense embeddings for LangChain and LlamaIndex.", ""], []
    for page in list_pages(env, "index"):
        text = (Path(app.outdir) / f"{page}.md").read_text()
        (site / f"{page}.md").write_text(text)
        index.append(f"- [{env.titles[page].astext()}]({page}.md)")
        full.append(text)
    (site / "llms.txt").write_text("\n".join(index) + "\n")
    (site / "llms-full.txt").write_text("\n\n".join(full))


def list_pages(env: BuildEnvironment, page: str) -> list[str]:
    """A page and those below it, in the order of the navigation."""
    below = [each for child in env.toctree_includes.get(page, []) for each in list_pages(env, child)]
    return [page, *below]


def setup(app: Sphinx) -> None:
    # `*` and `/` in signatures, which the Markdown builder does not know
    app.registry.add_translation_handlers(nodes.abbreviation, markdown=(lambda *_: None, lambda *_: None))
    app.connect("autodoc-process-signature", name_vectors)
    app.connect("build-finished", write_for_models)
    app.connect("autodoc-skip-member", skip_inherited)
    app.connect("builder-inited", write_command_line)
    app.connect("missing-reference", resolve)
