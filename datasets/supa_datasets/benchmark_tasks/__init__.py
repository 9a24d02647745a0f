"""Benchmark tasks: showers by name, and the scores of generated showers and of predictions."""
