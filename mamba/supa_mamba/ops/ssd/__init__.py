"""Mamba-2's recurrence with one decay to a head over packed sequences (SSD, arXiv 2405.21060)."""
