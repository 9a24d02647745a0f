"""Single steps of Mamba-1 and Mamba-2, for generation."""
