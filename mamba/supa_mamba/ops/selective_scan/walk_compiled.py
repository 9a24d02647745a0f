"""The recurrence of the selective scan on a CPU in compiled loops, in several threads.

The sequences are divided into a fixed number of parts, so that the results do not depend on the number of threads.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function

from supa.arrays import Array
from supa_mamba.ops.selective_scan.walk import Walk
from supa_mamba.ops.selective_scan.walk_kernels import TILE, walk_backward, walk_forward
from supa_mamba.ops.selective_scan.walk_recorded import walk as walk_recorded

_PARTS = 32
_THREADS_FROM = 1 << 19
"""Number of states of all rows above which several threads are faster than one."""


def walk(given: Walk, *, reverse: bool, return_final_states: bool) -> tuple[Tensor, Tensor]:
    """Compute the recurrence of packed sequences.

    First derivatives are compiled, too. Second derivatives are those of ``walk_recorded``.

    Args:
        given: The inputs.
        reverse: Whether to process each sequence from its last row to its first.
        return_final_states: Whether to return the states after the last rows.

    Returns:
        (T, D) outputs, and the (S, N, D) states after the last rows, or those of zero sequences.
    """
    y, final_states = _Compiled.apply(reverse, return_final_states, *given)  # type: ignore[no-untyped-call]
    return y, final_states


class _Compiled(Function):
    @staticmethod
    def forward(ctx: Any, reverse: bool, return_final_states: bool, *given: Tensor | None) -> tuple[Tensor, Tensor]:
        inputs = Walk(*given)  # type: ignore[arg-type]
        rows, sequences, A = inputs.x.shape[0], inputs.offset.shape[0] - 1, inputs.A
        save = any(ctx.needs_input_grad)
        y = torch.empty_like(inputs.x, memory_format=torch.contiguous_format)
        final_states = A.new_empty(sequences if return_final_states else 0, *A.shape)
        checkpoints = A.new_empty(rows // TILE if save else 0, *A.shape)
        x, step, decay, B, C, initial, offset = _arrays(inputs)
        results = _array(y), _array(final_states), _array(checkpoints)

        def run(_part: int, first: int, last: int) -> None:
            walk_forward(x, step, decay, B, C, offset, initial, reverse, first, last, *results)

        _in_threads(run, offset, A.numel())
        ctx.save_for_backward(*given, checkpoints)
        ctx.options = reverse, return_final_states
        ctx.set_materialize_grads(False)
        return y, final_states

    @staticmethod
    def backward(ctx: Any, y_grad: Tensor | None, final_grad: Tensor | None) -> tuple[Tensor | None, ...]:
        *given, checkpoints = ctx.saved_tensors
        inputs, (reverse, return_final_states) = Walk(*given), ctx.options
        y_grad = torch.zeros_like(inputs.x) if y_grad is None else y_grad
        final_grad = final_grad if return_final_states else None
        batched = any(x is not None and torch._C._functorch.is_legacy_batchedtensor(x) for x in (y_grad, final_grad))
        if torch.is_grad_enabled() or batched:  # the gradients will be differentiated, or is_grads_batched was given
            return None, None, *_recorded_gradients(ctx, inputs, y_grad, final_grad, reverse)
        return None, None, *_gradients(inputs, y_grad, final_grad, checkpoints, reverse), None


def _gradients(
    inputs: Walk, y_grad: Tensor, final_grad: Tensor | None, checkpoints: Tensor, reverse: bool
) -> tuple[Tensor | None, ...]:
    """Return the gradients of all inputs but the offset."""
    A = inputs.A
    x, step, decay, B, C, initial, offset = _arrays(inputs)
    before = _array(y_grad.to(A.dtype)), _array(A.new_empty(0, *A.shape) if final_grad is None else final_grad)
    x_grad, step_grad = (torch.empty(t.shape, dtype=A.dtype) for t in (inputs.x, inputs.step))
    B_grad, C_grad = (torch.zeros(t.shape, dtype=A.dtype) for t in (inputs.B, inputs.C))
    parts = A.new_zeros(_PARTS, *A.shape)
    initial_grad = None if inputs.initial_states is None else A.new_empty(inputs.initial_states.shape)
    rows = _array(x_grad), _array(step_grad)
    others = _array(B_grad), _array(C_grad), _array(A.new_empty(0, *A.shape) if initial_grad is None else initial_grad)
    sums, kept = _array(parts), _array(checkpoints)

    def run(part: int, first: int, last: int) -> None:
        walk_backward(
            *before, x, step, decay, B, C, offset, initial, kept, reverse, first, last, *rows, sums[part], *others
        )

    _in_threads(run, offset, A.numel())
    return x_grad, step_grad, parts.sum(0), B_grad, C_grad, initial_grad


def _recorded_gradients(
    ctx: Any, inputs: Walk, y_grad: Tensor, final_grad: Tensor | None, reverse: bool
) -> list[Tensor | None]:
    """Return the gradients of all inputs, computed by operations of PyTorch."""
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        y, final_states = walk_recorded(inputs, reverse=reverse)
    outputs, grads = ([y], [y_grad]) if final_grad is None else ([y, final_states], [y_grad, final_grad])
    wanted = [x for x, needed in zip(inputs, ctx.needs_input_grad[2:], strict=True) if x is not None and needed]
    found = iter(torch.autograd.grad(outputs, wanted, grads, create_graph=again, materialize_grads=True))
    return [next(found) if needed else None for needed in ctx.needs_input_grad[2:]]


def _arrays(inputs: Walk) -> tuple[Array, ...]:
    """Return arrays of x, step, A, B, C, initial states and offset."""
    initial = inputs.A.new_empty(0, *inputs.A.shape) if inputs.initial_states is None else inputs.initial_states
    given = (inputs.x, inputs.step, inputs.A, inputs.B, inputs.C, initial, inputs.offset)
    return tuple(_array(tensor) for tensor in given)


def _array(tensor: Tensor) -> Array:
    array: Array = tensor.detach().contiguous().numpy()
    return array


def _in_threads(run: Callable[[int, int, int], None], offset: Array, states: int) -> None:
    """Call a function with the number of each part, its first sequence, and the sequence after its last one."""
    rows = int(offset[-1])
    cuts = np.searchsorted(offset, np.arange(_PARTS + 1) * rows / _PARTS)
    cuts[0], cuts[-1] = 0, len(offset) - 1
    parts = [(k, *cuts[k : k + 2].tolist()) for k in range(_PARTS) if cuts[k] < cuts[k + 1]]
    threads = min(torch.get_num_threads(), len(parts)) if rows * states >= _THREADS_FROM else 1
    if threads <= 1:
        for part in parts:
            run(*part)
        return
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(run, *part) for part in parts]:
            done.result()
