"""A graph with a long-term memory that is searched by meaning: each note is answered with earlier notes like it.

    pip install 'sparse-embed[langchain]' 'langgraph-cli[inmem]'
    export CHROMA_API_KEY=...
    cd examples/langgraph && langgraph dev

``langgraph.json`` names `embeddings` for its store, with the length of its vectors. No file here holds a key.
"""

from typing import TypedDict
from uuid import uuid4

from langgraph.graph import StateGraph
from langgraph.store.base import BaseStore

from langchain_sparse_embed import init_embeddings

embeddings = init_embeddings("chroma")


class State(TypedDict, total=False):
    """A note, and what it brought to mind."""

    note: str
    remembered: list[str]


async def remember(state: State, *, store: BaseStore) -> State:
    """Find the notes nearest to this one, then keep it too."""
    found = await store.asearch(("notes",), query=state["note"], limit=2)
    await store.aput(("notes",), str(uuid4()), {"text": state["note"]})
    return {"remembered": [item.value["text"] for item in found]}


graph = StateGraph(State).add_node(remember).set_entry_point("remember").compile()
