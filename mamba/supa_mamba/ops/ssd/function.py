"""Mamba-2's recurrence, on whatever device its inputs lie."""

import math
from typing import Literal, overload

from torch import Tensor

from supa_mamba.ops.checks import check_shape
from supa_mamba.ops.dtypes import cast, state_dtype
from supa_mamba.ops.packing import flatten_rows, normalize_offsets
from supa_mamba.ops.ssd.inputs import SsdInputs, SsdOptions
from supa_mamba.ops.ssd.operator import run_ssd


@overload
def ssd(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    *,
    D: Tensor | None = None,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = False,
    dt_limit: tuple[float, float] = (0.0, math.inf),
    offset: Tensor | None = None,
    initial_states: Tensor | None = None,
    reverse: bool = False,
    return_final_states: Literal[False] = False,
) -> Tensor: ...


@overload
def ssd(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    *,
    D: Tensor | None = None,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = False,
    dt_limit: tuple[float, float] = (0.0, math.inf),
    offset: Tensor | None = None,
    initial_states: Tensor | None = None,
    reverse: bool = False,
    return_final_states: Literal[True],
) -> tuple[Tensor, Tensor]: ...


def ssd(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    *,
    D: Tensor | None = None,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = False,
    dt_limit: tuple[float, float] = (0.0, math.inf),
    offset: Tensor | None = None,
    initial_states: Tensor | None = None,
    reverse: bool = False,
    return_final_states: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Run the recurrence of Mamba-2, with one decay rate per head, over each of several sequences.

    For each sequence and head h, with s_t = dt_t + dt_bias, or softplus(s_t) with ``dt_softplus``, limited to
    ``dt_limit``::

        H_t = exp(s_t A) H_{t-1} + s_t x_t B_t^T      (P x N states)
        y_t = H_t C_t + D x_t

    The heads of a group share B and C: head h takes those of group h // (H / G). Names, order and defaults of the
    arguments are those of ``mamba_chunk_scan_combined`` of mamba_ssm, without ``chunk_size`` and ``z``; ``offset``
    replaces ``seq_idx`` and ``cu_seqlens``. Packed and padded sequences, gradients and the behaviour on a GPU are as in
    ``selective_scan``. States and sums are kept in float32, or in float64 where an input is float64; where x, B and C
    are bfloat16, a GPU rounds the factors of its matrix products to bfloat16.

    Args:
        x: (T, H, P) packed or (B, L, H, P) padded input; float16, bfloat16, float32 or float64, as the other tensors.
        dt: (T, H) or (B, L, H), steps before their bias, softplus and limits.
        A: (H,) decay rates, usually negative.
        B: (T, G, N) or (B, L, G, N), how the input enters the states; H must be a multiple of G, and N at most 256.
        C: as B, how the states leave.
        D: (H,) factor of the input that is added to the output.
        dt_bias: (H,) added to dt.
        dt_softplus: whether steps are softplus of dt plus bias, or that sum itself.
        dt_limit: the shortest and the longest step. Steps are clamped to it after softplus; a clamped step has no
            gradient. Without softplus the default sets negative steps to zero.
        offset: (S + 1,) int64, the first row of each packed sequence and the number of rows T; a sequence may be
            empty. None where the input is padded; then S = B.
        initial_states: (S, H, P, N) states before the first step; zeros by default.
        reverse: whether each sequence runs from its own end to its start.
        return_final_states: whether to also return the states after the last step.

    Returns:
        y, of the shape and the dtype of x, and with ``return_final_states`` the states (S, H, P, N) after the last step
        walked, float32 or float64; of an empty sequence its initial state.

    Raises:
        ValueError: Shapes, dtypes or devices do not fit, or the limits do not ascend.

    Source: Mamba-2 (arXiv 2405.21060), sections 3 and 6.
    """
    limits = check_limits(dt_limit)
    begins = normalize_offsets("x", x, offset, "HP")
    _check(SsdInputs(x, dt, A, B, C, D, dt_bias, begins, initial_states))
    dtype = state_dtype(x, dt, A, B, C, D, dt_bias, initial_states)
    given = SsdInputs(
        flatten_rows(x, offset), flatten_rows(dt, offset), A.to(dtype), flatten_rows(B, offset),
        flatten_rows(C, offset), cast(D, dtype), cast(dt_bias, dtype), begins, cast(initial_states, dtype),
    )  # fmt: skip
    y, final_states = run_ssd(given, SsdOptions(reverse, dt_softplus, *limits), return_final_states)
    y = y.reshape(x.shape)
    return (y, final_states) if return_final_states else y


def check_limits(dt_limit: tuple[float, float]) -> tuple[float, float]:
    """Check the limits of steps.

    Args:
        dt_limit: the shortest and the longest step.

    Returns:
        The limits.

    Raises:
        ValueError: They are not two ascending numbers.
    """
    try:
        low, high = map(float, dt_limit)
    except (TypeError, ValueError):
        low, high = math.nan, math.nan
    if not low <= high:
        raise ValueError(
            f"dt_limit: {dt_limit!r} was given, but it must be two numbers, the shortest and the longest step."
        )
    return low, high


def _check(given: SsdInputs) -> None:
    x, dt, A, B, C, D, dt_bias, offset, initial_states = given
    *rows, heads, width = x.shape
    letters = "(B, L" if len(rows) == 2 else "(T"
    if heads < 1 or width < 1:
        raise ValueError(
            f"x: shape {tuple(x.shape)} was given, but it must be {letters}, H, P) with a head and a value at least."
        )
    groups, states = B.shape[-2:] if B.ndim == x.ndim else (0, 0)
    if groups < 1 or heads % groups or not 1 <= states <= 256:
        raise ValueError(
            f"B: shape {tuple(B.shape)} was given for {heads} heads, but it must be {letters}, G, N), where the heads "
            "are a multiple of the groups G, with 1 to 256 states N."
        )
    check_shape("x", x, (*rows, heads, width), x, f"{letters}, H, P)")
    check_shape("dt", dt, (*rows, heads), x, f"{letters}, H)")
    for name, v in {"B": B, "C": C}.items():
        check_shape(name, v, (*rows, groups, states), x, f"{letters}, G, N)")
    check_shape("A", A, (heads,), x, "(H,)")
    for name, w in {"D": D, "dt_bias": dt_bias}.items():
        check_shape(name, w, (heads,), x, "(H,)")
    check_shape("initial_states", initial_states, (offset.shape[0] - 1, heads, width, states), x, "(S, H, P, N)")
