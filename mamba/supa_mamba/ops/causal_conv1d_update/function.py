"""Steps of the causal convolution, on a CPU or a GPU."""

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
    """Take one step of ``causal_conv1d``, or K steps, for M sequences, and change their states in place.

    The arguments are those of causal_conv1d's function of this name. Each slot of ``conv_state`` holds the last L
    inputs of one sequence, L >= W - 1, in one of two ways:

    - Without ``cache_seqlens`` the latest input is the last column. Each step shifts the columns by one to the left,
      and writes its input into the last column.
    - With ``cache_seqlens`` the columns are a circular buffer, and no column is shifted. ``cache_seqlens[m]`` is the
      number of steps of sequence m before this call: step i of the call writes its input into column
      (cache_seqlens[m] + i) mod L, after it has read the W - 1 columns before that, also mod L. The tensor itself is
      not changed; add K to it after the call.

    Slots, precision and the checks on a GPU are as in ``selective_state_update``: sums are made in float32, or in
    float64 where the states are float64, and an input is rounded where it is written into a table of lower precision.

    Args:
        x: (M, D), or (M, D, K) for K steps; float16, bfloat16, float32 or float64, as the other tensors.
        conv_state: (R, D, L), float16, bfloat16, float32 or float64, with any strides; the slots of the M sequences are
            overwritten.
        weight: (D, W), the last one for the step itself; any small width.
        bias: (D,).
        activation: None, or "silu" (also called "swish").
        cache_seqlens: (M,) integers of at least 0, if the states are circular buffers.
        conv_state_indices: (M,) integers, the slot of each sequence, each at most once; negative for one that has
            finished, which is skipped. 0 to M - 1 if not given. Their values are checked on the CPU only: on a GPU a
            slot beyond the table is read and written outside of it.

    Returns:
        y, of the shape and the dtype of x; zeros where a sequence has finished.

    Raises:
        ValueError: Shapes, dtypes or devices do not fit, the activation is another one, or gradients are required.

    Example:
        >>> weight = torch.randn(64, 4)  # (D, W)
        >>> window, buffer = torch.zeros(2, 64, 3), torch.zeros(2, 64, 3)  # (R, D, W - 1)
        >>> for t in range(5):
        ...     x = torch.randn(2, 64)
        ...     y = causal_conv1d_update(x, window, weight)
        ...     same = causal_conv1d_update(x, buffer, weight, cache_seqlens=torch.full((2,), t))
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
                f"conv_state: shape {tuple(conv_state.shape)} was given, but with cache_seqlens it must have a column."
            )
    slots = normalize_slots("conv_state_indices", conv_state_indices, x, conv_state)
    steps = x[:, None] if x.ndim == 2 else x.transpose(1, 2)
    y: Tensor = conv_step(conv_state, None, steps, weight.to(dtype), cast(bias, dtype), None, begins, slots, silu)
    return y[:, 0] if x.ndim == 2 else y.transpose(1, 2)


def check_conv_step(conv_state: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    """Check the states and the parameters of both steps of the convolution.

    Args:
        conv_state: (R, D, L), L >= W - 1.
        weight: (D, W).
        bias: (D,).

    Raises:
        ValueError: Something does not fit.
    """
    check_state("conv_state", conv_state, (3,), "(R, D, L), where L >= W - 1")
    _, channels, columns = conv_state.shape
    if channels < 1:
        raise ValueError(f"conv_state: shape {tuple(conv_state.shape)} was given, but it must have a channel.")
    if weight.ndim != 2 or weight.shape[1] < 1:
        raise ValueError(f"weight: shape {tuple(weight.shape)} was given, but it must be (D, W).")
    width = weight.shape[1]
    check_shape("weight", weight, (channels, width), conv_state, "(D, W)")
    check_shape("bias", bias, (channels,), conv_state, "(D,)")
    if columns < width - 1:
        raise ValueError(
            f"conv_state: shape {tuple(conv_state.shape)} was given, but it must be (R, D, L), where L >= W - 1 = "
            f"{width - 1}, as the weight has W = {width} columns."
        )
