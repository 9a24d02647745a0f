"""Triton kernels of the recurrence of Mamba-2: matrix products within chunks of rows, and a recurrence between chunks.

Within a chunk let s_i be the sum of Delta A over its rows up to and including i, and H the state before it. Then::

    y_i = sum_{j <= i} exp(s_i - s_j) <C_i, B_j> Delta_j x_j + exp(s_i) H C_i

and the state after the chunk is exp(s_last) H + sum_j exp(s_last - s_j) Delta_j x_j B_j^T. Only differences of sums are
exponentiated. They are not positive if A is not positive, so nothing overflows.

``steps_kernel`` computes the step sizes and their sums. In ``walk_kernel`` one program processes one sequence and one
head, with the state in registers. The gradient of x is the same computation from the end of the sequence with B and C
exchanged: it propagates the gradient of the state, and the step size is applied after the mixing instead of before.
Both passes store the states at the chunk boundaries. From these ``pairs_kernel`` computes the gradients of B and C
chunk by chunk, summed over several heads. All sums have a fixed order and use no atomics.

Chunks are prefetched: explicitly in ``walk_kernel``, because the compiler's pipelined loop returned wrong results
there, and by the compiler in ``pairs_kernel``, unless there are initial states or gradients of final states.

The gradient with respect to Delta_t A is the sum over all pairs (i, j) with j < t <= i of the gradient with respect to
s_i - s_j, where the state before the chunk counts as a j and the state after it as an i. The pair (t, t) would cancel
and is omitted. ``pairs_kernel`` returns the contributions of each row as i and as j; ``step_gradients_kernel`` adds
them.

Loops over a loaded value use ``while``, because the interpreter of Triton 3.6 does not support ``range`` over such a
value with NumPy 2.4.
"""
