"""Loaders: showers as points, graphs, sequences and images, for PyTorch."""
