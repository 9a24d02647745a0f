"""Batch normalisation of several members at once."""
