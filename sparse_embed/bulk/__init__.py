"""Files of any size in, vectors out: `embed_file`, which goes on where it was stopped.

Data flows one way: ``sources`` reads rows, ``pipeline`` embeds them, ``layouts`` turns them into columns, and ``files``
or ``qdrant`` saves them. ``job`` connects these; ``commands`` is the command line.
"""

from sparse_embed.extras import requires

with requires("pyarrow", "bulk"), requires("filelock", "bulk"):
    from sparse_embed.bulk.job import embed_file
    from sparse_embed.bulk.report import Report

__all__ = ["Report", "embed_file"]
