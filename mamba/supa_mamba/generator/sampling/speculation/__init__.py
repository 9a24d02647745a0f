"""Speculative sampling: a cheap draft proposes several hits, and the model checks them in one pass."""
