"""Simulated rate limits, and a provider in virtual time. Tests and benchmarks share them; neither is published."""
