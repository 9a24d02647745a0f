"""One step of the causal convolution, on whatever device its inputs lie."""

from torch import Tensor

from supa_mamba.checks import activation_is_silu, check_shape
from supa_mamba.conv.function import Activation
from supa_mamba.conv_step.operator import causal_conv1d_step_operator
from supa_mamba.precision import cast
from supa_mamba.rows import check_no_gradients, check_state, rows_of


def causal_conv1d_update(
    state: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    rows: Tensor | None = None,
    activation: Activation = None,
) -> Tensor:
    """Take one step of ``causal_conv1d`` for M sequences, and change their states in place.

    Rows, precision and what a GPU does are as in ``selective_state_update``.

    Args:
        state: (R, D, W - 1) float32 or float64, contiguous, the inputs before this step, the latest one last; the rows
            named are overwritten.
        x: (M, D) input; float16, bfloat16, float32 or float64, as the other tensors.
        weight: (D, W), the last one for the step itself; any small width.
        bias: (D,).
        rows: (M,) int64, the row of each sequence, each at most once; negative for one that has finished, which is
            skipped. 0 to M - 1 if not given. What they hold is looked at on the CPU only: on a GPU a row beyond the
            table would be read and written where something else lies.
        activation: None, or "silu" (also called "swish").

    Returns:
        y (M, D) in the dtype of x; zeros where a sequence has finished.

    Raises:
        ValueError: shapes, kinds or devices do not fit, the activation is another, or gradients are asked for.
    """
    if x.ndim != 2:
        raise ValueError(f"x: shape {tuple(x.shape)} was given, but it must be (M, D).")
    check_conv_step(state, x, weight, bias, activation, "(M, D)")
    check_no_gradients("causal_conv1d_update", "causal_conv1d", state, x, weight, bias)
    dtype = state.dtype
    y: Tensor = causal_conv1d_step_operator(
        state, None, x[:, None], weight.to(dtype), cast(bias, dtype), None, rows_of(rows, x, state),
        activation_is_silu(activation),
    )  # fmt: skip
    return y[:, 0]


def check_conv_step(
    state: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, activation: Activation, words: str
) -> None:
    """Check what both steps of the convolution take.

    Args:
        state: (R, D, W - 1).
        x: (..., D).
        weight: (D, W).
        bias: (D,).
        activation: None, or "silu" (also called "swish").
        words: the shape of x in letters.

    Raises:
        ValueError: something does not fit.
    """
    check_state(state, (3,), "(R, D, W - 1)")
    channels, width = state.shape[1], state.shape[2] + 1
    if channels < 1:
        raise ValueError(f"state: shape {tuple(state.shape)} was given, but it must have a channel.")
    check_shape("x", x, (*x.shape[:-1], channels), state, words)
    check_shape("weight", weight, (channels, width), state, "(D, W)")
    check_shape("bias", bias, (channels,), state, "(D,)")
    activation_is_silu(activation)
