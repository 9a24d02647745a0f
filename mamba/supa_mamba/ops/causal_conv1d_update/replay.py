"""Steps of the convolution for speculative decoding."""

from torch import Tensor

from supa_mamba.ops.causal_conv1d.function import Activation
from supa_mamba.ops.causal_conv1d_update.function import check_conv_step
from supa_mamba.ops.causal_conv1d_update.operator import conv_step
from supa_mamba.ops.checks import activation_is_silu, check_shape
from supa_mamba.ops.dtypes import cast, state_dtype
from supa_mamba.ops.state_slots import check_cached, check_no_gradients, normalize_integers, normalize_slots


def causal_conv1d_replay(
    x: Tensor,
    conv_state: Tensor,
    cache: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: Activation = None,
    *,
    accepted: Tensor,
    conv_state_indices: Tensor | None = None,
) -> Tensor:
    """Advance M convolution states past the accepted cached inputs, and convolve K new inputs.

    This is the convolution for speculative decoding; see `selective_state_replay`. The new inputs replace the cached
    ones. The state does not advance past them until the next call specifies how many of them are accepted. The columns
    of the state are shifted as in `causal_conv1d_update` without ``cache_seqlens``. In ``x``, steps come before
    channels.

    Args:
        x: (M, K, D) new inputs; float16, bfloat16, float32 or float64, like all other tensors.
        conv_state: (R, D, L) state table, L >= W - 1: the inputs before the cached ones, the latest one last; float16,
            bfloat16, float32 or float64, with any strides. Modified in place.
        cache: (R, K, D) inputs of the previous call, contiguous, in a precision that represents ``x`` exactly.
            Modified in place. Its initial values do not matter if none of them is accepted.
        weight: (D, W) kernel of each channel; the last column is the weight of the current input.
        bias: (D,) bias of each channel; none by default.
        activation: None, ``"silu"`` or its synonym ``"swish"``.
        accepted: (M,) integers from 0 to K: the first ``accepted[m]`` cached inputs of sequence m are accepted.
        conv_state_indices: (M,) integers, the slot of each sequence, without duplicates; 0 to M - 1 by default. A
            negative slot marks a finished sequence, which is skipped. The values are checked on a CPU only; on a GPU,
            a slot beyond the table accesses memory out of bounds.

    Returns:
        y (M, K, D) in the dtype of ``x``; zeros for finished sequences.

    Raises:
        ValueError: If shapes, dtypes or devices do not match, the activation is not supported, or gradients are
            required.

    Example:
        >>> import torch
        >>> from supa_mamba import causal_conv1d_replay
        >>> weight = torch.randn(64, 4)  # (D, W)
        >>> state, cache = torch.zeros(2, 64, 3), torch.zeros(2, 5, 64)  # two sequences, five inputs per call
        >>> accepted = torch.tensor([0, 0])  # nothing is cached before the first call
        >>> y = causal_conv1d_replay(torch.randn(2, 5, 64), state, cache, weight, accepted=accepted)
        >>> accepted = torch.tensor([5, 2])  # accept all inputs of the first sequence, two of the second
        >>> causal_conv1d_replay(torch.randn(2, 5, 64), state, cache, weight, accepted=accepted).shape
        torch.Size([2, 5, 64])

    Source:
        The Mamba in the Llama (arXiv 2408.15237), section 4.
    """
    if x.ndim != 3:
        raise ValueError(f"x: shape {tuple(x.shape)} was given, but it must be (M, K, D).")
    check_conv_step(conv_state, weight, bias)
    check_shape("x", x, (*x.shape[:2], conv_state.shape[1]), conv_state, "(M, K, D)")
    check_cached("cache", cache, (conv_state.shape[0], *x.shape[1:]), x, "(R, K, D)")
    silu, dtype = activation_is_silu(activation), state_dtype(conv_state)
    check_no_gradients("causal_conv1d_replay", "causal_conv1d", x, conv_state, cache, weight, bias)
    taken, slots = (
        normalize_integers("accepted", accepted, x),
        normalize_slots("conv_state_indices", conv_state_indices, x, conv_state),
    )
    y: Tensor = conv_step(conv_state, cache, x, weight.to(dtype), cast(bias, dtype), taken, None, slots, silu)
    return y
