"""Store integrations that both frameworks share, one module per store, imported on first use."""
