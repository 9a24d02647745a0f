import pytest
import torch
from sequences import distance, offset_of, scan_inputs

from supa_mamba import selective_scan, selective_state_update
from supa_mamba.step.naive import naive_selective_state_update


def step_inputs(count, channels, states, rows):
    drawn = scan_inputs([count], channels, states)
    drawn["x"] = drawn.pop("u")
    del drawn["initial_state"]
    state = torch.randn(rows, channels, states, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return state, drawn


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-14), (torch.float32, 1e-5), (torch.bfloat16, 1e-2)])
@pytest.mark.parametrize(("channels", "states"), [(5, 3), (70, 16), (3, 128)])
def test_one_step_of_chosen_rows(path, device, channels, states, dtype, bound):
    state, given = step_inputs(4, channels, states, 6)
    rows = torch.tensor([5, -1, 0, 3])
    half = ("x", "delta", "B", "C", "z")
    of_state = torch.float64 if dtype == torch.float64 else torch.float32
    given |= {name: given[name].to(dtype).double() for name in half}
    y, after = naive_selective_state_update(state, **given, rows=rows)
    given = {name: x.to(device, dtype if name in half else of_state) for name, x in given.items()}
    mine = state.to(device, of_state)
    found = selective_state_update(mine, **given, rows=rows.to(device))
    assert found.dtype == dtype
    assert distance(found, y) < bound
    assert distance(mine, after) < min(bound, 1e-5)
    assert not found[1].any()
    untouched = [1, 2, 4]
    assert torch.equal(mine[untouched].cpu(), state[untouched].to(of_state))


@pytest.mark.parametrize("missing", [("D", "z", "delta_bias"), ()])
def test_the_scan_is_steps_repeated(path, device, missing):
    inputs = {name: x.to(device) for name, x in scan_inputs([7, 7], 3, 4).items() if name not in missing}
    y, final = selective_scan(**inputs, offset=offset_of([7, 7], device), return_final_state=True)
    state = inputs.pop("initial_state").clone()
    along = {name: inputs.pop(name).unflatten(0, (2, 7)) for name in ("u", "delta", "B", "C", "z") if name in inputs}
    along["x"] = along.pop("u")
    for t in range(7):
        step = selective_state_update(state, **{name: x[:, t] for name, x in along.items()}, **inputs)
        torch.testing.assert_close(step, y.unflatten(0, (2, 7))[:, t])
    torch.testing.assert_close(state, final)


def test_steps_need_no_softplus(path, device):
    state, given = step_inputs(2, 3, 4, 2)
    y, after = naive_selective_state_update(state, **given, rows=torch.arange(2), delta_softplus=False)
    mine = state.to(device, copy=True)
    found = selective_state_update(mine, **{name: x.to(device) for name, x in given.items()}, delta_softplus=False)
    assert distance(found, y) < 1e-14
    assert distance(mine, after) < 1e-14


def test_nobody_left(path, device):
    state, given = step_inputs(0, 3, 4, 2)
    found = selective_state_update(state.to(device), **{name: x.to(device) for name, x in given.items()})
    assert found.shape == (0, 3)


def test_compiled_programs_change_the_state(path, device):
    if path == "interpreter":
        pytest.skip("the interpreter needs memory that is there, so it runs under no compiler")
    state, given = step_inputs(2, 3, 4, 4)
    given = {name: x.to(device) for name, x in given.items()}
    eager, compiled, rows = (
        state.to(device, copy=True),
        state.to(device, copy=True),
        torch.tensor([3, -1], device=device),
    )
    step = torch.compile(selective_state_update, backend="aot_eager", fullgraph=True)
    assert torch.equal(step(compiled, **given, rows=rows), selective_state_update(eager, **given, rows=rows))
    assert torch.equal(compiled, eager)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"state": torch.zeros(3, 3, 4, dtype=torch.float16)}, "state: torch.float16"),
        ({"state": torch.zeros(3, 4, 3).transpose(1, 2)}, "contiguous"),
        ({"x": torch.zeros(2, 1, 3)}, r"x: shape \(2, 1, 3\)"),
        ({"B": torch.zeros(2, 3)}, r"\(M, N\) = \(2, 4\)"),
        ({"rows": torch.tensor([0, 3])}, "rows: 3 was given, but the state has rows 0 to 2"),
        ({"rows": torch.tensor([0])}, r"rows: shape \(1,\)"),
        ({"state": torch.zeros(1, 3, 4)}, "say with rows which are meant"),
        ({"A": torch.zeros(3, 4, requires_grad=True)}, "call it under torch.no_grad"),
    ],
)
def test_bad_input_gives_one_clear_error(change, message):
    state, given = step_inputs(2, 3, 4, 3)
    good = {name: x.float() for name, x in given.items()} | {"state": state.float()}
    with pytest.raises(ValueError, match=message):
        selective_state_update(**(good | change))
