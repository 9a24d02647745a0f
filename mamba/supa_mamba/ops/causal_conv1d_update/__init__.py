"""Steps of the causal convolution for slots that are being generated."""
