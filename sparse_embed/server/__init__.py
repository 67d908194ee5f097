"""A local provider that speaks both wires; needs ``pip install 'sparse-embed[server]'``.

Decides the public names. Self-contained: imports nothing of the client side, so that each can test the other.
"""

from sparse_embed.server.app import create_app
from sparse_embed.server.run import local_provider, serve_in_thread

__all__ = ["create_app", "local_provider", "serve_in_thread"]
