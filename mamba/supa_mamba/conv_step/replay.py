"""The convolution's steps of speculative decoding: inputs are kept until it is known which of them hold."""

from torch import Tensor

from supa_mamba.checks import activation_is_silu
from supa_mamba.conv.function import Activation
from supa_mamba.conv_step.function import check_conv_step
from supa_mamba.conv_step.operator import causal_conv1d_step_operator
from supa_mamba.precision import cast
from supa_mamba.rows import check_accepted, check_cached, check_no_gradients, rows_of


def causal_conv1d_replay(
    state: Tensor,
    cache: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    accepted: Tensor,
    rows: Tensor | None = None,
    activation: Activation = None,
) -> Tensor:
    """Move the states of M sequences past the accepted ones of their cached inputs, and convolve K new inputs.

    The new inputs take the cache, and the state does not move past them before the next call tells how many hold. The
    twin of ``selective_state_replay``, which also says how rows, precision and devices are treated.

    Args:
        state: (R, D, W - 1) float32 or float64, contiguous, the inputs before the cached ones; changed in place.
        cache: (R, K, D) the inputs of the last call, contiguous, in a precision that holds x; changed in place. What it
            holds at first is not looked at, if nothing of it is accepted.
        x: (M, K, D) input.
        weight: (D, W), the last one for the step itself.
        bias: (D,).
        accepted: (M,) int64, from 0 to K: how many of the cached inputs of each sequence hold, the first ones.
        rows: (M,) int64, the row of each sequence, each at most once; negative for one that has finished, which is
            skipped. 0 to M - 1 if not given. What they hold is looked at on the CPU only: on a GPU a row beyond the
            table would be read and written where something else lies.
        activation: None, or "silu" (also called "swish").

    Returns:
        y (M, K, D) in the dtype of x; zeros where a sequence has finished.

    Raises:
        ValueError: shapes, kinds or devices do not fit, the activation is another, or gradients are asked for.
    """
    if x.ndim != 3:
        raise ValueError(f"x: shape {tuple(x.shape)} was given, but it must be (M, K, D).")
    check_conv_step(state, x, weight, bias, activation, "(M, K, D)")
    check_cached("cache", cache, (len(state), *x.shape[1:]), x, "(R, K, D)")
    check_accepted(accepted, x, state)
    check_no_gradients("causal_conv1d_replay", "causal_conv1d", state, cache, x, weight, bias)
    dtype = state.dtype
    y: Tensor = causal_conv1d_step_operator(
        state, cache, x, weight.to(dtype), cast(bias, dtype), accepted, rows_of(rows, x, state),
        activation_is_silu(activation),
    )  # fmt: skip
    return y
