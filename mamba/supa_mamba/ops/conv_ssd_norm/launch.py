"""Mixer of Mamba-2 on a GPU, without host-device synchronisation.

The kernels are those of `causal_conv1d`, `ssd` and `gated_rms_norm`. In the backward pass they write into the columns
of one gradient of the input projection, which separate operations would have to concatenate.
"""

import torch
from torch import Tensor

from supa_mamba.ops.causal_conv1d import launch as conv
from supa_mamba.ops.conv_ssd_norm.inputs import (
    MixerInputs,
    MixerOptions,
    Saved,
    conv_inputs,
    norm_inputs,
    ssd_inputs,
)
from supa_mamba.ops.gated_rms_norm import launch as norm
from supa_mamba.ops.ssd import launch as ssd


def forward(inputs: MixerInputs, options: MixerOptions, save: bool) -> tuple[Tensor, Saved]:
    """Apply convolution, recurrence, gate and norm.

    Args:
        inputs: Inputs of the mixer.
        options: Options of the mixer.
        save: Whether to save checkpoints for `backward`.

    Returns:
        (T, E) normalised rows, and the intermediate results.
    """
    columns = inputs.columns(inputs.projected)
    mixed, _, _ = conv.forward(conv_inputs(columns.mixed, inputs), options.of_conv(), False, False)
    recurrence = ssd_inputs(inputs.selected(mixed, options.groups), columns.dt, inputs)
    y, _, checkpoints = ssd.forward(recurrence, options.of_ssd(), False, save)
    normalised = norm.forward(norm_inputs(y, columns.gate, inputs), options.of_norm())
    return normalised, Saved(mixed, y, checkpoints)


def backward(grad: Tensor, inputs: MixerInputs, saved: Saved, options: MixerOptions) -> tuple[Tensor | None, ...]:
    """Compute the gradients.

    Args:
        grad: (T, E) gradient of the result.
        inputs: Inputs of the mixer.
        saved: Intermediate results of `forward`.
        options: Options of the mixer.

    Returns:
        Gradient of each input except the offset, and None for a missing input.
    """
    columns, projected_grad = inputs.columns(inputs.projected), inputs.new_projected_grad()
    grads = inputs.columns(projected_grad)
    y_grad = torch.empty_like(saved.y)
    of_norm = norm.backward_into(
        y_grad.flatten(1), grads.gate, grad, norm_inputs(saved.y, columns.gate, inputs), options.of_norm()
    )
    selected = inputs.selected(saved.mixed, options.groups)
    x_grad, B_grad, C_grad = (v.flatten(1) for v in inputs.selected(grads.mixed, options.groups))
    of_A, of_D, of_dt_bias, _ = ssd.backward_into(
        ssd.RowGradients(x_grad, grads.dt, B_grad, C_grad), y_grad, None, ssd_inputs(selected, columns.dt, inputs),
        saved.checkpoints, options.of_ssd(),
    )  # fmt: skip
    # The gradient of the convolution's result is replaced by that of its input.
    of_weight, of_conv_bias, _ = conv.backward_into(
        grads.mixed, grads.mixed, None, conv_inputs(columns.mixed, inputs), options.of_conv()
    )
    return projected_grad, of_weight, of_conv_bias, of_A, of_D, of_dt_bias, of_norm
