"""Tests of steps of mamba_ssm and causal_conv1d, with their parameters and tolerances.

The public tests compare with references in PyTorch; here the reference is the naive float64 function. The default run
takes a part of each grid, and ``-m grid`` the rest. The interpreter is slow, so it uses smaller sizes.
"""

import pytest
import torch
from public_grids import grid

from supa_mamba import causal_conv1d_update, selective_state_update
from supa_mamba.ops.causal_conv1d_update.naive import naive_causal_conv1d_update
from supa_mamba.ops.selective_state_update.naive import naive_selective_state_update

DTYPES = [torch.float32, torch.float16, torch.bfloat16]
DIMS = [2048, 2048 + 16, 4096]


def sizes(path, dim, batch):
    """Return the numbers of channels, channels per head and sequences."""
    return (dim // 32, 16, min(batch, 4)) if path == "interpreter" else (dim, 64, batch)


def step_tolerances(dtype, float16, bfloat16):
    return {torch.float32: (3e-4, 1e-3), torch.float16: float16, torch.bfloat16: bfloat16}[dtype]


def check_step(device, state, given, rows, tolerances):
    """Take the step on a device, and compare y and the complete table with the naive results."""
    rtol, atol = tolerances
    y, after = naive_selective_state_update(state, **given, dt_softplus=True, state_batch_indices=rows)
    mine = state.to(device, copy=True)
    found = selective_state_update(
        mine, **{name: x if x is None else x.to(device) for name, x in given.items()}, dt_softplus=True,
        state_batch_indices=rows if rows is None else rows.to(device),
    )  # fmt: skip
    assert found.dtype == given["x"].dtype
    torch.testing.assert_close(found.cpu(), y.to(found.dtype), rtol=rtol, atol=atol)
    torch.testing.assert_close(mine.cpu(), after, rtol=rtol, atol=atol)


def step_inputs(batch, channels, states, groups, has_z, dtype, tied):
    """Draw the inputs of one step. ``channels`` is (D,), or (H, P) with entries per channel or per head."""
    heads = channels[:1] if tied else channels
    of_group = (batch, states) if groups is None else (batch, groups, states)
    given = {
        "x": torch.randn(batch, *channels, dtype=dtype),
        "dt": torch.randn(batch, *heads, dtype=dtype),
        "A": -torch.rand(*heads, *(() if tied else (states,))) - 1.0,
        "B": torch.randn(of_group),
        "C": torch.randn(of_group),
        "D": torch.randn(heads),
        "z": torch.randn(batch, *channels, dtype=dtype) if has_z else None,
        "dt_bias": torch.rand(heads) - 4.0,
    }
    if tied:
        given |= {
            name: given[name][..., None].expand(*given[name].shape, channels[1]) for name in ("dt", "D", "dt_bias")
        }
        given["A"] = given["A"][:, None, None].expand(*channels, states)
    return given


@pytest.mark.parametrize("indexed", [False, True])
@pytest.mark.parametrize(("dtype", "has_z", "states", "dim"), grid(DTYPES, [False, True], [16, 32, 64], DIMS, every=13))
def test_selective_state_update(path, device, dtype, has_z, states, dim, indexed):
    torch.manual_seed(0)
    dim, _, batch = sizes(path, dim, 16 if indexed else 2)
    tolerances = step_tolerances(dtype, (5e-3, 1e-2), (6e-2, 6e-2) if indexed else (1e-2, 5e-2))
    rows = torch.randperm(2 * batch, dtype=torch.int32)[:batch] if indexed else None
    state = torch.randn(2 * batch if indexed else batch, dim, states, dtype=dtype)
    given = step_inputs(batch, (dim,), states, None, has_z, dtype, tied=False)
    check_step(device, state, given, rows, tolerances)


@pytest.mark.parametrize("indexed", [False, True])
@pytest.mark.parametrize(
    ("dtype", "has_z", "tied", "groups", "states", "dim"),
    grid(DTYPES, [False, True], [False, True], [1, 2, 4], [16, 32, 64], [2048, 4096], every=43),
)
def test_selective_state_update_with_heads(path, device, dtype, has_z, tied, groups, states, dim, indexed):
    torch.manual_seed(0)
    dim, width, batch = sizes(path, dim, 16 if indexed else 2)
    tolerances = step_tolerances(dtype, (5e-3, 3e-2), (1e-1, 1e-1) if indexed else (1e-2, 1e-1))
    rows = torch.randperm(2 * batch, dtype=torch.int32)[:batch] if indexed else None
    state = torch.randn(2 * batch if indexed else batch, dim // width, width, states, dtype=dtype)
    given = step_inputs(batch, (dim // width, width), states, groups, has_z, dtype, tied)
    check_step(device, state, given, rows, tolerances)


@pytest.mark.parametrize("rows_are", ["all", "chosen", "padded"])
@pytest.mark.parametrize(
    ("dtype", "silu", "has_bias", "circular", "inputs", "width", "dim"),
    grid(DTYPES, [False, True], [False, True], [False, True], [1, 4, 5], [2, 3, 4], DIMS, every=71),
)
def test_causal_conv1d_update(path, device, dtype, silu, has_bias, circular, inputs, width, dim, rows_are):
    torch.manual_seed(0)
    dim, _, batch = sizes(path, dim, 64)
    rtol, atol = step_tolerances(dtype, (3e-3, 5e-3), (1e-2, 5e-2))
    x = torch.randn(batch, inputs, dim, dtype=dtype).transpose(-1, -2)
    columns = int(torch.randint(width - 1, width + 10, (1,)))
    entries = batch if rows_are == "all" else 2 * batch
    state = torch.randn(entries, columns, dim, dtype=dtype).transpose(-1, -2)
    # The public functions accept parameters that require gradients.
    weight = torch.randn(dim, width, requires_grad=True)
    bias = torch.randn(dim, requires_grad=True) if has_bias else None
    rows = None if rows_are == "all" else torch.randperm(entries, dtype=torch.int32)[:batch]
    if rows_are == "padded":
        rows[torch.randperm(batch)[: batch // 2]] = -1
    before = torch.randint(0, 1024, (batch,), dtype=torch.int32) if circular else None
    given = (weight, bias, "silu" if silu else None, before, rows)
    with torch.no_grad():
        y, after = naive_causal_conv1d_update(x, state, *given)
        mine = torch.empty_like(state, device=device).copy_(state)
        assert mine.stride() == state.stride()
        found = causal_conv1d_update(
            x.to(device), mine, *(v.to(device) if isinstance(v, torch.Tensor) else v for v in given)
        )
    assert torch.equal(mine.cpu(), after)
    torch.testing.assert_close(found.cpu(), y.to(dtype), rtol=rtol, atol=atol)
    if rows_are == "padded":
        assert not found[(rows < 0).to(device)].any()
