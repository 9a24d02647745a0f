"""One step of the selective scan, on whatever device its inputs lie."""

import torch
from torch import Tensor

from supa_mamba.checks import check_shape
from supa_mamba.precision import cast
from supa_mamba.step.operator import selective_state_update_operator


def selective_state_update(
    state: Tensor,
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    *,
    rows: Tensor | None = None,
    delta_softplus: bool = True,
) -> Tensor:
    """Take one step of ``selective_scan`` for M sequences, and change their states in place.

    The states lie in a table of R rows, and ``rows`` tells which belong to the M sequences; so sequences can end, and
    others take their rows, while no state is moved. No gradients flow.

    Args:
        state: (R, D, N) float32 or float64, contiguous; the rows named are overwritten.
        x: (M, D) input; float16, bfloat16, float32 or float64, as the other tensors.
        delta: (M, D) steps before their bias and softplus.
        A: (D, N) decay rates.
        B: (M, N), how the input enters the states.
        C: (M, N), how the states leave.
        D: (D,) what of the input passes beside the states.
        z: (M, D), the gate.
        delta_bias: (D,) what is added to delta.
        rows: (M,) int64, the row of each sequence, each at most once; negative for one that has finished, which is
            skipped. 0 to M - 1 if not given.
        delta_softplus: whether steps are softplus of delta plus bias, or that sum itself.

    Returns:
        y (M, D) in the dtype of x; zeros where a sequence has finished.

    Raises:
        ValueError: shapes, kinds or devices do not fit, or gradients are asked for.

    Source: Mamba (arXiv 2312.00752), equation 2a, with the discretisation of section 3.3.
    """
    _check(state, x, delta, A, B, C, D, z, delta_bias, rows)
    tensors = (state, x, delta, A, B, C, D, z, delta_bias)
    if torch.is_grad_enabled() and any(v is not None and v.requires_grad for v in tensors):
        raise ValueError(
            "selective_state_update changes its state and gives no gradients, but an input requires them; "
            "call it under torch.no_grad(), or train with selective_scan."
        )
    if rows is None:
        rows = torch.arange(len(x), device=x.device)
    dtype = state.dtype
    given = (state, x, delta, A.to(dtype), B, C, cast(D, dtype), z, cast(delta_bias, dtype), rows)
    y: Tensor = selective_state_update_operator(*given, delta_softplus)
    return y


def _check(
    state: Tensor,
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    rows: Tensor | None,
) -> None:
    if state.ndim != 3 or state.dtype not in (torch.float32, torch.float64) or not state.is_contiguous():
        raise ValueError(
            f"state: {state.dtype} of shape {tuple(state.shape)} was given, but it must be (R, D, N), float32 or "
            "float64, and contiguous, as it is changed in place."
        )
    if x.ndim != 2:
        raise ValueError(f"x: shape {tuple(x.shape)} was given, but it must be (M, D).")
    count, (_, channels, states) = len(x), state.shape
    if not 1 <= states <= 256 or channels < 1:
        raise ValueError(
            f"state: shape {tuple(state.shape)} was given, but it must have a channel and 1 to 256 states each."
        )
    for name, v in {"x": x, "delta": delta, "z": z}.items():
        check_shape(name, v, (count, channels), state, "(M, D)")
    for name, v in {"B": B, "C": C}.items():
        check_shape(name, v, (count, states), state, "(M, N)")
    check_shape("A", A, (channels, states), state, "(D, N)")
    for name, v in {"D": D, "delta_bias": delta_bias}.items():
        check_shape(name, v, (channels,), state, "(D,)")
    if rows is None:
        if count > len(state):
            raise ValueError(
                f"x: {count} rows were given, but the state has {len(state)}; say with rows which are meant."
            )
    elif rows.shape != (count,) or rows.dtype != torch.int64 or rows.device != state.device:
        raise ValueError(
            f"rows: shape {tuple(rows.shape)}, {rows.dtype} on {rows.device} was given, but it must be (M,) "
            f"= ({count},) int64 on {state.device}."
        )
