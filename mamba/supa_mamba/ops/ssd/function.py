"""Public function of the recurrence of Mamba-2."""

import math
from typing import Literal, overload

from torch import Tensor

from supa.checks import counted
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
    """Apply the recurrence of Mamba-2, with one decay rate per head, to each of several sequences.

    For each sequence and head, with P x N states h::

        Delta_t = clamp(softplus(dt_t + dt_bias), *dt_limit)    (without softplus by default)
        h_t = exp(Delta_t A) h_{t-1} + Delta_t x_t B_t^T
        y_t = h_t C_t + D x_t

    The heads of a group share B and C: head h uses group h // (H / G). The recurrence is computed in chunks with matrix
    products (state-space duality, SSD).

    Names, order and defaults of the arguments are those of mamba_ssm's ``mamba_chunk_scan_combined``, without
    ``chunk_size`` and ``z``; ``offset`` replaces ``seq_idx`` and ``cu_seqlens``. Packed and padded inputs, gradients
    and the behaviour on a GPU are the same as in `selective_scan`.

    States and sums are float32, or float64 if an input is float64. If ``x``, ``B`` and ``C`` are bfloat16, the operands
    of matrix products on a GPU are rounded to bfloat16.

    Args:
        x: (T, H, P) packed or (B, L, H, P) padded input; float16, bfloat16, float32 or float64, like all other tensors.
        dt: (T, H) or (B, L, H) step sizes before bias, softplus and limits.
        A: (H,) decay rates, usually negative.
        B: (T, G, N) or (B, L, G, N) input matrix. H must be a multiple of G; N up to 256.
        C: Output matrix, of the shape of ``B``.
        D: (H,) skip weights; no skip connection by default.
        dt_bias: (H,) bias of the step sizes; none by default.
        dt_softplus: Whether to apply softplus to ``dt + dt_bias``.
        dt_limit: Lower and upper limit of the step sizes, applied after softplus. A clamped step size has no gradient.
            The default sets negative step sizes to zero.
        offset: (S + 1,) integers. Sequence s consists of the rows ``offset[s]`` to ``offset[s + 1] - 1`` and may be
            empty. None for a padded input, where S = B.
        initial_states: (S, H, P, N) states before the first row; zeros by default.
        reverse: Whether to process each sequence from its last row to its first.
        return_final_states: Whether to also return the states after the last row.

    Returns:
        y, of the shape and the dtype of ``x``, and with ``return_final_states`` the states after the last row,
        (S, H, P, N) float32 or float64. The final state of an empty sequence is its initial state.

    Raises:
        ValueError: If shapes, dtypes or devices do not match, or the limits are not in ascending order.

    Example:
        >>> import torch
        >>> from supa_mamba import ssd
        >>> x, dt, A = torch.randn(8, 4, 16), torch.randn(8, 4), -torch.rand(4)  # T, H, P = 8, 4, 16
        >>> B, C = torch.randn(8, 1, 32), torch.randn(8, 1, 32)  # one group, N = 32
        >>> offset = torch.tensor([0, 3, 8])  # sequences of 3 and 5 rows
        >>> y, states = ssd(x, dt, A, B, C, dt_softplus=True, offset=offset, return_final_states=True)
        >>> y.shape, states.shape
        (torch.Size([8, 4, 16]), torch.Size([2, 4, 16, 32]))

    Source:
        Mamba-2 (arXiv 2405.21060), sections 3 and 6.
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
    """Check the limits of step sizes.

    Args:
        dt_limit: Lower and upper limit.

    Returns:
        The limits as floats.

    Raises:
        ValueError: If the limits are not two numbers in ascending order.
    """
    try:
        low, high = map(float, dt_limit)
    except (TypeError, ValueError):
        low, high = math.nan, math.nan
    if not low <= high:
        raise ValueError(
            f"dt_limit: {dt_limit!r} was given, but it must be two numbers, the smallest and the largest step size."
        )
    return low, high


def _check(given: SsdInputs) -> None:
    x, dt, A, B, C, D, dt_bias, offset, initial_states = given
    *rows, heads, width = x.shape
    letters = "(B, L" if len(rows) == 2 else "(T"
    if heads < 1 or width < 1:
        raise ValueError(
            f"x: shape {tuple(x.shape)} was given, but it must be {letters}, H, P) with H >= 1 and P >= 1."
        )
    groups, states = B.shape[-2:] if B.ndim == x.ndim else (0, 0)
    if groups < 1 or heads % groups or not 1 <= states <= 256:
        raise ValueError(
            f"B: shape {tuple(B.shape)} was given for {counted(heads, 'head')}, but it must be {letters}, G, N), "
            "where the number of heads is a multiple of G, with 1 to 256 states N."
        )
    check_shape("x", x, (*rows, heads, width), x, f"{letters}, H, P)")
    check_shape("dt", dt, (*rows, heads), x, f"{letters}, H)")
    for name, v in {"B": B, "C": C}.items():
        check_shape(name, v, (*rows, groups, states), x, f"{letters}, G, N)")
    check_shape("A", A, (heads,), x, "(H,)")
    for name, w in {"D": D, "dt_bias": dt_bias}.items():
        check_shape(name, w, (heads,), x, "(H,)")
    check_shape("initial_states", initial_states, (offset.shape[0] - 1, heads, width, states), x, "(S, H, P, N)")
