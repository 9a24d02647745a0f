"""Custom operator of the norm with a gate."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from supa_mamba.ops.gated_rms_norm import cpu
from supa_mamba.ops.gated_rms_norm.inputs import GatedNormInputs, GatedNormOptions
from supa_mamba.ops.operators import custom_operator, run_backend, schema_arguments
from supa_mamba.ops.transforms import any_order, first_order


def _forward(*flat: Any) -> Tensor:
    inputs, options = GatedNormInputs(*flat[:3]), GatedNormOptions(*flat[3:])
    y: Tensor = run_backend(__package__, "forward", inputs.x, inputs, options, compiled=True)
    return y.contiguous()


def _fake_forward(x: Tensor, *_: Any) -> Tensor:
    return x.new_empty(x.shape)


def _backward(y_grad: Tensor, *flat: Any) -> tuple[Tensor, ...]:
    inputs, options = GatedNormInputs(*flat[:3]), GatedNormOptions(*flat[3:])
    found: tuple[Tensor, ...] = run_backend(__package__, "backward", inputs.x, y_grad, inputs, options, compiled=True)
    return found


def _fake_backward(y_grad: Tensor, x: Tensor, gate: Tensor, weight: Tensor, *_: Any) -> tuple[Tensor, ...]:
    return tuple(given.new_empty(given.shape) for given in (x, gate, weight))


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:3])
    ctx.inputs, ctx.arguments = 3, inputs[3:]


def _gradients(ctx: Any, grads: tuple[Tensor, ...], of_backward: Callable[..., Any]) -> tuple[Any, ...]:
    return (*of_backward(grads[0], *ctx.saved_tensors, *ctx.arguments), None, None, None)


_ARGUMENTS = schema_arguments(GatedNormInputs, GatedNormOptions)

run_gated_rms_norm = first_order(
    "gated_rms_norm",
    custom_operator("gated_rms_norm", _forward, _fake_forward, _ARGUMENTS, outputs=1),
    custom_operator("gated_rms_norm_backward", _backward, _fake_backward, ["Tensor y_grad", *_ARGUMENTS], outputs=3),
    _remember,
    _gradients,
)


def _record(*flat: Any) -> tuple[Tensor]:
    return (cpu.forward(GatedNormInputs(*flat[:3]), GatedNormOptions(*flat[3:])),)


run_compiled = any_order(_forward, _backward, _record, _remember, _gradients)
