"""Custom operator of the mixer of Mamba-2."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from supa_mamba.ops import backend
from supa_mamba.ops.conv_ssd_norm.inputs import MixerInputs, MixerOptions, Saved, ssd_inputs
from supa_mamba.ops.operators import custom_operator, run_backend, schema_arguments
from supa_mamba.ops.transforms import first_order

_TENSORS, _SETTINGS = len(MixerInputs._fields), len(MixerOptions._fields)


def _split(flat: tuple[Any, ...]) -> tuple[MixerInputs, MixerOptions, tuple[Any, ...]]:
    end = _TENSORS + _SETTINGS
    return MixerInputs(*flat[:_TENSORS]), MixerOptions(*flat[_TENSORS:end]), flat[end:]


def _forward(*flat: Any) -> tuple[Tensor, ...]:
    inputs, options, (save,) = _split(flat)
    y, saved = run_backend(__package__, "forward", inputs.projected, inputs, options, save)
    return (y, *(saved if save else Saved.nothing(y)))


def _fake_forward(*flat: Any) -> tuple[Tensor, ...]:
    inputs, options, (save,) = _split(flat)
    projected = inputs.projected
    y = inputs.new_result()
    if not save or not backend.is_cuda(projected):
        return (y, *Saved.nothing(y))
    mixed = projected.new_empty(projected.shape[0], len(inputs.conv_weight))
    selected = inputs.selected(mixed, options.groups)
    recurrence = ssd_inputs(selected, inputs.columns(projected).dt, inputs)
    return y, mixed, projected.new_empty(selected.x.shape), recurrence.new_checkpoints(save=True)


def _backward(grad: Tensor, *flat: Any) -> tuple[Tensor, ...]:
    inputs, options, saved = _split(flat)
    found = run_backend(__package__, "backward", inputs.projected, grad, inputs, Saved(*saved), options)
    return tuple(grad.new_empty(0) if x is None else x for x in found)


def _fake_backward(grad: Tensor, *flat: Any) -> tuple[Tensor, ...]:
    inputs, _, _ = _split(flat)
    parameters = (grad.new_empty(0) if x is None else x.new_empty(x.shape) for x in inputs[1:-1])
    projected = inputs.projected
    # Compilers rely on the strides.
    of_projected = inputs.new_projected_grad() if backend.is_cuda(projected) else projected.new_empty(projected.shape)
    return of_projected, *parameters


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs[:_TENSORS], *output[1:])
    ctx.options = inputs[_TENSORS:-1]
    ctx.set_materialize_grads(False)


def _gradients(ctx: Any, grads: tuple[Tensor | None, ...], of_backward: Callable[..., Any]) -> tuple[Any, ...]:
    saved = ctx.saved_tensors
    given, results = saved[:_TENSORS], saved[_TENSORS:]
    grad = MixerInputs(*given).new_result().zero_() if grads[0] is None else grads[0]
    found = of_backward(grad, *given, *ctx.options, *results)
    of_inputs = [None if x is None else gradient for x, gradient in zip(given, (*found, None), strict=True)]
    return (*of_inputs, *[None] * (_SETTINGS + 1))


_ARGUMENTS = schema_arguments(MixerInputs, MixerOptions)

run_conv_ssd_norm = first_order(
    "Mamba2",
    custom_operator("conv_ssd_norm", _forward, _fake_forward, [*_ARGUMENTS, "bool save"], outputs=4),
    custom_operator(
        "conv_ssd_norm_backward", _backward, _fake_backward,
        ["Tensor grad", *_ARGUMENTS, *(f"Tensor {name}" for name in Saved._fields)], outputs=_TENSORS - 1,
    ),
    _remember,
    _gradients,
)  # fmt: skip
"""Function of the inputs, the options and whether to save values for the backward pass. The first result has gradients;
the others are the saved values."""
