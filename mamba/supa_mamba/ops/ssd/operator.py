"""Mamba-2's recurrence as a custom operator, so that ``torch.compile`` sees it as one step.

On a GPU it starts the Triton kernels. On a processor it runs the plain path, and once more for the gradients: only
compiled programs come here, as eager ones let autograd record the plain path.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from supa_mamba.ops.backend import device_of, on_gpu, path
from supa_mamba.ops.ssd import block_sizes
from supa_mamba.ops.transforms import first_order

Gradients = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


@torch.library.custom_op("supa_mamba::ssd", mutates_args=())
def ssd_operator(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    dt_bias: Tensor | None,
    offset: Tensor,
    initial_state: Tensor | None,
    reverse: bool,
    dt_softplus: bool,
    dt_min: float,
    dt_max: float,
    finish: bool,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Walk over packed sequences; arguments and results as in ``launch.forward``."""
    given = (x, dt, A, B, C, D, dt_bias, offset, initial_state)
    with device_of(x):
        result: tuple[Tensor, Tensor, Tensor] = path(x, __package__).forward(
            *given, reverse, dt_softplus, dt_min, dt_max, finish, save
        )
    return result


@ssd_operator.register_fake
def _(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    dt_bias: Tensor | None,
    offset: Tensor,
    initial_state: Tensor | None,
    reverse: bool,
    dt_softplus: bool,
    dt_min: float,
    dt_max: float,
    finish: bool,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    (rows, heads, width), (groups, states) = x.shape, B.shape[1:]
    operand, _ = block_sizes.operands(x, A, B, C)
    chunk = block_sizes.pairs_blocks(heads // groups, width, states, operand).chunk
    return (
        x.new_empty(x.shape),
        A.new_empty(offset.shape[0] - 1 if finish else 0, heads, width, states),
        x.new_empty(rows // chunk if save and on_gpu(x) else 0, heads, width, states, dtype=operand),
    )


@torch.library.custom_op("supa_mamba::ssd_backward", mutates_args=())
def _backward_operator(
    y_grad: Tensor,
    final_grad: Tensor | None,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    dt_bias: Tensor | None,
    offset: Tensor,
    initial_state: Tensor | None,
    checkpoints: Tensor,
    reverse: bool,
    dt_softplus: bool,
    dt_min: float,
    dt_max: float,
) -> Gradients:
    given = (x, dt, A, B, C, D, dt_bias, offset, initial_state)
    options = (reverse, dt_softplus, dt_min, dt_max)
    with device_of(x):
        found: Gradients = path(x, __package__).backward(y_grad, final_grad, *given, checkpoints, *options)
    return found


@_backward_operator.register_fake
def _(
    y_grad: Tensor,
    final_grad: Tensor | None,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    dt_bias: Tensor | None,
    offset: Tensor,
    initial_state: Tensor | None,
    checkpoints: Tensor,
    reverse: bool,
    dt_softplus: bool,
    dt_min: float,
    dt_max: float,
) -> tuple[Tensor, ...]:
    given = (x, dt, A, B, C, D, dt_bias, initial_state)
    return tuple(A.new_empty(0) if v is None else v.new_empty(v.shape) for v in given)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    *tensors, reverse, dt_softplus, dt_min, dt_max, ctx.finish, _ = inputs
    ctx.options = (reverse, dt_softplus, dt_min, dt_max)
    ctx.save_for_backward(*tensors, output[2])
    ctx.set_materialize_grads(False)


def _gradients(ctx: Any, grads: tuple[Tensor | None, ...], backward: Callable[..., Any]) -> tuple[Any, ...]:
    (y_grad, final_grad, _), tensors = grads, ctx.saved_tensors
    if y_grad is None:
        y_grad = torch.zeros_like(tensors[0])
    final_grad = final_grad if ctx.finish else None
    *found, of_initial = backward(y_grad, final_grad, *tensors, *ctx.options)
    *given, _, initial_state, _ = tensors
    gradients = [None if v is None else gradient for v, gradient in zip(given, found, strict=True)]
    return (*gradients, None, None if initial_state is None else of_initial, *[None] * 6)


ssd_once = first_order("ssd", ssd_operator, _backward_operator, _remember, _gradients)
