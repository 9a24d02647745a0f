"""Sums over edges and over graphs: operations of PyTorch on a CPU, Triton kernels on a GPU."""
