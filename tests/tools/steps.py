"""Random inputs of the single steps."""

import torch
from sequences import scan_inputs

HALF = ("x", "dt", "B", "C", "z")


def step_inputs(count, channels, states, rows, groups=0):
    """Draw inputs of Mamba-1, whose B and C have a dimension of groups if their number is given."""
    drawn = scan_inputs([count], channels, states)
    drawn["x"], drawn["dt"], drawn["dt_bias"] = (drawn.pop(name) for name in ("u", "delta", "delta_bias"))
    del drawn["initial_states"]
    if groups:
        drawn |= {name: torch.stack([(1 - 3 * g) * drawn[name] for g in range(groups)], 1) for name in ("B", "C")}
    state = torch.randn(rows, channels, states, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return state, drawn


def mamba2_inputs(count, heads, width, groups, states, rows):
    """Draw inputs of Mamba-2, whose dt, A, D and dt_bias have one entry for each head."""
    state, drawn = step_inputs(count, heads * width, states, rows, groups)
    drawn |= {name: drawn[name].unflatten(1, (heads, width)) for name in ("x", "z")}
    drawn |= {name: drawn[name][..., :heads].contiguous() for name in ("dt", "D", "dt_bias")}
    drawn["A"] = drawn["A"][:heads, 0].contiguous()
    return state.unflatten(1, (heads, width)), drawn


def with_own_entries(given, names, seed=7):
    """Replace inputs that have one entry for each head by ones with an entry for each channel."""
    generator = torch.Generator().manual_seed(seed)
    channels, states = given["x"].shape[1:], given["B"].shape[-1:]
    shapes = {"dt": given["x"].shape, "A": (*channels, *states), "D": channels, "dt_bias": channels}
    own = {name: torch.randn(shapes[name], generator=generator, dtype=torch.float64) for name in names}
    return given | {name: -x.abs() - 0.1 if name == "A" else x for name, x in own.items()}


def expanded(given):
    """Expand entries of heads to all channels and states with stride 0, like callers of mamba_ssm."""
    heads, width = given["x"].shape[1:]
    wide = {name: given[name][..., None].expand(*given[name].shape, width) for name in ("dt", "D", "dt_bias")}
    return given | wide | {"A": given["A"][:, None, None].expand(heads, width, given["B"].shape[-1])}


def laid_out(x, order):
    """Return the same values in another memory layout: dimensions in this order, with gaps between the values."""
    wide = torch.full([2 * x.shape[i] for i in order], 97, dtype=x.dtype, device=x.device)
    view = wide[tuple(slice(None, None, 2) for _ in order)].permute([order.index(i) for i in range(x.ndim)])
    return view.copy_(x)
