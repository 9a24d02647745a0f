"""Mixer of Mamba-2 on a CPU, for the custom operator."""

from torch import Tensor

from supa_mamba.ops.conv_ssd_norm.inputs import MixerInputs, MixerOptions, Saved
from supa_mamba.ops.conv_ssd_norm.separate import run_separately
from supa_mamba.ops.vjp import vjp


def forward(inputs: MixerInputs, options: MixerOptions, save: bool) -> tuple[Tensor, Saved]:
    """Apply convolution, recurrence, gate and norm, and save nothing."""
    y, _ = run_separately(inputs, options)
    return y.contiguous(), Saved.nothing(y)


def backward(grad: Tensor, inputs: MixerInputs, saved: Saved, options: MixerOptions) -> tuple[Tensor | None, ...]:
    """Compute the gradients of all inputs except the offset."""
    return vjp(lambda *given: run_separately(MixerInputs(*given), options)[:1], inputs, (grad,))
