"""Iterable PyTorch datasets of showers that are simulated during the training."""
