"""A local provider that speaks both wires; needs ``pip install 'sparse-embed[server]'``.

Decides the public names. Self-contained: imports nothing of the client side, so that each can test the other.
"""

try:
    from sparse_embed.server.app import create_app
    from sparse_embed.server.run import local_provider, serve_in_thread
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        f"sparse_embed.server needs {missing.name}: pip install 'sparse-embed[server]'", name=missing.name
    ) from None

__all__ = ["create_app", "local_provider", "serve_in_thread"]
