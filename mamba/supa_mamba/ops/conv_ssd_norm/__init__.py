"""Convolution, recurrence, gate and norm of Mamba-2 in one operator."""
