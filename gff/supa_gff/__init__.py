"""Graph networks trained layer by layer with forward passes only, beside backpropagation (arXiv 2302.05282)."""
