"""Steps of Mamba-1 and Mamba-2 for speculative decoding."""

from torch import Tensor

from supa_mamba.ops.selective_state_update.cache import ReplayCache
from supa_mamba.ops.selective_state_update.inputs import (
    StepTensors,
    canonicalize,
    check_step_inputs,
    collapse_expanded,
)
from supa_mamba.ops.selective_state_update.operator import state_step
from supa_mamba.ops.state_slots import check_cached, check_no_gradients, normalize_integers, normalize_slots


def selective_state_replay(
    state: Tensor,
    cache: ReplayCache,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = False,
    *,
    accepted: Tensor,
    state_batch_indices: Tensor | None = None,
) -> Tensor:
    """Advance M states past the accepted cached inputs, and score K new inputs.

    In speculative decoding, a large model scores K drafted inputs at once and accepts the first few of them. The new
    inputs replace the cached ones. The states do not advance past them until the next call specifies how many of them
    are accepted, so rejected inputs need not be undone, and only one state per sequence is stored.

    Slots, precision and shapes are the same as in `selective_state_update`. A state in half precision is rounded once,
    after the last accepted input, and the new inputs are scored from the state before rounding. On a GPU the values of
    ``state_batch_indices`` and ``accepted`` are not checked.

    Args:
        state: (R, D, N) or (R, H, P, N) state table before the cached inputs; float16, bfloat16, float32 or float64,
            with any strides. Modified in place.
        cache: Inputs of the previous call for all R slots, contiguous. Modified in place. The initial values do not
            matter if none of them is accepted.
        x: (M, K, D) or (M, K, H, P) new inputs; float16, bfloat16, float32 or float64, like all other tensors.
        dt: (M, K, D), or (M, K, H) or (M, K, H, P) step sizes before bias and softplus.
        A: (D, N), or (H,) or (H, P, N) decay rates, usually negative.
        B: (M, K, N) or (M, K, G, N) input matrix.
        C: (M, K, N) or (M, K, G, N) output matrix.
        D: (D,), or (H,) or (H, P) skip weights; no skip connection by default.
        z: (M, K, D) or (M, K, H, P) gate; no gate by default.
        dt_bias: (D,), or (H,) or (H, P) bias of the step sizes; none by default.
        dt_softplus: Whether to apply softplus to ``dt + dt_bias``.
        accepted: (M,) integers from 0 to K: the first ``accepted[m]`` cached inputs of sequence m are accepted.
        state_batch_indices: (M,) integers, the slot of each sequence, without duplicates; 0 to M - 1 by default. A
            negative slot marks a finished sequence, which is skipped. The values are checked on a CPU only; on a GPU,
            a slot beyond the table accesses memory out of bounds.

    Returns:
        y, of the shape and the dtype of ``x``; zeros for finished sequences.

    Raises:
        ValueError: If shapes, dtypes or devices do not match, or gradients are required.

    Example:
        >>> import torch
        >>> from supa_mamba import ReplayCache, selective_state_replay
        >>> states, A = torch.zeros(2, 64, 16), -torch.rand(64, 16)  # (R, D, N), (D, N)
        >>> cache = ReplayCache.empty(states, inputs=4)
        >>> accepted = torch.tensor([0, 0])  # nothing is cached before the first call
        >>> for _ in range(3):
        ...     x, dt, B, C = (torch.randn(2, 4, size) for size in (64, 64, 16, 16))  # four drafted inputs each
        ...     y = selective_state_replay(states, cache, x, dt, A, B, C, dt_softplus=True, accepted=accepted)
        ...     accepted = torch.tensor([4, 1])  # accept all drafts of the first sequence, one of the second
        >>> y.shape
        torch.Size([2, 4, 64])

    Source:
        The Mamba in the Llama (arXiv 2408.15237), section 4.
    """
    check_step_inputs(StepTensors(state, x, dt, A, B, C, D, z, dt_bias), "M, K")
    if B.ndim != state.ndim:
        B = B[:, :, None] if B.ndim == 3 else B[:, :, 0] if B.shape[2] == 1 else B
    if dt.ndim == 4:
        dt = _as_cached(dt, cache.dt)
    for name, cached, new in (("x", cache.x, x), ("dt", cache.dt, dt), ("B", cache.B, B)):
        check_cached(f"cache.{name}", cached, (state.shape[0], *new.shape[1:]), new, f"(R, K, ...) as {name}")
    given, caches = StepTensors(state, x, dt, A, B, C, D, z, dt_bias), (cache.x, cache.dt, cache.B)
    check_no_gradients("selective_state_replay", "selective_scan or ssd", *given, *caches)
    taken = normalize_integers("accepted", accepted, x)
    slots = normalize_slots("state_batch_indices", state_batch_indices, x, state)
    form = canonicalize(given)
    tables = (
        cached.view(cached.shape[0], *new.shape[1:])
        for cached, new in zip(caches, (form.x, form.dt, form.B), strict=True)
    )
    table, *inputs = form  # PyTorch 2.6 cannot compile slices of named tuples
    y: Tensor = state_step(table, *tables, *inputs, taken, slots, dt_softplus)
    return y.view(x.shape)


def _as_cached(dt: Tensor, cached: Tensor) -> Tensor:
    """Return step sizes in the form of the cache: one per head if they were expanded, or one per channel."""
    if cached.ndim == 4:
        return dt.contiguous()
    dt = collapse_expanded(dt, 3)
    return dt[..., 0] if dt.shape[3] == 1 else dt
