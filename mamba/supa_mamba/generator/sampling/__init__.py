"""Sampling of showers from a generator."""
