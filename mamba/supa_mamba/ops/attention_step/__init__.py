"""Single steps of causal attention on a CPU."""
