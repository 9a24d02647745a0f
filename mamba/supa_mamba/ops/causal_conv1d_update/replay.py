"""The convolution's steps of speculative decoding: the next call says which of the inputs are accepted."""

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
    """Move the states of M sequences past the accepted ones of their cached inputs, and convolve K new inputs.

    The new inputs take the cache, and the state does not move past them before the next call says how many are
    accepted. The slots, precision and checks are those of ``selective_state_replay``, and so is the layout of x: steps
    before channels. The columns of the state are shifted as by ``causal_conv1d_update`` without ``cache_seqlens``.

    Args:
        x: (M, K, D) input; float16, bfloat16, float32 or float64, as the other tensors.
        conv_state: (R, D, L), L >= W - 1, float16, bfloat16, float32 or float64, with any strides, the inputs before
            the cached ones, the latest one last; changed in place.
        cache: (R, K, D) the inputs of the last call, contiguous, in a precision that holds x; changed in place. Its
            first values are not used, if nothing of it is accepted.
        weight: (D, W), the last one for the step itself.
        bias: (D,).
        activation: None, or "silu" (also called "swish").
        accepted: (M,) integers, from 0 to K: the number of cached inputs of each sequence, the first ones, that are
            accepted.
        conv_state_indices: (M,) integers, the slot of each sequence, each at most once; negative for one that has
            finished, which is skipped. 0 to M - 1 if not given. Their values are checked on the CPU only: on a GPU a
            slot beyond the table is read and written outside of it.

    Returns:
        y (M, K, D) in the dtype of x; zeros where a sequence has finished.

    Raises:
        ValueError: Shapes, dtypes or devices do not fit, the activation is another one, or gradients are required.
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
