"""Adapters for LlamaIndex's vector stores, one module each; a module is imported on first use."""
