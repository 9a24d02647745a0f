"""Public function of the selective scan."""

from typing import Any, Literal, overload

import torch
from torch import Tensor

from supa.checks import counted
from supa_mamba.ops.checks import check_shape
from supa_mamba.ops.dtypes import cast, state_dtype
from supa_mamba.ops.packing import flatten_rows, normalize_offsets
from supa_mamba.ops.selective_scan.inputs import ScanInputs, ScanOptions
from supa_mamba.ops.selective_scan.operator import run_scan


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
    delta_softplus: bool = False,
    *,
    offset: Tensor | None = None,
    initial_states: Tensor | None = None,
    reverse: bool = False,
    return_final_states: Literal[False] = False,
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
    delta_softplus: bool = False,
    *,
    offset: Tensor | None = None,
    initial_states: Tensor | None = None,
    reverse: bool = False,
    return_final_states: Literal[True],
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
    delta_softplus: bool = False,
    *,
    offset: Tensor | None = None,
    initial_states: Tensor | None = None,
    reverse: bool = False,
    return_final_states: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Apply the selective scan, the recurrence of Mamba-1, to each of several sequences.

    For each sequence and channel, with N states h::

        Delta_t = softplus(delta_t + delta_bias)            (without softplus by default)
        h_t = exp(Delta_t A) h_{t-1} + Delta_t B_t u_t
        y_t = (<C_t, h_t> + D u_t) silu(z_t)

    The sequences are either packed, with their rows one after another and the start of each in ``offset``, or a padded
    batch, in which all have L rows. No state passes from one sequence to another.

    Names, order and defaults of the first nine arguments are those of mamba_ssm's ``selective_scan_fn``, with two
    differences: the channels come last, and ``return_last_state`` is called ``return_final_states``.

    States and sums are float32, or float64 if an input is float64. All tensors and the final states have gradients,
    which are bitwise reproducible. Forward-mode and second derivatives are supported on a CPU in eager programs; on a
    GPU and in compiled programs they raise an error. On a GPU there is no host-device synchronisation, so the values of
    ``offset`` are not checked there.

    Args:
        u: (T, D) packed or (B, L, D) padded input; float16, bfloat16, float32 or float64, like all other tensors.
        delta: Step sizes before bias and softplus, of the shape of ``u``.
        A: (D, N) decay rates, usually negative; N up to 256.
        B: (T, N) or (B, L, N) input matrix; or (T, G, N) or (B, L, G, N) for G groups of channels, where channel d
            uses group d // (D / G). Each group is a separate scan.
        C: Output matrix, of the shape of ``B``.
        D: (D,) skip weights; no skip connection by default.
        z: Gate, of the shape of ``u``; no gate by default.
        delta_bias: (D,) bias of the step sizes; none by default.
        delta_softplus: Whether to apply softplus to ``delta + delta_bias``.
        offset: (S + 1,) integers. Sequence s consists of the rows ``offset[s]`` to ``offset[s + 1] - 1`` and may be
            empty. None for a padded input, where S = B.
        initial_states: (S, D, N) states before the first row; zeros by default.
        reverse: Whether to process each sequence from its last row to its first.
        return_final_states: Whether to also return the states after the last row.

    Returns:
        y, of the shape and the dtype of ``u``, and with ``return_final_states`` the states after the last row,
        (S, D, N) float32 or float64. The final state of an empty sequence is its initial state.

    Raises:
        ValueError: If shapes, dtypes or devices do not match.

    Example:
        The same two sequences of three rows as a padded batch and as packed rows:

        >>> import torch
        >>> from supa_mamba import selective_scan
        >>> u, delta, A = torch.randn(2, 3, 8), torch.randn(2, 3, 8), -torch.rand(8, 4)  # B, L, D = 2, 3, 8; N = 4
        >>> B, C = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
        >>> padded = selective_scan(u, delta, A, B, C, delta_softplus=True)
        >>> u, delta, B, C = (x.flatten(0, 1) for x in (u, delta, B, C))  # u is (6, D)
        >>> offset = torch.tensor([0, 3, 6])
        >>> packed = selective_scan(u, delta, A, B, C, delta_softplus=True, offset=offset)
        >>> torch.allclose(padded.flatten(0, 1), packed)
        True

    Source:
        Mamba (arXiv 2312.00752), algorithm 2 and section 3.3.
    """
    begins = normalize_offsets("u", u, offset)
    _check(ScanInputs(u, delta, A, B, C, D, z, delta_bias, begins, initial_states))
    dtype = state_dtype(u, delta, A, B, C, D, z, delta_bias, initial_states)
    given = ScanInputs(
        flatten_rows(u, offset), flatten_rows(delta, offset), A.to(dtype).t(), flatten_rows(B, offset),
        flatten_rows(C, offset), cast(D, dtype), None if z is None else flatten_rows(z, offset),
        cast(delta_bias, dtype), begins, None if initial_states is None else initial_states.to(dtype).transpose(1, 2),
    )  # fmt: skip
    options = ScanOptions(reverse, delta_softplus)
    parts = [run_scan(group, options, return_final_states) for group in _groups(given)]
    y, final_states = (of_all[0] if len(parts) == 1 else torch.cat(of_all, -1) for of_all in zip(*parts, strict=True))
    y = y.reshape(u.shape)
    return (y, final_states.transpose(1, 2)) if return_final_states else y


def _groups(given: ScanInputs) -> list[ScanInputs]:
    """Return the inputs of each group of channels. B and C may have a dimension of groups."""
    u, delta, A, B, C, D, z, delta_bias, offset, initial_states = given
    if B.ndim == C.ndim == 2:
        return [given]
    # Most layers of Mamba-1 have one group, so the kernels do not support groups. Each group is a separate scan.
    groups = max(x.shape[1] for x in (B, C) if x.ndim == 3)

    def of_channels(x: Tensor | None) -> list[Any]:
        return [None] * groups if x is None else list(x.chunk(groups, -1))

    def of_states(x: Tensor) -> list[Tensor]:
        return list(x.unbind(1)) if x.ndim == 3 else [x] * groups

    parts = zip(
        of_channels(u), of_channels(delta), of_channels(A), of_states(B), of_states(C), of_channels(D), of_channels(z),
        of_channels(delta_bias), [offset] * groups, of_channels(initial_states), strict=True,
    )  # fmt: skip
    return [ScanInputs(*part) for part in parts]


def _check(given: ScanInputs) -> None:
    """Check packed or padded inputs. A (D, N) and the states (S, D, N) are not transposed yet."""
    u, delta, A, B, C, D, z, delta_bias, offset, initial_states = given
    rows, channels = tuple(u.shape[:-1]), u.shape[-1]
    letters = "(B, L" if len(rows) == 2 else "(T"
    if A.ndim != 2 or not 1 <= A.shape[1] <= 256 or channels < 1:
        raise ValueError(
            f"A: shape {tuple(A.shape)} was given for {counted(channels, 'channel')}, but it must be (D, N) with at "
            "least one channel and 1 to 256 states."
        )
    states = A.shape[1]
    check_shape("u", u, (*rows, channels), u, f"{letters}, D)")
    check_shape("A", A, (channels, states), u, "(D, N)")
    for name, x in {"delta": delta, "z": z}.items():
        check_shape(name, x, (*rows, channels), u, f"{letters}, D)")
    of_groups = [x.shape[-2] for x in (B, C) if x.ndim == u.ndim + 1]
    if of_groups and (len(set(of_groups)) > 1 or of_groups[0] < 1 or channels % of_groups[0]):
        raise ValueError(
            f"B, C: {' and '.join(map(str, of_groups))} groups were given for "
            f"{counted(channels, 'channel')}, but both must have the same number of groups, which must divide the "
            "number of channels."
        )
    for name, x in {"B": B, "C": C}.items():
        if x.ndim == u.ndim + 1:
            check_shape(name, x, (*rows, of_groups[0], states), u, f"{letters}, G, N)")
        else:
            check_shape(name, x, (*rows, states), u, f"{letters}, N) or {letters}, G, N)")
    for name, x in {"D": D, "delta_bias": delta_bias}.items():
        check_shape(name, x, (channels,), u, "(D,)")
    check_shape("initial_states", initial_states, (offset.shape[0] - 1, channels, states), u, "(S, D, N)")
