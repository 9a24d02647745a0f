"""Triton kernels of the sampler on a GPU."""
