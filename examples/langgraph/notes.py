"""A graph with a long-term memory that is searched by meaning: the answer to a note is the earlier notes most like it.

    pip install '.[langchain]' 'langgraph-cli[inmem]'
    export CHROMA_API_KEY=...    # or the variables that `sparse-embed serve --stand-in` prints
    cd examples/langgraph && langgraph dev

``langgraph.json`` names `embeddings` for its store, with the length of the vectors. No file here contains a key.
(`langgraph build` installs the dependencies that ``langgraph.json`` names, which needs the published package.)
"""

from typing import TypedDict
from uuid import uuid4

from langgraph.graph import StateGraph
from langgraph.store.base import BaseStore

from langchain_sparse_embed import init_embeddings

embeddings = init_embeddings("chroma")


class State(TypedDict, total=False):
    """A note, and the earlier notes found for it."""

    note: str
    remembered: list[str]


async def remember(state: State, *, store: BaseStore) -> State:
    """Find the notes most similar to this one, then store it too."""
    found = await store.asearch(("notes",), query=state["note"], limit=2)
    await store.aput(("notes",), str(uuid4()), {"text": state["note"]})
    return {"remembered": [item.value["text"] for item in found]}


graph = StateGraph(State).add_node(remember).set_entry_point("remember").compile()
