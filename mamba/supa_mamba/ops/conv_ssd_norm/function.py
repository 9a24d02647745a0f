"""Function of the mixer of Mamba-2 between its projections."""

from torch import Tensor

from supa_mamba.ops import backend
from supa_mamba.ops.conv_ssd_norm.inputs import MixerInputs, MixerOptions
from supa_mamba.ops.conv_ssd_norm.operator import run_conv_ssd_norm
from supa_mamba.ops.conv_ssd_norm.separate import run_separately
from supa_mamba.ops.dtypes import cast, state_dtype
from supa_mamba.ops.transforms import needs_gradients


def conv_ssd_norm(
    inputs: MixerInputs,
    options: MixerOptions,
    before: tuple[Tensor | None, Tensor | None] = (None, None),
    *,
    return_final_states: bool = False,
) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
    """Apply convolution, recurrence, gate and norm.

    On a GPU without states one operator does this, whose backward pass writes the gradient of the input projection
    once. Results and gradients have the same bits as those of the separate operations.

    Args:
        inputs: Inputs of the mixer, whose parameters may have any precision.
        options: Options of the mixer.
        before: (S, M, W - 1) and (S, H, P, N) states of convolution and recurrence before the first rows, or None for
            zeros.
        return_final_states: Whether to return the states after the last rows.

    Returns:
        (T, E) normalised rows, and the final states or None.
    """
    if not backend.is_cuda(inputs.projected) or return_final_states or any(x is not None for x in before):
        return run_separately(inputs, options, before, return_final_states=return_final_states)
    projected, *parameters, offset = inputs
    dtype = state_dtype(*inputs)
    given = (projected, *(cast(x, dtype) for x in parameters), offset)
    y, *_ = run_conv_ssd_norm(*given, *options, needs_gradients(*given))
    return y, None
