"""Custom operator of the sum and its norm."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from supa_mamba.ops.add_rms_norm.inputs import AddNormGradientOptions, AddNormGradients, AddNormInputs, AddNormOptions
from supa_mamba.ops.operators import custom_operator, run_backend, schema_arguments
from supa_mamba.ops.transforms import first_order


def _forward(
    residual: Tensor, update: Tensor | None, weight: Tensor, eps: float, dtype: torch.dtype
) -> tuple[Tensor, ...]:
    inputs = AddNormInputs(residual, update, weight)
    results = run_backend(__package__, "forward", residual, inputs, AddNormOptions(eps, dtype))
    return tuple(x.contiguous() for x in results)


def _fake_forward(
    residual: Tensor, update: Tensor | None, weight: Tensor, eps: float, dtype: torch.dtype
) -> tuple[Tensor, ...]:
    inputs = AddNormInputs(residual, update, weight)
    return residual.new_empty(residual.shape, dtype=dtype), inputs.new_sum()


def _backward(*flat: Any) -> tuple[Tensor, ...]:
    given, options = AddNormGradients(*flat[:4]), AddNormGradientOptions(*flat[4:])
    found: tuple[Tensor, ...] = run_backend(__package__, "backward", given.sum, given, options)
    return found


def _fake_backward(*flat: Any) -> tuple[Tensor, ...]:
    given, options = AddNormGradients(*flat[:4]), AddNormGradientOptions(*flat[4:])
    grad = given.sum.new_empty(given.sum.shape)
    return grad, options.new_update_grad(given.sum), given.weight.new_empty(given.weight.shape)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    residual, update, weight, eps, dtype = inputs
    # The sum is stored for the next layer anyway; the update is not.
    ctx.save_for_backward(residual if update is None else output[1], weight)
    ctx.eps, ctx.dtype = eps, dtype
    ctx.update_dtype = None if update is None else update.dtype
    ctx.set_materialize_grads(False)


def _gradients(ctx: Any, grads: tuple[Tensor | None, ...], of_backward: Callable[..., Any]) -> tuple[Any, ...]:
    total, weight = ctx.saved_tensors
    y_grad = total.new_zeros(total.shape, dtype=ctx.dtype) if grads[0] is None else grads[0]
    added = ctx.update_dtype is not None
    update_dtype = ctx.update_dtype if added else total.dtype
    grad, update_grad, weight_grad = of_backward(
        y_grad, grads[1] if added else None, total, weight, ctx.eps, update_dtype
    )
    if update_dtype == total.dtype:
        update_grad = grad
    return grad, update_grad if added else None, weight_grad, None, None


run_add_rms_norm = first_order(
    "add_rms_norm",
    custom_operator(
        "add_rms_norm", _forward, _fake_forward, schema_arguments(AddNormInputs, AddNormOptions), outputs=2
    ),
    custom_operator(
        "add_rms_norm_backward", _backward, _fake_backward, schema_arguments(AddNormGradients, AddNormGradientOptions),
        outputs=3,
    ),
    _remember,
    _gradients,
)  # fmt: skip
