"""Adapters for LangChain's vector stores, one module each; the ``as_…`` methods import them on first use."""
