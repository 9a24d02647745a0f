"""Inputs of steps: what Mamba-1 and Mamba-2 give is checked, and brought into the one form that both share."""

from torch import Tensor

from supa_mamba.checks import check_shape
from supa_mamba.precision import cast
from supa_mamba.rows import check_state


def check_step_inputs(
    state: Tensor,
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    lead: str,
) -> None:
    """Check the inputs of a step.

    Args:
        state: (R, D, N) or (R, H, P, N), which says whether the rest is in Mamba-1's or in Mamba-2's form.
        x: (*lead, D) or (*lead, H, P).
        delta: (*lead, D) or (*lead, H).
        A: (D, N) or (H,).
        B: (*lead, N) or (*lead, G, N).
        C: as B.
        D: (D,) or (H,).
        z: as x.
        delta_bias: as D.
        lead: the first dimensions in letters: "M" or "M, K".

    Raises:
        ValueError: something does not fit.
    """
    check_state(state, (3, 4), "(R, D, N), or (R, H, P, N) of Mamba-2")
    _, *channels, states = state.shape
    if not 1 <= states <= 256 or min(channels) < 1:
        raise ValueError(
            f"state: shape {tuple(state.shape)} was given, but it must have a channel and 1 to 256 states each."
        )
    first = lead.count(",") + 1
    given, heads = tuple(x.shape[:first]), channels[0]
    of_heads, of_channels, of_decay = ("D", "D", "D, N") if state.ndim == 3 else ("H", "H, P", "H,")
    if x.ndim != first + len(channels):
        raise ValueError(f"x: shape {tuple(x.shape)} was given, but it must be ({lead}, {of_channels}).")
    for name, v in {"x": x, "z": z}.items():
        check_shape(name, v, (*given, *channels), state, f"({lead}, {of_channels})")
    check_shape("delta", delta, (*given, heads), state, f"({lead}, {of_heads})")
    check_shape("A", A, (heads, states) if state.ndim == 3 else (heads,), state, f"({of_decay})")
    for name, v in {"D": D, "delta_bias": delta_bias}.items():
        check_shape(name, v, (heads,), state, f"({of_heads},)")
    groups: tuple[int, ...] = ()
    words = f"({lead}, N)"
    if state.ndim == 4:
        if B.ndim != first + 2 or B.shape[first] < 1 or heads % B.shape[first]:
            raise ValueError(
                f"B: shape {tuple(B.shape)} was given, but it must be ({lead}, G, N), where the G groups share the "
                f"{heads} heads evenly."
            )
        groups, words = (B.shape[first],), f"({lead}, G, N)"
    for name, v in {"B": B, "C": C}.items():
        check_shape(name, v, (*given, *groups, states), state, words)


def in_one_form(
    state: Tensor,
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
) -> tuple[Tensor, tuple[Tensor | None, ...]]:
    """Bring checked inputs of K steps into the form that the operator takes, copying none of the states.

    Args:
        state: (R, D, N) or (R, H, P, N).
        x: (M, K, D) or (M, K, H, P), and the rest likewise.
        delta: (M, K, D) or (M, K, H).
        A: (D, N) or (H,).
        B: (M, K, N) or (M, K, G, N).
        C: as B.
        D: (D,) or (H,).
        z: as x.
        delta_bias: as D.

    Returns:
        The states, and the other tensors in this order, as ``launch.step`` takes them.
    """
    dtype = state.dtype
    decay = A.to(dtype) if A.ndim == 2 else A.to(dtype)[:, None]
    gate = None if z is None else z.flatten(2)
    inputs = (x.flatten(2), delta, decay, B.flatten(2), C.flatten(2), cast(D, dtype), gate, cast(delta_bias, dtype))
    return state.flatten(1, -2), inputs
