"""The steps of speculative decoding: inputs are kept until the next call says which are accepted."""

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
    """Move the states of M sequences past the accepted ones of their cached inputs, and score K new inputs.

    The new inputs take the cache, and the states do not move past them before the next call says how many are
    accepted. So a model scores K drafted inputs at once, and drops those that are refused, while only the state behind
    the last accepted input is stored. Slots, precision and forms are as in ``selective_state_update``: a table in half
    precision is rounded once, behind the last accepted input, and the new inputs are scored from the states before
    that rounding. A GPU does not check the values of ``state_batch_indices`` and ``accepted``.

    Args:
        state: (R, D, N) or (R, H, P, N), float16, bfloat16, float32 or float64, with any strides, the states before
            the cached inputs; changed in place.
        cache: The inputs of the last call for all R slots, contiguous; changed in place. Its first values are not used,
            if nothing of it is accepted.
        x: (M, K, D) or (M, K, H, P), input; float16, bfloat16, float32 or float64, as the other tensors.
        dt: (M, K, D), or (M, K, H) or (M, K, H, P), steps before their bias and softplus.
        A: (D, N), or (H,) or (H, P, N), decay rates.
        B: (M, K, N) or (M, K, G, N), how the input enters the states.
        C: (M, K, N) or (M, K, G, N), how the states leave.
        D: (D,), or (H,) or (H, P), the part of the input that passes beside the states.
        z: (M, K, D) or (M, K, H, P), the gate.
        dt_bias: (D,), or (H,) or (H, P), added to dt.
        dt_softplus: Whether steps are softplus of dt plus bias, or that sum itself.
        accepted: (M,) integers, from 0 to K: the number of cached inputs of each sequence, the first ones, that are
            accepted.
        state_batch_indices: (M,) integers, the slot of each sequence, each at most once; negative for one that has
            finished, which is skipped. 0 to M - 1 if not given. Their values are checked on the CPU only: on a GPU a
            slot beyond the table is read and written outside of it.

    Returns:
        y, of the shape and the dtype of x; zeros where a sequence has finished.

    Raises:
        ValueError: Shapes, dtypes or devices do not fit, or gradients are required.

    Source: The Mamba in the Llama (arXiv 2408.15237), section 4.
    """
    check_step_inputs(StepTensors(state, x, dt, A, B, C, D, z, dt_bias), "M, K")
    if B.ndim != state.ndim:
        B = B[:, :, None] if B.ndim == 3 else B[:, :, 0]
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
    table, *inputs = form  # PyTorch 2.6 compiles no slices of named tuples
    y: Tensor = state_step(table, *tables, *inputs, taken, slots, dt_softplus)
    return y.view(x.shape)


def _as_cached(dt: Tensor, cached: Tensor) -> Tensor:
    """Return steps of channels as the cache holds them: one entry a head, if they were expanded, or one a channel."""
    if cached.ndim == 4:
        return dt.contiguous()
    dt = collapse_expanded(dt, 3)
    return dt[..., 0] if dt.shape[3] == 1 else dt
