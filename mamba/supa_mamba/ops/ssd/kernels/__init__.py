"""Triton kernels of Mamba-2's recurrence: chunks of steps by matrix products, the state between them in one program.

Within a chunk let s_i be the sum of Delta A over its steps up to and with i, and H its first state. Then::

    y_i = sum over j <= i of exp(s_i - s_j) <C_i, B_j> Delta_j x_j + exp(s_i) H C_i

and the state behind the chunk is exp(s_last) H + sum over j of exp(s_last - s_j) Delta_j x_j B_j^T. Only differences of
sums are exponentiated, which are not positive where A is not, so that nothing overflows.

A first kernel makes the steps and their sums. In the walking kernel one program walks over one sequence with one head,
and the state stays in registers. The gradient of x is the same walk from the end, with B and C in each other's place:
the gradient of the state is handed back, and the step comes behind the mixing instead of in front of it. Both walks
store the states at the borders of chunks. From these the third kernel makes the gradients of B and C, chunk by chunk,
summed over several heads. All sums run in one order, without atomics.

What is read next is asked for ahead: in the walk by hand, as the compiler's pipelined loop gave wrong numbers there,
and in the third kernel by the compiler, where no states come from outside.

The gradient with respect to Delta_t A is the sum over all pairs (i, j), j < t <= i, of what s_i - s_j gets, where a
state before the chunk is a j and a state behind it an i. The pair (t, t) would cancel and is left out. The third kernel
gives what each step gets as i and as j, and a last one sums it.

Loops to a loaded number are written as ``while``: Triton 3.6's interpreter cannot count to one with ``range`` under
NumPy 2.4.
"""
