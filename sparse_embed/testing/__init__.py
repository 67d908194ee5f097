"""For your own test suite: answers without a network, faults on demand, retries without waiting.

Everything here works on the real encoders: what runs in your tests is what runs in production, up to the socket.
`sparse_embed.testing.conformance`, which needs pytest, holds the promises of a sparse encoder as tests to subclass.
"""

from sparse_embed.testing.fakes import FakeClients, fake_clients, no_wait

__all__ = ["FakeClients", "fake_clients", "no_wait"]
