"""Short causal convolution over packed sequences, as used before the scan of Mamba."""
