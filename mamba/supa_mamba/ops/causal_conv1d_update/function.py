"""Public function for steps of the causal convolution."""

from torch import Tensor

from supa_mamba.ops.causal_conv1d.function import Activation
from supa_mamba.ops.causal_conv1d_update.operator import conv_step
from supa_mamba.ops.checks import activation_is_silu, check_shape
from supa_mamba.ops.dtypes import cast, state_dtype
from supa_mamba.ops.state_slots import check_no_gradients, check_state, normalize_integers, normalize_slots


def causal_conv1d_update(
    x: Tensor,
    conv_state: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: Activation = None,
    cache_seqlens: Tensor | None = None,
    conv_state_indices: Tensor | None = None,
) -> Tensor:
    """Take one or several steps of `causal_conv1d` for M sequences and update their states in place.

    The arguments are those of the function of the same name in the package causal_conv1d. Each slot of ``conv_state``
    stores the last L inputs of one sequence, L >= W - 1, in one of two layouts:

    - Without ``cache_seqlens`` the latest input is in the last column. Each step shifts the columns by one to the left
      and writes its input into the last column.
    - With ``cache_seqlens`` the columns are a circular buffer. ``cache_seqlens[m]`` is the number of steps of sequence
      m before this call. Step i of the call reads the W - 1 columns before column (cache_seqlens[m] + i) mod L, and
      then writes its input into this column. ``cache_seqlens`` itself is not modified; add K to it after the call.

    Sums are computed in float32, or in float64 if the states are float64. An input is rounded when it is stored in a
    state of lower precision. Slots and the behaviour on a GPU are the same as in `selective_state_update`.

    Args:
        x: (M, D) input of one step, or (M, D, K) inputs of K steps; float16, bfloat16, float32 or float64, like all
            other tensors.
        conv_state: (R, D, L) state table; float16, bfloat16, float32 or float64, with any strides. The slots of the M
            sequences are overwritten.
        weight: (D, W) kernel of each channel; the last column is the weight of the current input.
        bias: (D,) bias of each channel; none by default.
        activation: None, ``"silu"`` or its synonym ``"swish"``.
        cache_seqlens: (M,) integers of at least 0, the numbers of earlier steps, if the states are circular buffers.
        conv_state_indices: (M,) integers, the slot of each sequence, without duplicates; 0 to M - 1 by default. A
            negative slot marks a finished sequence, which is skipped. The values are checked on a CPU only; on a GPU,
            a slot beyond the table accesses memory out of bounds.

    Returns:
        y, of the shape and the dtype of ``x``; zeros for finished sequences.

    Raises:
        ValueError: If shapes, dtypes or devices do not match, the activation is not supported, or gradients are
            required.

    Example:
        >>> import torch
        >>> from supa_mamba import causal_conv1d_update
        >>> weight = torch.randn(64, 4)  # (D, W)
        >>> window, buffer = torch.zeros(2, 64, 3), torch.zeros(2, 64, 3)  # (R, D, W - 1)
        >>> for t in range(5):
        ...     x = torch.randn(2, 64)
        ...     shifted = causal_conv1d_update(x, window, weight)
        ...     circular = causal_conv1d_update(x, buffer, weight, cache_seqlens=torch.full((2,), t))
        >>> torch.allclose(shifted, circular, atol=1e-5)
        True

    Source:
        Mamba (arXiv 2312.00752), section 3.4.
    """
    if x.ndim not in (2, 3):
        raise ValueError(f"x: shape {tuple(x.shape)} was given, but it must be (M, D) or (M, D, K).")
    check_conv_step(conv_state, weight, bias)
    channels = conv_state.shape[1]
    if x.ndim == 2:
        check_shape("x", x, (x.shape[0], channels), conv_state, "(M, D)")
    else:
        check_shape("x", x, (x.shape[0], channels, x.shape[2]), conv_state, "(M, D, K)")
    silu, dtype = activation_is_silu(activation), state_dtype(conv_state)
    check_no_gradients("causal_conv1d_update", "causal_conv1d", x, conv_state, weight, bias)
    begins = None
    if cache_seqlens is not None:
        begins = normalize_integers("cache_seqlens", cache_seqlens, x)
        if conv_state.shape[2] < 1:
            raise ValueError(
                f"conv_state: shape {tuple(conv_state.shape)} was given, but cache_seqlens requires L >= 1."
            )
    slots = normalize_slots("conv_state_indices", conv_state_indices, x, conv_state)
    steps = x[:, None] if x.ndim == 2 else x.transpose(1, 2)
    y: Tensor = conv_step(conv_state, None, steps, weight.to(dtype), cast(bias, dtype), None, begins, slots, silu)
    return y[:, 0] if x.ndim == 2 else y.transpose(1, 2)


def check_conv_step(conv_state: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    """Check the states and the parameters of `causal_conv1d_update` and `causal_conv1d_replay`.

    Args:
        conv_state: (R, D, L) state table, L >= W - 1.
        weight: (D, W) kernel.
        bias: (D,) bias, or None.

    Raises:
        ValueError: If shapes, dtypes or devices do not match.
    """
    check_state("conv_state", conv_state, (3,), "(R, D, L), where L >= W - 1")
    _, channels, columns = conv_state.shape
    if channels < 1:
        raise ValueError(
            f"conv_state: shape {tuple(conv_state.shape)} was given, but it must have at least one channel."
        )
    if weight.ndim != 2 or weight.shape[1] < 1:
        raise ValueError(f"weight: shape {tuple(weight.shape)} was given, but it must be (D, W).")
    width = weight.shape[1]
    check_shape("weight", weight, (channels, width), conv_state, "(D, W)")
    check_shape("bias", bias, (channels,), conv_state, "(D,)")
    if columns < width - 1:
        raise ValueError(
            f"conv_state: shape {tuple(conv_state.shape)} was given, but it must be (R, D, L), where L >= W - 1 = "
            f"{width - 1}, because the weight has W = {width} columns."
        )
