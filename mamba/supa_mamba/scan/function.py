"""The selective scan, on whatever device its inputs lie."""

from typing import Literal, overload

import torch
from torch import Tensor

from supa_mamba.checks import check_shape
from supa_mamba.dispatch import through_operator
from supa_mamba.packing import offset_of
from supa_mamba.precision import cast, state_dtype
from supa_mamba.scan import cpu
from supa_mamba.scan.operator import selective_scan_operator


@overload
def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    *,
    offset: Tensor | None = None,
    initial_state: Tensor | None = None,
    reverse: bool = False,
    delta_softplus: bool = True,
    return_final_state: Literal[False] = False,
) -> Tensor: ...


@overload
def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    *,
    offset: Tensor | None = None,
    initial_state: Tensor | None = None,
    reverse: bool = False,
    delta_softplus: bool = True,
    return_final_state: Literal[True],
) -> tuple[Tensor, Tensor]: ...


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    *,
    offset: Tensor | None = None,
    initial_state: Tensor | None = None,
    reverse: bool = False,
    delta_softplus: bool = True,
    return_final_state: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Run the recurrence of Mamba-1 over each of several sequences.

    Of each sequence and channel d, with the step Delta_t = softplus(delta_t + delta_bias)::

        h_t = exp(Delta_t A) h_{t-1} + Delta_t B_t u_t      (N states)
        y_t = (<C_t, h_t> + D u_t) silu(z_t)

    The sequences are packed, rows of all of them behind each other and ``offset`` where each begins, or padded, all L
    steps long. States and sums are kept in float32, or in float64 where an input is float64. Gradients flow into every
    tensor and through the final state; on a GPU and in compiled programs second derivatives are not to be had. On a
    GPU nothing waits for the device, so what the offset holds is not looked at there; the gradients are the same bits
    every time.

    Args:
        u: (T, D) packed or (B, L, D) padded input; float16, bfloat16, float32 or float64, as the other tensors.
        delta: as u, steps before their bias and softplus.
        A: (D, N) decay rates, usually negative; N up to 256.
        B: (T, N) or (B, L, N), how the input enters the states.
        C: (T, N) or (B, L, N), how the states leave.
        D: (D,) what of the input passes beside the states.
        z: as u, the gate.
        delta_bias: (D,) what is added to delta.
        offset: (S + 1,) integers, the first row of each packed sequence and the number of rows T; a sequence may be
            empty. None where the input is padded; then S = B.
        initial_state: (S, D, N) states before the first step; zeros if not given.
        reverse: whether each sequence is walked from its own end to its start.
        delta_softplus: whether steps are softplus of delta plus bias, or that sum itself.
        return_final_state: whether to give the states after the last step, too.

    Returns:
        y, of the shape and the dtype of u, and with ``return_final_state`` the states (S, D, N) after the last step
        walked, float32 or float64; of an empty sequence its initial state.

    Raises:
        ValueError: shapes, kinds or devices do not fit.

    Example:
        A batch of two sequences of three steps, padded and packed::

            y = selective_scan(u, delta, A, B, C)  # u (2, 3, D)
            offset = torch.tensor([0, 3, 6])
            u, delta, B, C = (x.flatten(0, 1) for x in (u, delta, B, C))  # u (6, D)
            same = selective_scan(u, delta, A, B, C, offset=offset)

    Source: Mamba (arXiv 2312.00752), algorithm 2 and section 3.3.
    """
    begins = offset_of("u", u, offset)
    _check(u, delta, A, B, C, D, z, delta_bias, initial_state, len(begins) - 1)
    dtype = state_dtype(u, delta, A, B, C, D, z, delta_bias, initial_state)
    channels, states = A.shape
    inputs, steps = u.reshape(-1, channels), delta.reshape(-1, channels)
    gate = None if z is None else z.reshape(-1, channels)
    enter, leave = B.reshape(-1, states), C.reshape(-1, states)
    rates, skip, bias, start = A.to(dtype), cast(D, dtype), cast(delta_bias, dtype), cast(initial_state, dtype)
    if through_operator(u):
        given = (inputs, steps, rates.t(), enter, leave, skip, gate, bias)
        begin = None if start is None else start.transpose(1, 2)
        save = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in (*given, begin))
        y, final_state, _ = selective_scan_operator(*given, begins, begin, reverse, delta_softplus, save)
        final_state = final_state.transpose(1, 2)
    else:
        given = (inputs, steps, rates, enter, leave, skip, gate, bias)
        y, final_state = cpu.scan(*given, begins, start, reverse, delta_softplus)
    y = y.reshape(u.shape)
    return (y, final_state) if return_final_state else y


def _check(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    initial_state: Tensor | None,
    sequences: int,
) -> None:
    rows, channels = tuple(u.shape[:-1]), u.shape[-1]
    letters = "(B, L" if len(rows) == 2 else "(T"
    if A.ndim != 2 or not 1 <= A.shape[1] <= 256 or channels < 1:
        raise ValueError(
            f"A: shape {tuple(A.shape)} was given for {channels} channels, but it must be (D, N) with at least one "
            "channel and 1 to 256 states."
        )
    states = A.shape[1]
    check_shape("u", u, (*rows, channels), u, f"{letters}, D)")
    check_shape("A", A, (channels, states), u, "(D, N)")
    for name, x in {"delta": delta, "z": z}.items():
        check_shape(name, x, (*rows, channels), u, f"{letters}, D)")
    for name, x in {"B": B, "C": C}.items():
        check_shape(name, x, (*rows, states), u, f"{letters}, N)")
    for name, x in {"D": D, "delta_bias": delta_bias}.items():
        check_shape(name, x, (channels,), u, "(D,)")
    check_shape("initial_state", initial_state, (sequences, channels, states), u, "(S, D, N)")
