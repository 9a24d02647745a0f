"""Steps of the causal convolution for rows that are being generated."""
