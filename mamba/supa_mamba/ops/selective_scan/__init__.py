"""Selective scan of Mamba-1 over packed sequences (arXiv 2312.00752)."""
