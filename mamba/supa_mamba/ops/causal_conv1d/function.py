"""Public function of the causal convolution."""

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
    """Apply a depthwise causal convolution to each of several sequences.

    For each sequence and channel::

        y_t = activation(bias + sum_{k=0}^{W-1} weight[W - 1 - k] x_{t-k})

    The inputs before the first row are the initial state, never those of another sequence. Packed and padded inputs,
    precision, derivatives and the behaviour on a GPU are the same as in `selective_scan`.

    Names and defaults of the arguments are those of ``causal_conv1d_fn`` of the package causal_conv1d, with two
    differences: the channels come last, and ``offset`` replaces ``seq_idx``.

    Args:
        x: (T, D) packed or (B, L, D) padded input; float16, bfloat16, float32 or float64, like all other tensors.
        weight: (D, W) kernel of each channel; the last column is the weight of the current row. W up to about 32.
        bias: (D,) bias of each channel; none by default.
        offset: (S + 1,) integers. Sequence s consists of the rows ``offset[s]`` to ``offset[s + 1] - 1``. None for a
            padded input, where S = B.
        initial_states: (S, D, W - 1) inputs before the first row, the latest one last; zeros by default.
        reverse: Whether to process each sequence from its last row to its first. In the formula, t - k is then t + k.
        activation: None, ``"silu"`` or its synonym ``"swish"``.
        return_final_states: Whether to also return the last W - 1 inputs of each sequence.

    Returns:
        y, of the shape and the dtype of ``x``, and with ``return_final_states`` the last inputs of each sequence,
        (S, D, W - 1) float32 or float64.

    Raises:
        ValueError: If shapes, dtypes or devices do not match, or the activation is not supported.

    Example:
        >>> import torch
        >>> from supa_mamba import causal_conv1d
        >>> x, weight = torch.ones(5, 1), torch.tensor([[1.0, 10.0, 100.0]])  # one channel, three kernel weights
        >>> offset = torch.tensor([0, 2, 5])  # two sequences of 2 and 3 rows
        >>> causal_conv1d(x, weight, offset=offset)[:, 0]
        tensor([100., 110., 100., 110., 111.])

    Source:
        Mamba (arXiv 2312.00752), section 3.4.
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
