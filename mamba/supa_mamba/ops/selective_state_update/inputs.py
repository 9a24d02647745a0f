"""Inputs of steps: all forms of Mamba-1 and Mamba-2 are checked, and brought into the one form of the operator."""

from typing import NamedTuple

from torch import Tensor

from supa_mamba.ops.checks import check_shape
from supa_mamba.ops.dtypes import state_dtype
from supa_mamba.ops.state_slots import check_state


class StepTensors(NamedTuple):
    """The tensors of a step, in the forms of Mamba-1 or of Mamba-2, which the states decide.

    ``...`` stands for M sequences, or M sequences and K steps of each.

    Args:
        state: (R, D, N) or (R, H, P, N).
        x: (..., D) or (..., H, P).
        dt: (..., D), or (..., H) or (..., H, P).
        A: (D, N), or (H,) or (H, P, N).
        B: (..., N) or (..., G, N); Mamba-1 has one group.
        C: As B.
        D: (D,), or (H,) or (H, P).
        z: As x.
        dt_bias: As D.
    """

    state: Tensor
    x: Tensor
    dt: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor | None
    z: Tensor | None
    dt_bias: Tensor | None


class StateStepInputs(NamedTuple):
    """What the backends take: H heads of P channels in G groups; Mamba-1 has H = D heads of P = 1 channel, G = 1.

    Without caches the states move past all K inputs; with them they move past the accepted cached ones, and the K
    inputs are cached. A dimension written ``P | 1`` or ``N | 1`` has length 1 where its entries are equal.

    Args:
        state: (R, H, P, N), with any strides, changed in place.
        cache_x: (R, K, H, P), contiguous, changed in place as all caches.
        cache_dt: (R, K, H, P | 1), as dt.
        cache_B: (R, K, G, N).
        x: (M, K, H, P).
        dt: (M, K, H, P | 1).
        A: (H, P | 1, N | 1), as D and dt_bias in the precision of the sums.
        B: (M, K, G, N).
        C: (M, K, G, N).
        D: (H, P | 1).
        z: (M, K, H, P).
        dt_bias: (H, P | 1).
        accepted: (M,) int64, with caches.
        slots: (M,) int64.
        dt_softplus: Whether steps are softplus of what was given.
    """

    state: Tensor
    cache_x: Tensor | None
    cache_dt: Tensor | None
    cache_B: Tensor | None  # noqa: N815 the letter of the formulas
    x: Tensor
    dt: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor | None
    z: Tensor | None
    dt_bias: Tensor | None
    accepted: Tensor | None
    slots: Tensor
    dt_softplus: bool


def check_step_inputs(given: StepTensors, lead: str) -> None:
    """Check the tensors of a step.

    Args:
        given: The tensors.
        lead: Their first dimensions in letters: "M" or "M, K".

    Raises:
        ValueError: Something does not fit.
    """
    state, x, dt, A, B, C, D, z, dt_bias = given
    check_state("state", state, (3, 4), "(R, D, N), or (R, H, P, N) of Mamba-2")
    _, *channels, states = state.shape
    if not 1 <= states <= 256 or min(channels) < 1:
        raise ValueError(
            f"state: shape {tuple(state.shape)} was given, but it must have a channel and 1 to 256 states each."
        )
    first = lead.count(",") + 1
    leading, heads = tuple(x.shape[:first]), channels[0]
    of_mamba1 = state.ndim == 3
    of_channels = "D" if of_mamba1 else "H, P"
    if x.ndim != first + len(channels):
        raise ValueError(f"x: shape {tuple(x.shape)} was given, but it must be ({lead}, {of_channels}).")
    for name, v in {"x": x, "z": z}.items():
        check_shape(name, v, (*leading, *channels), state, f"({lead}, {of_channels})")
    if of_mamba1:
        check_shape("dt", dt, (*leading, heads), state, f"({lead}, D)")
        check_shape("A", A, (heads, states), state, "(D, N)")
        for name, v in {"D": D, "dt_bias": dt_bias}.items():
            check_shape(name, v, (heads,), state, "(D,)")
    else:
        width = tuple(channels[1:])
        _check_either("dt", dt, (*leading, heads), width, state, f"({lead}, H)", f"({lead}, H, P)")
        _check_either("A", A, (heads,), (*width, states), state, "(H,)", "(H, P, N)")
        for name, v in {"D": D, "dt_bias": dt_bias}.items():
            _check_either(name, v, (heads,), width, state, "(H,)", "(H, P)")
    groups: tuple[int, ...] = ()
    if B.ndim == first + 2:
        groups = (B.shape[first],)
        if groups[0] < 1 or (groups[0] != 1 if of_mamba1 else heads % groups[0]):
            shared = "G = 1" if of_mamba1 else f"the G groups share the {heads} heads evenly"
            raise ValueError(
                f"B: shape {tuple(B.shape)} was given, but it must be ({lead}, N), or ({lead}, G, N), where {shared}."
            )
    words = f"({lead}, {'G, N' if groups else 'N'})"
    for name, v in {"B": B, "C": C}.items():
        check_shape(name, v, (*leading, *groups, states), state, words)


def _check_either(
    name: str, x: Tensor | None, tied: tuple[int, ...], own: tuple[int, ...], like: Tensor, of_tied: str, of_own: str
) -> None:
    """Check a tensor of one entry a head, of shape ``tied``, or one a channel, with the dimensions ``own`` more."""
    if x is None:
        return
    if x.ndim == len(tied):
        check_shape(name, x, tied, like, of_tied)
    elif x.ndim == len(tied) + len(own):
        check_shape(name, x, (*tied, *own), like, of_own)
    else:
        raise ValueError(
            f"{name}: shape {tuple(x.shape)} was given, but it must be {of_tied} = {tied} or "
            f"{of_own} = {(*tied, *own)}."
        )


def canonicalize(given: StepTensors) -> StepTensors:
    """Bring checked tensors of K steps into the forms of ``StateStepInputs``, copying none of the states.

    Args:
        given: The tensors, with the dimensions M, K in front.

    Returns:
        The tensors.
    """
    state, x, dt, A, B, C, D, z, dt_bias = given
    dtype, of_mamba1 = state_dtype(state), state.ndim == 3
    if of_mamba1:
        # Each channel is a head of its own.
        state, x, z, A = state[:, :, None], x[..., None], None if z is None else z[..., None], A[:, None]
    elif A.ndim == 1:
        A = A[:, None, None]
    decay = collapse_expanded(collapse_expanded(A, 1), 2).to(dtype)
    skip, bias = (None if v is None else _of_heads(v, 1).to(dtype) for v in (D, dt_bias))
    B, C = (v if v.ndim == 4 else v[:, :, None] for v in (B, C))
    return StepTensors(state, x, _of_heads(dt, 3), decay, B, C, skip, z, bias)


def _of_heads(x: Tensor, dim: int) -> Tensor:
    return x[..., None] if x.ndim == dim else collapse_expanded(x, dim)


def collapse_expanded(x: Tensor, dim: int) -> Tensor:
    """Keep one entry of a dimension along which a tensor was expanded; its stride, 0, says so without a look inside.

    Args:
        x: Any tensor.
        dim: The dimension.

    Returns:
        A view.
    """
    return x.narrow(dim, 0, 1) if x.stride(dim) == 0 and x.shape[dim] > 1 else x
