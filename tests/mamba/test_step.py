import pytest
import torch
from sequences import distance, offset_of, scan_inputs
from steps import HALF, mamba2_inputs, step_inputs

from supa_mamba import selective_scan, selective_state_update
from supa_mamba.step.naive import naive_selective_state_update
from supa_mamba.step.operator import selective_state_step_operator

FORMS = {
    "mamba1 5x3": lambda: step_inputs(4, 5, 3, 6),
    "mamba1 70x16": lambda: step_inputs(4, 70, 16, 6),
    "mamba1 3x128": lambda: step_inputs(4, 3, 128, 6),
    "mamba1 3x1": lambda: step_inputs(4, 3, 1, 6),
    "mamba2 6 heads of 5, 3 groups, 3 states": lambda: mamba2_inputs(4, 6, 5, 3, 3, 6),
    "mamba2 2 heads of 33, 1 group, 64 states": lambda: mamba2_inputs(4, 2, 33, 1, 64, 6),
    "mamba2 2 heads of 1, 2 groups, 1 state": lambda: mamba2_inputs(4, 2, 1, 2, 1, 6),
}


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-14), (torch.float32, 1e-5), (torch.bfloat16, 1e-2)])
@pytest.mark.parametrize("form", FORMS)
def test_one_step_of_chosen_rows(path, device, form, dtype, bound):
    state, given = FORMS[form]()
    rows = torch.tensor([5, -1, 0, 3])
    of_state = torch.float64 if dtype == torch.float64 else torch.float32
    given |= {name: given[name].to(dtype).double() for name in HALF}
    y, after = naive_selective_state_update(state, **given, rows=rows)
    given = {name: x.to(device, dtype if name in HALF else of_state) for name, x in given.items()}
    mine = state.to(device, of_state, copy=True)
    found = selective_state_update(mine, **given, rows=rows.to(device))
    assert found.dtype == dtype
    assert distance(found, y) < bound
    assert distance(mine, after) < min(bound, 1e-5)
    assert not found[1].any()
    untouched = [1, 2, 4]
    assert torch.equal(mine[untouched].cpu(), state[untouched].to(of_state))


def test_one_decay_for_a_head_is_mamba1_with_equal_decays(path, device):
    state, given = mamba2_inputs(3, 4, 5, 1, 8, 3)
    spread = lambda x: x.repeat_interleave(5, -1)  # noqa: E731
    wide = {name: spread(given[name]) for name in ("delta", "D", "delta_bias")}
    wide |= {"A": spread(given["A"])[:, None].expand(20, 8), "B": given["B"][:, 0], "C": given["C"][:, 0]}
    wide |= {name: given[name].flatten(1) for name in ("x", "z")}
    one, other = state.to(device, copy=True), state.flatten(1, 2).to(device, copy=True)
    found = selective_state_update(one, **{name: x.to(device) for name, x in given.items()})
    truth = selective_state_update(other, **{name: x.to(device) for name, x in wide.items()})
    assert distance(found.flatten(1), truth) < 1e-14
    assert distance(one.flatten(1, 2), other) < 1e-14


def test_what_lies_apart_is_read_where_it_lies(path, device):
    state, given = mamba2_inputs(3, 2, 4, 2, 3, 3)
    y, after = naive_selective_state_update(state, **given, rows=torch.arange(3))
    parts = {name: given[name].flatten(1) for name in HALF}
    projected = torch.cat(list(parts.values()), 1).to(device).split([x.shape[1] for x in parts.values()], 1)
    sliced = {name: x.unflatten(1, given[name].shape[1:]) for name, x in zip(parts, projected, strict=True)}
    apart = {name: x.to(device) for name, x in given.items()} | sliced
    mine = state.to(device, copy=True)
    assert distance(selective_state_update(mine, **apart), y) < 1e-14
    assert distance(mine, after) < 1e-14


@pytest.mark.parametrize("missing", [("D", "z", "delta_bias"), ()])
def test_the_scan_is_steps_repeated(path, device, missing):
    inputs = {name: x.to(device) for name, x in scan_inputs([7, 7], 3, 4).items() if name not in missing}
    y, final = selective_scan(**inputs, delta_softplus=True, offset=offset_of([7, 7], device), return_final_state=True)
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


