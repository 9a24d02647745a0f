"""The causal convolution as a custom operator, on a GPU or in compiled programs; see ``selective_scan.operator``."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from supa_mamba.ops.backend import device_of, path
from supa_mamba.ops.transforms import first_order

Gradients = tuple[Tensor, Tensor, Tensor, Tensor]


@torch.library.custom_op("supa_mamba::causal_conv1d", mutates_args=())
def causal_conv1d_operator(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    offset: Tensor,
    initial_state: Tensor | None,
    reverse: bool,
    use_silu: bool,
    finish: bool,
) -> tuple[Tensor, Tensor]:
    """Convolve packed sequences; arguments and results as in ``launch.forward``."""
    with device_of(x):
        result: tuple[Tensor, Tensor] = path(x, __package__).forward(
            x, weight, bias, offset, initial_state, reverse, use_silu, finish
        )
    return result


@causal_conv1d_operator.register_fake
def _(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    offset: Tensor,
    initial_state: Tensor | None,
    reverse: bool,
    use_silu: bool,
    finish: bool,
) -> tuple[Tensor, Tensor]:
    channels, width = weight.shape
    return x.new_empty(x.shape), weight.new_empty(offset.shape[0] - 1 if finish else 0, channels, width - 1)


@torch.library.custom_op("supa_mamba::causal_conv1d_backward", mutates_args=())
def _backward_operator(
    y_grad: Tensor,
    final_grad: Tensor | None,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    offset: Tensor,
    initial_state: Tensor | None,
    reverse: bool,
    use_silu: bool,
) -> Gradients:
    given = (x, weight, bias, offset, initial_state)
    with device_of(x):
        found: Gradients = path(x, __package__).backward(y_grad, final_grad, *given, reverse, use_silu)
    return found


@_backward_operator.register_fake
def _(
    y_grad: Tensor,
    final_grad: Tensor | None,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    offset: Tensor,
    initial_state: Tensor | None,
    reverse: bool,
    use_silu: bool,
) -> tuple[Tensor, ...]:
    given = (x, weight, bias, initial_state)
    return tuple(weight.new_empty(0) if v is None else v.new_empty(v.shape) for v in given)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.reverse, ctx.use_silu, ctx.finish = inputs
    ctx.save_for_backward(*tensors)
    ctx.set_materialize_grads(False)


def _gradients(ctx: Any, grads: tuple[Tensor | None, ...], backward: Callable[..., Any]) -> tuple[Any, ...]:
    (y_grad, final_grad), (x, weight, bias, offset, initial_state) = grads, ctx.saved_tensors
    if y_grad is None:
        y_grad = torch.zeros_like(x)
    final_grad = final_grad if ctx.finish else None
    given = (x, weight, bias, offset, initial_state)
    of_x, of_weight, of_bias, of_initial = backward(y_grad, final_grad, *given, ctx.reverse, ctx.use_silu)
    of_bias = None if bias is None else of_bias
    return of_x, of_weight, of_bias, None, None if initial_state is None else of_initial, None, None, None


convolve_once = first_order("causal_conv1d", causal_conv1d_operator, _backward_operator, _remember, _gradients)
