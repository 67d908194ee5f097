"""Draw expansion.svg for why.md: the terms of one query, by BM25 and by SPLADE.

With `sparse-embed serve --model splade=FOLDER` running and CHROMA_EMBED_URL set::

    .venv-docs/bin/python docs/expansion.py

The weights drawn are those that `make models` installs: a SPLADE of two layers.
"""

from pathlib import Path

import matplotlib.pyplot as plt

from sparse_embed import SparseEncoder

QUERY = "Which car uses the least fuel?"
SHOWN = 12
GREY, BLUE = "#808080", "#4a90d9"  # on a light page and on a dark one

plt.rcParams |= {"svg.hashsalt": "expansion", "svg.fonttype": "none", "text.color": GREY, "font.size": 11}
plt.rcParams |= {"xtick.color": GREY, "ytick.color": GREY, "axes.edgecolor": GREY}
figure, axes = plt.subplots(1, 2, figsize=(8, 3.6), sharex=True, layout="constrained")
for axis, title, model in zip(axes, ("BM25", "SPLADE"), ("local/bm25", "splade"), strict=True):
    vector = SparseEncoder("chroma", model=model, api_key="local", return_tokens=True).embed_documents([QUERY])[0]
    terms, weights = zip(*vector.top(SHOWN), strict=True)
    axis.barh(range(len(terms)), weights, color=BLUE)
    axis.set_yticks(range(len(terms)), terms)
    axis.set_ylim(SHOWN - 0.5, -0.5)
    axis.set_title(f"{title}: {min(vector.nnz, SHOWN)} of {vector.nnz} terms", color=GREY)
    axis.spines[["top", "right"]].set_visible(False)
figure.savefig(Path(__file__).parent / "_static/expansion.svg", transparent=True, metadata={"Date": None})
