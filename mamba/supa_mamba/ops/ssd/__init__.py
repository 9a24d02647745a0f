"""Recurrence of Mamba-2 (SSD, arXiv 2405.21060), with one decay rate per head, over packed sequences."""
