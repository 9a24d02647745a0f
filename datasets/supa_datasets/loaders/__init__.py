"""PyTorch datasets of showers as points, graphs, sequences and images."""
