"""Random inputs of the steps that generate."""

import torch
from sequences import scan_inputs

HALF = ("x", "delta", "B", "C", "z")


def step_inputs(count, channels, states, rows):
    drawn = scan_inputs([count], channels, states)
    drawn["x"] = drawn.pop("u")
    del drawn["initial_state"]
    state = torch.randn(rows, channels, states, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return state, drawn


def mamba2_inputs(count, heads, width, groups, states, rows):
    """Draw what one number a head makes different; the rest is as in Mamba-1."""
    state, drawn = step_inputs(count, heads * width, states, rows)
    drawn |= {name: drawn[name].unflatten(1, (heads, width)) for name in ("x", "z")}
    drawn |= {name: drawn[name][..., :heads].contiguous() for name in ("delta", "D", "delta_bias")}
    drawn["A"] = drawn["A"][:heads, 0].contiguous()
    drawn |= {name: torch.stack([(1 - 3 * g) * drawn[name] for g in range(groups)], 1) for name in ("B", "C")}
    return state.unflatten(1, (heads, width)), drawn
