"""Triton kernels of the selective scan. One program of one warp processes one sequence and a block of channels.

The state of a block stays in registers. The forward kernel stores it at the start of every tile of rows, so that the
backward kernel can recompute the states of a tile. With log a_t = delta_t A, the gradient with respect to log a_t is
G_t = sum_{s >= t} (h_s C_s dy_s - b_s dh_s) + h_T dh_T, where b_s = delta_s u_s B_s, and dh_s is the gradient with
respect to the state h_s. The gradients of delta and A need only sums of G_t, so the states of single rows are never
stored. All sums have a fixed order and use no atomics.

Rows are prefetched to hide the latency of global memory. Feature sizes are specialised on their divisibility, so that
loads are vectorised; lengths are not.

Loops use ``while``, because the interpreter of Triton 3.6 does not support ``range`` over a loaded value with
NumPy 2.4.
"""
