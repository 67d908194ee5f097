"""``python -m sparse_embed``: the command line, where its script is not on the PATH."""

from sparse_embed.cli import app

app(prog_name="python -m sparse_embed")
