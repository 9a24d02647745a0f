"""Triton kernels of the selective scan: one program, a warp, walks over one sequence with a block of channels.

The state of a block lives in registers. At the start of every tile of steps the forward kernel stores it, so that the
backward kernel can walk over a tile again. With log a_t = delta_t A, the gradient with respect to log a_t is
G_t = sum over s >= t of (h_s C_s dy_s - b_s dh_s) + h_T dh_T, where b_s = delta_s u_s B_s and dh_s is the gradient
with respect to the whole state; delta and A need only sums of it, so that no step's state is stored. All sums run in
one order, without atomics.

What comes from far memory is asked for ahead of the step that needs it, so that its way is covered by work. Sizes of
features are specialised on what they divide by, which makes loads wide; lengths are not.

Loops are written as ``while``: Triton 3.6's interpreter cannot count to a loaded number with ``range`` under NumPy 2.4.
"""