@pytest.mark.parametrize("form", ["mamba1 5x3", "mamba2 6 heads of 5, 3 groups, 3 states"])
def test_autocast_changes_nothing(path, device, form):
    state, given = FORMS[form]()
    plain, cast = (state.to(device, torch.float32) for _ in range(2))
    given = {name: x.to(device, torch.float32) for name, x in given.items()}
    y = selective_state_update(plain, **given)
    with torch.autocast(device, torch.bfloat16):
        assert torch.equal(selective_state_update(cast, **given), y)
    assert torch.equal(plain, cast)


def test_nobody_left(path, device):
    state, given = step_inputs(0, 3, 4, 2)
    found = selective_state_update(state.to(device), **{name: x.to(device) for name, x in given.items()})
    assert found.shape == (0, 3)


@pytest.mark.parametrize("form", ["mamba1 5x3", "mamba2 6 heads of 5, 3 groups, 3 states"])
def test_compiled_programs_change_the_state(path, device, form):
    if path == "interpreter":
        pytest.skip("the interpreter needs memory that is there, so it runs under no compiler")
    state, given = FORMS[form]()
    given = {name: x.to(device) for name, x in given.items()}
    eager, compiled = state.to(device, copy=True), state.to(device, copy=True)
    rows = torch.tensor([3, -1, 0, 5], device=device)
    step = torch.compile(selective_state_update, backend="aot_eager", fullgraph=True)
    assert torch.equal(step(compiled, **given, rows=rows), selective_state_update(eager, **given, rows=rows))
    assert torch.equal(compiled, eager)
    assert not torch.equal(eager.cpu(), state)


@pytest.mark.parametrize("path", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)], indirect=True)
@pytest.mark.parametrize("cached", [False, True])
def test_the_operator_is_what_pytorch_expects(path, device, cached):
    state, given = step_inputs(2, 3, 4, 4)
    given |= {name: given[name][:, None] for name in HALF}
    given |= {"cache_x": None, "cache_delta": None, "cache_B": None, "accepted": None}
    if cached:
        given |= {"cache_x": state[:, :1, :3], "cache_delta": state[:, :1, 1:], "cache_B": state[:, :1]}
        given |= {"accepted": torch.tensor([1, 0])}
    given |= {"state": state, "rows": torch.tensor([3, -1])}
    given = {name: None if x is None else x.to(device, copy=True) for name, x in given.items()}
    torch.library.opcheck(selective_state_step_operator, (), given | {"delta_softplus": True})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"state": torch.zeros(3, 3, 4, dtype=torch.float16)}, "state: torch.float16"),
        ({"state": torch.zeros(3, 4, 3).transpose(1, 2)}, "contiguous"),
        ({"x": torch.zeros(2, 1, 3)}, r"x: shape \(2, 1, 3\)"),
        ({"B": torch.zeros(2, 3)}, r"\(M, N\) = \(2, 4\)"),
        ({"rows": torch.tensor([1, 1])}, "rows: 1 was given more than once"),
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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"state": torch.zeros(3, 4)}, r"\(R, D, N\), or \(R, H, P, N\) of Mamba-2, float32"),
        ({"x": torch.zeros(2, 20)}, r"it must be \(M, H, P\)"),
        ({"z": torch.zeros(2, 5, 4)}, r"z: shape \(2, 5, 4\) was given, but it must be \(M, H, P\) = \(2, 4, 5\)"),
        ({"delta": torch.zeros(2, 4, 5)}, r"\(M, H\) = \(2, 4\)"),
        ({"A": torch.zeros(4, 3)}, r"A: shape \(4, 3\) was given, but it must be \(H,\) = \(4,\)"),
        ({"B": torch.zeros(2, 3, 3)}, "where the G groups share the 4 heads evenly"),
        ({"C": torch.zeros(2, 4, 3)}, r"\(M, G, N\) = \(2, 2, 3\)"),
        ({"delta_bias": torch.zeros(20)}, r"\(H,\) = \(4,\)"),
    ],
)
def test_bad_input_of_mamba2_gives_one_clear_error(change, message):
    state, given = mamba2_inputs(2, 4, 5, 2, 3, 3)
    good = {name: x.float() for name, x in given.items()} | {"state": state.float()}
    with pytest.raises(ValueError, match=message):
        selective_state_update(**(good | change))
