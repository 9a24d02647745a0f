"""The selective scan as a custom operator, which ``torch.compile`` treats as one step.

On a GPU it starts the Triton kernels. On a CPU it runs the plain path, and runs it again for the gradients; only
compiled programs use it there, because in eager programs autograd records the plain path.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from supa_mamba.ops.backend import device_of, on_gpu, path
from supa_mamba.ops.selective_scan.block_sizes import TILE
from supa_mamba.ops.transforms import first_order

Gradients = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


@torch.library.custom_op("supa_mamba::selective_scan", mutates_args=())
def selective_scan_operator(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    offset: Tensor,
    initial_state: Tensor | None,
    reverse: bool,
    delta_softplus: bool,
    finish: bool,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Scan packed sequences; arguments and results as in ``launch.forward``."""
    given = (u, delta, A, B, C, D, z, delta_bias, offset, initial_state)
    with device_of(u):
        result: tuple[Tensor, Tensor, Tensor] = path(u, __package__).forward(
            *given, reverse, delta_softplus, finish, save
        )
    return result


@selective_scan_operator.register_fake
def _(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    offset: Tensor,
    initial_state: Tensor | None,
    reverse: bool,
    delta_softplus: bool,
    finish: bool,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    stored = u.shape[0] // TILE if save and on_gpu(u) else 0
    sequences = offset.shape[0] - 1 if finish else 0
    return u.new_empty(u.shape), A.new_empty(sequences, *A.shape), A.new_empty(stored, *A.shape)


@torch.library.custom_op("supa_mamba::selective_scan_backward", mutates_args=())
def _backward_operator(
    y_grad: Tensor,
    final_grad: Tensor | None,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    offset: Tensor,
    initial_state: Tensor | None,
    checkpoints: Tensor,
    reverse: bool,
    delta_softplus: bool,
) -> Gradients:
    given = (u, delta, A, B, C, D, z, delta_bias, offset, initial_state)
    with device_of(u):
        found: Gradients = path(u, __package__).backward(
            y_grad, final_grad, *given, checkpoints, reverse, delta_softplus
        )
    return found


@_backward_operator.register_fake
def _(
    y_grad: Tensor,
    final_grad: Tensor | None,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    offset: Tensor,
    initial_state: Tensor | None,
    checkpoints: Tensor,
    reverse: bool,
    delta_softplus: bool,
) -> tuple[Tensor, ...]:
    given = (u, delta, A, B, C, D, z, delta_bias, initial_state)
    return tuple(A.new_empty(0) if x is None else x.new_empty(x.shape) for x in given)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    *tensors, ctx.reverse, ctx.delta_softplus, ctx.finish, _ = inputs
    ctx.save_for_backward(*tensors, output[2])
    ctx.set_materialize_grads(False)


def _gradients(ctx: Any, grads: tuple[Tensor | None, ...], backward: Callable[..., Any]) -> tuple[Any, ...]:
    (y_grad, final_grad, _), tensors = grads, ctx.saved_tensors
    if y_grad is None:
        y_grad = torch.zeros_like(tensors[0])
    final_grad = final_grad if ctx.finish else None
    *found, of_initial = backward(y_grad, final_grad, *tensors, ctx.reverse, ctx.delta_softplus)
    *given, _, initial_state, _ = tensors
    gradients = [None if x is None else gradient for x, gradient in zip(given, found, strict=True)]
    return (*gradients, None, None if initial_state is None else of_initial, None, None, None, None)


scan_once = first_order("selective_scan", selective_scan_operator, _backward_operator, _remember, _gradients)
