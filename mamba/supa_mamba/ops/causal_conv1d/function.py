"""The causal convolution on a CPU or a GPU."""

from typing import Literal, overload

from torch import Tensor

from supa_mamba.ops.causal_conv1d.inputs import ConvInputs, ConvOptions
from supa_mamba.ops.causal_conv1d.operator import run_conv
from supa_mamba.ops.checks import activation_is_silu, check_shape
from supa_mamba.ops.dtypes import cast, state_dtype
from supa_mamba.ops.packing import flatten_rows, normalize_offsets

Activation = Literal["silu", "swish"] | None


@overload
def causal_conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    offset: Tensor | None = None,
    initial_states: Tensor | None = None,
    reverse: bool = False,
    activation: Activation = None,
    return_final_states: Literal[False] = False,
) -> Tensor: ...


@overload
def causal_conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    offset: Tensor | None = None,
    initial_states: Tensor | None = None,
    reverse: bool = False,
    activation: Activation = None,
    return_final_states: Literal[True],
) -> tuple[Tensor, Tensor]: ...


def causal_conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    offset: Tensor | None = None,
    initial_states: Tensor | None = None,
    reverse: bool = False,
    activation: Activation = None,
    return_final_states: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Convolve each channel of each sequence with its own few weights, looking back only.

    Of each sequence and channel, y_t = activation(bias + sum over k of weight[W - 1 - k] x_{t-k}), where the inputs
    before the first step are the initial state, and never those of another sequence. Packed and padded sequences,
    precision, derivatives and checks on a GPU are as in ``selective_scan``.

    Names and defaults of the arguments are those of causal_conv1d's ``causal_conv1d_fn``. Two things differ: here the
    channels come last, and ``offset`` replaces ``seq_idx``.

    Args:
        x: (T, D) packed or (B, L, D) padded input; float16, bfloat16, float32 or float64, as the other tensors.
        weight: (D, W), the last one for the step itself; any small width: registers hold about 32.
        bias: (D,).
        offset: (S + 1,) integers, where each packed sequence begins; None where the input is padded; then S = B.
        initial_states: (S, D, W - 1) the inputs before the first step walked, the latest one last; zeros if not given.
        reverse: whether each sequence runs from its own end to its start; then t - k above is t + k.
        activation: None, or "silu" (also called "swish").
        return_final_states: whether to return the last inputs, too.

    Returns:
        y, of the shape and the dtype of x, and with ``return_final_states`` the last W - 1 inputs walked (S, D, W - 1),
        float32 or float64.

    Raises:
        ValueError: Shapes, dtypes or devices do not fit, or the activation is another.
    """
    begins = normalize_offsets("x", x, offset)
    if weight.ndim != 2 or weight.shape[1] < 1 or weight.shape[0] < 1:
        raise ValueError(f"weight: shape {tuple(weight.shape)} was given, but it must be (D, W), both at least 1.")
    channels, width = weight.shape
    check_shape("x", x, (*x.shape[:-1], channels), x, "(B, L, D)" if x.ndim == 3 else "(T, D)")
    check_shape("weight", weight, (channels, width), x, "(D, W)")
    check_shape("bias", bias, (channels,), x, "(D,)")
    check_shape("initial_states", initial_states, (begins.shape[0] - 1, channels, width - 1), x, "(S, D, W - 1)")
    use_silu = activation_is_silu(activation)
    dtype = state_dtype(x, weight, bias, initial_states)
    given = ConvInputs(
        flatten_rows(x, offset), weight.to(dtype), cast(bias, dtype), begins, cast(initial_states, dtype)
    )
    y, final_states = run_conv(given, ConvOptions(reverse, use_silu), return_final_states)
    y = y.reshape(x.shape)
    return (y, final_states) if return_final_states else y
