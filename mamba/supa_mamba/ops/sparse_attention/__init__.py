"""Causal attention between rows of equal buckets, over packed sequences (arXiv 2306.01160)."""
