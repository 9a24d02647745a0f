"""Inputs of steps: checks, and conversion of all forms of Mamba-1 and Mamba-2 into the form of the operator."""

from typing import NamedTuple

from torch import Tensor

from supa_mamba.ops.checks import check_shape
from supa_mamba.ops.dtypes import state_dtype
from supa_mamba.ops.state_slots import check_state


class StepTensors(NamedTuple):
    """Tensors of a step in the form of Mamba-1 or Mamba-2, which the number of dimensions of the states determines.

    ``...`` stands for M, or for M, K with K steps of each of M sequences.

    Args:
        state: (R, D, N) or (R, H, P, N) state table.
        x: (..., D) or (..., H, P) input.
        dt: (..., D), or (..., H) or (..., H, P) step sizes before bias and softplus.
        A: (D, N), or (H,) or (H, P, N) decay rates.
        B: (..., N) or (..., G, N) input matrix.
        C: Output matrix, of the shape of ``B``.
        D: (D,), or (H,) or (H, P) skip weights.
        z: Gate, of the shape of ``x``.
        dt_bias: Bias of the step sizes, of the shape of ``D``.
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
    """Inputs of the backends: H heads of P channels in G groups. Mamba-1 has H = D and P = 1.

    Without caches the states advance past all K inputs. With caches they advance past the accepted cached inputs, and
    the K inputs are stored in the caches. A dimension ``P | 1`` or ``N | 1`` has length 1 if all its entries are equal.

    Args:
        state: (R, H, P, N) state table, with any strides, modified in place.
        cache_x: (R, K, H, P) cached inputs. All caches are contiguous and modified in place.
        cache_dt: (R, K, H, P | 1) cached step sizes.
        cache_B: (R, K, G, N) cached input matrix.
        x: (M, K, H, P) input.
        dt: (M, K, H, P | 1) step sizes before bias and softplus.
        A: (H, P | 1, N | 1) decay rates; like D and dt_bias in the precision of the sums.
        B: (M, K, G, N) input matrix.
        C: (M, K, G, N) output matrix.
        D: (H, P | 1) skip weights.
        z: (M, K, H, P) gate.
        dt_bias: (H, P | 1) bias of the step sizes.
        accepted: (M,) int64 numbers of accepted cached inputs, with caches.
        slots: (M,) int64 slots of the sequences.
        dt_softplus: Whether to apply softplus to ``dt + dt_bias``.
    """

    state: Tensor
    cache_x: Tensor | None
    cache_dt: Tensor | None
    cache_B: Tensor | None  # noqa: N815 the letter in the formulas
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
        lead: First dimensions in letters, "M" or "M, K".

    Raises:
        ValueError: If shapes, dtypes or devices do not match.
    """
    state, x, dt, A, B, C, D, z, dt_bias = given
    check_state("state", state, (3, 4), "(R, D, N), or (R, H, P, N) of Mamba-2")
    _, *channels, states = state.shape
    if not 1 <= states <= 256 or min(channels) < 1:
        raise ValueError(
            f"state: shape {tuple(state.shape)} was given, but it must have at least one channel, and 1 to 256 "
            "states per channel."
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
        if groups[0] < 1 or heads % groups[0]:
            divided = "channels" if of_mamba1 else "heads"
            raise ValueError(
                f"B: shape {tuple(B.shape)} was given, but it must be ({lead}, N), or ({lead}, G, N), where G divides "
                f"the number of {divided}, {heads}."
            )
    words = f"({lead}, {'G, N' if groups else 'N'})"
    for name, v in {"B": B, "C": C}.items():
        check_shape(name, v, (*leading, *groups, states), state, words)


def _check_either(
    name: str, x: Tensor | None, tied: tuple[int, ...], own: tuple[int, ...], like: Tensor, of_tied: str, of_own: str
) -> None:
    """Check a tensor with one entry per head, of shape ``tied``, or per channel, of shape ``(*tied, *own)``."""
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
    """Convert checked tensors of K steps into the form of ``StateStepInputs``, without copying states.

    Args:
        given: The tensors, with the leading dimensions M, K.

    Returns:
        The converted tensors.
    """
    state, x, dt, A, B, C, D, z, dt_bias = given
    dtype, of_mamba1 = state_dtype(state), state.ndim == 3
    if of_mamba1:
        # Each channel is a separate head.
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
    """Reduce a dimension to length 1 if the tensor was expanded along it, which its stride of 0 shows.

    Args:
        x: Any tensor.
        dim: The dimension.

    Returns:
        A view of the tensor.
    """
    return x.narrow(dim, 0, 1) if x.stride(dim) == 0 and x.shape[dim] > 1 else x
