"""Splits into training, validation and test parts: standard splits of benchmarks, and splits of links."""
