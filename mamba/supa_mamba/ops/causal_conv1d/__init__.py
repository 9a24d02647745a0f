"""The short causal convolution in front of Mamba's scan, over packed sequences."""
