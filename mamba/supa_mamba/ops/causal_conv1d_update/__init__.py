"""Single steps of the causal convolution, for generation."""
