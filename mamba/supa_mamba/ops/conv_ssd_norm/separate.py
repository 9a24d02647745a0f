"""Mixer of Mamba-2 as separate operations, with states and derivatives of every order that these support."""

from functools import partial

from torch import Tensor

from supa_mamba.ops.causal_conv1d.function import causal_conv1d
from supa_mamba.ops.conv_ssd_norm.inputs import MixerInputs, MixerOptions
from supa_mamba.ops.gated_rms_norm.function import gated_rms_norm
from supa_mamba.ops.ssd.function import ssd


def run_separately(
    inputs: MixerInputs,
    options: MixerOptions,
    before: tuple[Tensor | None, Tensor | None] = (None, None),
    *,
    return_final_states: bool = False,
) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
    """Apply convolution, recurrence, gate and norm one after another.

    Args:
        inputs: Inputs of the mixer, whose parameters may have any precision.
        options: Options of the mixer.
        before: (S, M, W - 1) and (S, H, P, N) states of convolution and recurrence before the first rows, or None for
            zeros.
        return_final_states: Whether to return the states after the last rows.

    Returns:
        (T, E) normalised rows, and the final states or None.
    """
    gate, mixed, dt = inputs.columns(inputs.projected)
    convolve = partial(
        causal_conv1d, mixed, inputs.conv_weight, inputs.conv_bias, offset=inputs.offset, initial_states=before[0],
        reverse=options.reverse, activation="silu",
    )  # fmt: skip
    mixed, conv = convolve(return_final_states=True) if return_final_states else (convolve(), None)
    x, B, C = inputs.selected(mixed, options.groups)
    recur = partial(
        ssd, x, dt, inputs.A, B, C, D=inputs.D, dt_bias=inputs.dt_bias, dt_softplus=True,
        dt_limit=(options.dt_min, options.dt_max), offset=inputs.offset, initial_states=before[1],
        reverse=options.reverse,
    )  # fmt: skip
    y, states = recur(return_final_states=True) if return_final_states else (recur(), None)
    y = gated_rms_norm(
        y.flatten(1), gate, inputs.norm_weight, options.groups, options.eps, norm_before_gate=options.norm_before_gate
    )
    return y, None if conv is None or states is None else (conv, states)
