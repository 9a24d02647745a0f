"""Root-mean-square norm with a gate."""
