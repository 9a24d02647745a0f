"""Inputs of steps: all forms of Mamba-1 and Mamba-2 are checked, and brought into the one form of the operator."""

from torch import Tensor

from supa_mamba.ops.checks import check_shape
from supa_mamba.ops.dtypes import state_dtype
from supa_mamba.ops.state_slots import check_state


def check_step_inputs(
    state: Tensor,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
    lead: str,
) -> None:
    """Check the inputs of a step.

    Args:
        state: (R, D, N) or (R, H, P, N), which says whether the rest has the shapes of Mamba-1 or of Mamba-2.
        x: (*lead, D) or (*lead, H, P).
        dt: (*lead, D), or (*lead, H) or (*lead, H, P).
        A: (D, N), or (H,) or (H, P, N).
        B: (*lead, N) or (*lead, G, N); Mamba-1 has one group.
        C: As B.
        D: (D,), or (H,) or (H, P).
        z: As x.
        dt_bias: As D.
        lead: The first dimensions in letters: "M" or "M, K".

    Raises:
        ValueError: Something does not fit.
    """
    check_state("state", state, (3, 4), "(R, D, N), or (R, H, P, N) of Mamba-2")
    _, *channels, states = state.shape
    if not 1 <= states <= 256 or min(channels) < 1:
        raise ValueError(
            f"state: shape {tuple(state.shape)} was given, but it must have a channel and 1 to 256 states each."
        )
    first = lead.count(",") + 1
    given, heads = tuple(x.shape[:first]), channels[0]
    of_mamba1 = state.ndim == 3
    of_channels = "D" if of_mamba1 else "H, P"
    if x.ndim != first + len(channels):
        raise ValueError(f"x: shape {tuple(x.shape)} was given, but it must be ({lead}, {of_channels}).")
    for name, v in {"x": x, "z": z}.items():
        check_shape(name, v, (*given, *channels), state, f"({lead}, {of_channels})")
    if of_mamba1:
        check_shape("dt", dt, (*given, heads), state, f"({lead}, D)")
        check_shape("A", A, (heads, states), state, "(D, N)")
        for name, v in {"D": D, "dt_bias": dt_bias}.items():
            check_shape(name, v, (heads,), state, "(D,)")
    else:
        width = tuple(channels[1:])
        _check_either("dt", dt, (*given, heads), width, state, f"({lead}, H)", f"({lead}, H, P)")
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
        check_shape(name, v, (*given, *groups, states), state, words)


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


def in_one_form(
    state: Tensor,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
) -> tuple[Tensor, tuple[Tensor | None, ...]]:
    """Bring checked inputs of K steps into the form that the operator takes, copying none of the states.

    Args:
        state: (R, D, N) or (R, H, P, N).
        x: (M, K, D) or (M, K, H, P), and the rest as in ``check_step_inputs``.
        dt: (M, K, D), or (M, K, H) or (M, K, H, P).
        A: (D, N), or (H,) or (H, P, N).
        B: (M, K, N) or (M, K, G, N).
        C: As B.
        D: (D,), or (H,) or (H, P).
        z: As x.
        dt_bias: As D.

    Returns:
        The states, and the other tensors in this order, as ``launch.step`` takes them.
    """
    dtype, of_mamba1 = state_dtype(state), state.ndim == 3
    if of_mamba1:
        # Each channel is a head of its own.
        state, x, z, A = state[:, :, None], x[..., None], None if z is None else z[..., None], A[:, None]
    elif A.ndim == 1:
        A = A[:, None, None]
    decay = one_of_expanded(one_of_expanded(A, 1), 2).to(dtype)
    skip, bias = (None if v is None else _of_heads(v, 1).to(dtype) for v in (D, dt_bias))
    B, C = (v if v.ndim == 4 else v[:, :, None] for v in (B, C))
    return state, (x, _of_heads(dt, 3), decay, B, C, skip, z, bias)


def _of_heads(x: Tensor, dim: int) -> Tensor:
    return x[..., None] if x.ndim == dim else one_of_expanded(x, dim)


def one_of_expanded(x: Tensor, dim: int) -> Tensor:
    """Keep one entry of a dimension along which a tensor was expanded; its stride, 0, says so without a look inside.

    Args:
        x: Any tensor.
        dim: The dimension.

    Returns:
        A view.
    """
    return x.narrow(dim, 0, 1) if x.stride(dim) == 0 and x.shape[dim] > 1 else x
