"""The steps of speculative decoding: inputs are kept until it is known which of them hold."""

from torch import Tensor

from supa_mamba.rows import check_accepted, check_cached, check_no_gradients, rows_of
from supa_mamba.step.cache import ReplayCache
from supa_mamba.step.inputs import check_step_inputs, in_one_form
from supa_mamba.step.operator import selective_state_step_operator


def selective_state_replay(
    state: Tensor,
    cache: ReplayCache,
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    *,
    accepted: Tensor,
    rows: Tensor | None = None,
    delta_softplus: bool = True,
) -> Tensor:
    """Move the states of M sequences past the accepted ones of their cached inputs, and score K new inputs.

    The new inputs take the cache, and the states do not move past them before the next call tells how many hold. So a
    model scores K drafted inputs at once, and takes back those that are refused, while no state is stored but the one
    behind the last accepted input. Rows, precision and forms are as in ``selective_state_update``. A GPU does not look
    at what ``rows`` and ``accepted`` hold beforehand.

    Args:
        state: (R, D, N) or (R, H, P, N), float32 or float64, contiguous, the states before the cached inputs; changed
            in place.
        cache: the inputs of the last call for all R rows; changed in place. What it holds at first is not looked at,
            if nothing of it is accepted.
        x: (M, K, D) or (M, K, H, P), input; float16, bfloat16, float32 or float64, as the other tensors.
        delta: (M, K, D) or (M, K, H), steps before their bias and softplus.
        A: (D, N) or (H,), decay rates.
        B: (M, K, N) or (M, K, G, N), how the input enters the states.
        C: (M, K, N) or (M, K, G, N), how the states leave.
        D: (D,) or (H,), what of the input passes beside the states.
        z: (M, K, D) or (M, K, H, P), the gate.
        delta_bias: (D,) or (H,), what is added to delta.
        accepted: (M,) int64, from 0 to K: how many of the cached inputs of each sequence hold, the first ones.
        rows: (M,) int64, the row of each sequence, each at most once; negative for one that has finished, which is
            skipped. 0 to M - 1 if not given. What they hold is looked at on the CPU only: on a GPU a row beyond the
            table would be read and written where something else lies.
        delta_softplus: whether steps are softplus of delta plus bias, or that sum itself.

    Returns:
        y, of the shape and the dtype of x; zeros where a sequence has finished.

    Raises:
        ValueError: shapes, kinds or devices do not fit, or gradients are asked for.

    Source: The Mamba in the Llama (arXiv 2408.15237), section 4.
    """
    check_step_inputs(state, x, delta, A, B, C, D, z, delta_bias, "M, K")
    for name, cached, new in (("x", cache.x, x), ("delta", cache.delta, delta), ("B", cache.B, B)):
        check_cached(f"cache.{name}", cached, (state.shape[0], *new.shape[1:]), new, f"(R, K, ...) as {name}")
    check_accepted(accepted, x, state)
    caches = (cache.x, cache.delta, cache.B)
    check_no_gradients(
        "selective_state_replay", "selective_scan or ssd", state, *caches, x, delta, A, B, C, D, z, delta_bias
    )
    table, inputs = in_one_form(state, x, delta, A, B, C, D, z, delta_bias)
    flat = (v.flatten(2) for v in caches)
    y: Tensor = selective_state_step_operator(table, *flat, *inputs, accepted, rows_of(rows, x, state), delta_softplus)
    return y.view(x.shape)
