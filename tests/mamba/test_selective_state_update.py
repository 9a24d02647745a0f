from functools import partial
from itertools import cycle, product

import pytest
import torch
from device_sync import no_device_sync
from kernel_paths import on_all_paths
from sequences import distance, offset_of, scan_inputs
from steps import HALF, expanded, laid_out, mamba2_inputs, step_inputs, with_own_entries

from supa_mamba import selective_scan, selective_state_update
from supa_mamba.ops.checks import INTEGER_DTYPES
from supa_mamba.ops.selective_state_update.inputs import StepTensors, canonicalize
from supa_mamba.ops.selective_state_update.naive import naive_selective_state_update
from supa_mamba.ops.selective_state_update.operator import state_step

FORMS = {
    "mamba1 5x3": lambda: step_inputs(4, 5, 3, 6),
    "mamba1 70x16": lambda: step_inputs(4, 70, 16, 6),
    "mamba1 3x128": lambda: step_inputs(4, 3, 128, 6),
    "mamba1 6x3, 2 groups": lambda: step_inputs(4, 6, 3, 6, 2),
    "mamba1 3x1": lambda: step_inputs(4, 3, 1, 6),
    "mamba2 6 heads of 5, 3 groups, 3 states": lambda: mamba2_inputs(4, 6, 5, 3, 3, 6),
    "mamba2 2 heads of 33, 1 group, 64 states": lambda: mamba2_inputs(4, 2, 33, 1, 64, 6),
    "mamba2 2 heads of 4, 1 group, 3 states": lambda: mamba2_inputs(4, 2, 4, 1, 3, 6),
    "mamba2 2 heads of 1, 2 groups, 1 state": lambda: mamba2_inputs(4, 2, 1, 2, 1, 6),
}
MAMBA1, MAMBA2 = "mamba1 5x3", "mamba2 6 heads of 5, 3 groups, 3 states"
OF_HEADS = ("dt", "A", "D", "dt_bias")
BOUNDS = {torch.float64: 1e-14, torch.float32: 1e-5, torch.bfloat16: 1e-2}

update = partial(selective_state_update, dt_softplus=True)
naive_update = partial(naive_selective_state_update, dt_softplus=True)


def on(device, given, dtype=None):
    return {name: x.to(device, dtype) for name, x in given.items()}


def assert_as_naive(state, given, device, bound=1e-13, **options):
    """Take one step, compare it with the naive step, and return the updated table."""
    y, after = naive_update(state, **given, **options)
    mine = state.to(device, copy=True)
    found = update(mine, **on(device, given), **on(device, options))
    assert distance(found, y) < bound
    assert distance(mine, after) < bound
    return mine


@on_all_paths(["form", "dtype"], [*product(FORMS, BOUNDS)], [*zip(FORMS, cycle(BOUNDS), strict=False)])
def test_one_step_of_selected_slots(path, device, form, dtype):
    bound = BOUNDS[dtype]
    state, given = FORMS[form]()
    rows = torch.tensor([5, -1, 0, 3])
    of_state = torch.float64 if dtype == torch.float64 else torch.float32
    given |= {name: given[name].to(dtype).double() for name in HALF}
    y, after = naive_update(state, **given, state_batch_indices=rows)
    given = {name: x.to(device, dtype if name in HALF else of_state) for name, x in given.items()}
    mine = state.to(device, of_state, copy=True)
    found = update(mine, **given, state_batch_indices=rows.to(device))
    assert found.dtype == dtype
    assert distance(found, y) < bound
    assert distance(mine, after) < min(bound, 1e-5)
    assert not found[1].any()
    untouched = [1, 2, 4]
    assert torch.equal(mine[untouched].cpu(), state[untouched].to(of_state))


@pytest.mark.parametrize(
    ("form", "names"),
    [(MAMBA2, (name,)) for name in OF_HEADS]
    + [(MAMBA2, OF_HEADS), ("mamba2 2 heads of 33, 1 group, 64 states", ("dt", "D"))],
)
def test_each_channel_may_have_its_own_entries(path, device, form, names):
    state, given = FORMS[form]()
    assert_as_naive(state, with_own_entries(given, names), device)


@pytest.mark.parametrize("kept", ["A of channels", "A of states"])
def test_rates_may_differ_along_one_dimension_only(path, device, kept):
    state, given = FORMS[MAMBA2]()
    own = with_own_entries(given, ["A"])["A"]
    own = own[:, :, :1].expand_as(own) if kept == "A of channels" else own[:, :1].expand_as(own)
    assert_as_naive(state, given | {"A": own}, device)


def test_expanded_entries_are_handled_like_entries_per_head(path, device):
    state, given = FORMS[MAMBA2]()
    given = on(device, given)
    tied, wide = state.to(device, copy=True), state.to(device, copy=True)
    assert torch.equal(update(wide, **expanded(given)), update(tied, **given))
    assert torch.equal(wide, tied)
    along = {name: given[name][:, None] for name in HALF}
    wide_along = {name: x[:, None] if name in HALF else x for name, x in expanded(given).items()}
    inputs = canonicalize(StepTensors(state, **(given | along)))
    wide_inputs = canonicalize(StepTensors(state, **wide_along))
    assert [x.shape for x in wide_inputs] == [x.shape for x in inputs]


def test_rates_expanded_to_all_states_are_handled_like_rates_per_channel(path, device):
    state, given = FORMS["mamba1 70x16"]()
    given |= {"A": given["A"][:, :1].expand(-1, 16)}
    assert_as_naive(state, given, device)
    inputs = canonicalize(StepTensors(state, **(given | {name: given[name][:, None] for name in HALF})))
    assert inputs.A.shape == (70, 1, 1)


def test_one_decay_per_head_equals_mamba1_with_equal_decays(path, device):
    state, given = mamba2_inputs(3, 4, 5, 1, 8, 3)
    spread = lambda x: x.repeat_interleave(5, -1)  # noqa: E731
    wide = {name: spread(given[name]) for name in ("dt", "D", "dt_bias")}
    wide |= {"A": spread(given["A"])[:, None].repeat(1, 8), "B": given["B"][:, 0], "C": given["C"][:, 0]}
    wide |= {name: given[name].flatten(1) for name in ("x", "z")}
    one, other = state.to(device, copy=True), state.flatten(1, 2).to(device, copy=True)
    found, truth = update(one, **on(device, given)), update(other, **on(device, wide))
    assert distance(found.flatten(1), truth) < 1e-14
    assert distance(one.flatten(1, 2), other) < 1e-14


@pytest.mark.parametrize("form", [MAMBA1, "mamba2 2 heads of 4, 1 group, 3 states"])
def test_a_single_group_needs_no_dimension_and_may_have_one(path, device, form):
    state, given = FORMS[form]()
    other = {name: given[name][:, None] if state.ndim == 3 else given[name][:, 0] for name in ("B", "C")}
    assert_as_naive(state, given | other, device)
    one, another = state.to(device, copy=True), state.to(device, copy=True)
    assert torch.equal(update(one, **on(device, given)), update(another, **on(device, given | other)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("form", ["mamba1 70x16", MAMBA2])
def test_states_in_half_precision_are_rounded_once(path, device, form, dtype):
    state, given = FORMS[form]()
    state, rows = state.to(dtype), torch.tensor([5, -1, 0, 3])
    y, after = naive_update(state, **given, state_batch_indices=rows)
    mine = state.to(device, copy=True)
    found = update(mine, **on(device, given, torch.float32), state_batch_indices=rows.to(device))
    assert found.dtype == torch.float32
    assert distance(found, y) < 1e-5
    assert mine.dtype == after.dtype == dtype
    # One unit in the last place, because the float32 sum may be on the other side of a tie.
    torch.testing.assert_close(mine.cpu(), after, rtol=torch.finfo(dtype).eps, atol=1e-6)
    if path != "interpreter" or dtype == torch.float16:  # the interpreter truncates to bfloat16
        assert (mine.cpu() == after).double().mean() > 0.99
    assert torch.equal(mine[[1, 2, 4]].cpu(), state[[1, 2, 4]])


def test_y_is_computed_from_the_states_before_rounding(path, device):
    state = torch.ones(1, 1, 1, dtype=torch.bfloat16, device=device)
    one, small = torch.ones(1, 1, device=device), torch.full((1, 1), 2.0**-10, device=device)
    y = selective_state_update(state, one, one, 0 * one, small, 1024 * one)
    assert y.item() == 1025
    assert state.item() == 1


@pytest.mark.parametrize(
    ("form", "order", "own"),
    [(MAMBA1, order, ()) for order in ((0, 1, 2), (0, 2, 1), (2, 1, 0))]
    + [*product([MAMBA2], ((0, 1, 2, 3), (0, 2, 1, 3), (0, 1, 3, 2), (3, 2, 1, 0)), ((), OF_HEADS))],
)
def test_states_may_have_any_memory_layout(path, device, form, order, own):
    state, given = FORMS[form]()
    given = on(device, given if state.ndim == 3 else with_own_entries(given, own))
    mine, theirs = state.to(device, copy=True), laid_out(state.to(device), order)
    rows = torch.tensor([5, -1, 0, 3], device=device)
    around = theirs._base.clone()
    y = update(mine, **given, state_batch_indices=rows)
    assert distance(update(theirs, **given, state_batch_indices=rows), y) < 1e-14
    assert distance(theirs, mine) < 1e-14
    assert int((theirs._base != around).sum()) == int((mine.cpu() != state).sum())


def test_non_contiguous_inputs(path, device):
    state, given = mamba2_inputs(3, 2, 4, 2, 3, 3)
    y, after = naive_update(state, **given)
    parts = {name: given[name].flatten(1) for name in HALF}
    projected = torch.cat(list(parts.values()), 1).to(device).split([x.shape[1] for x in parts.values()], 1)
    sliced = {name: x.unflatten(1, given[name].shape[1:]) for name, x in zip(parts, projected, strict=True)}
    apart = on(device, given) | sliced
    mine = state.to(device, copy=True)
    assert distance(update(mine, **apart), y) < 1e-14
    assert distance(mine, after) < 1e-14


@pytest.mark.parametrize("dtype", INTEGER_DTYPES, ids=str)
def test_slots_may_have_any_integer_dtype(path, device, dtype):
    state, given = FORMS[MAMBA1]()
    rows = torch.tensor([5, 1, 0, 3])
    _, after = naive_update(state, **given, state_batch_indices=rows)
    mine = state.to(device, copy=True)
    update(mine, **on(device, given), state_batch_indices=rows.to(device, dtype))
    assert distance(mine, after) < 1e-14


@pytest.mark.parametrize("missing", [("D", "z", "dt_bias"), ()])
def test_repeated_steps_equal_the_scan(path, device, missing):
    inputs = {name: x.to(device) for name, x in scan_inputs([7, 7], 3, 4).items()}
    inputs |= {name.replace("dt", "delta"): None for name in missing}
    y, final = selective_scan(**inputs, offset=offset_of([7, 7], device), return_final_states=True, delta_softplus=True)
    state = inputs["initial_states"].clone()
    along = [
        None if inputs[name] is None else inputs[name].unflatten(0, (2, 7)) for name in ("u", "delta", "B", "C", "z")
    ]
    for t in range(7):
        x, dt, B, C, z = (None if v is None else v[:, t] for v in along)
        step = update(state, x, dt, inputs["A"], B, C, inputs["D"], z, inputs["delta_bias"])
        torch.testing.assert_close(step, y.unflatten(0, (2, 7))[:, t])
    torch.testing.assert_close(state, final)


def test_softplus_is_off_by_default(path, device):
    state, given = step_inputs(2, 3, 4, 2)
    y, after = naive_selective_state_update(state, **given)
    mine = state.to(device, copy=True)
    found = selective_state_update(mine, **on(device, given))
    assert distance(found, y) < 1e-14
    assert distance(mine, after) < 1e-14


@pytest.mark.parametrize("form", [MAMBA1, MAMBA2])
def test_autocast_does_not_change_the_results(path, device, form):
    state, given = FORMS[form]()
    plain, cast = (state.to(device, torch.float32) for _ in range(2))
    given = on(device, given, torch.float32)
    y = update(plain, **given)
    with torch.autocast(device, torch.bfloat16):
        assert torch.equal(update(cast, **given), y)
    assert torch.equal(plain, cast)


def test_inference_mode_does_not_change_the_results(path, device):
    state, given = FORMS[MAMBA2]()
    given, plain, mine = on(device, given), state.to(device, copy=True), state.to(device, copy=True)
    y = update(plain, **given)
    with torch.inference_mode():
        assert torch.equal(update(mine, **given), y)
        fresh = state.to(device, copy=True)
        assert torch.equal(update(fresh, **given), y)
    assert torch.equal(mine, plain)
    assert torch.equal(fresh, plain)


@pytest.mark.parametrize("rows", [6, 0])
def test_no_sequences(path, device, rows):
    state, given = step_inputs(0, 3, 4, rows)
    assert update(state.to(device), **on(device, given)).shape == (0, 3)


def test_all_sequences_have_finished(path, device):
    state, given = step_inputs(2, 3, 4, 0)
    rows = torch.tensor([-1, -7], device=device)
    assert not update(state.to(device), **on(device, given), state_batch_indices=rows).any()


@pytest.mark.parametrize(("form", "dynamic"), [(MAMBA1, False), (MAMBA2, True), ("expanded", False)])
def test_compiled_programs_update_the_state(path, device, form, dynamic):
    if path == "interpreter":
        pytest.skip("the interpreter needs real memory, so it cannot run inside compiled programs")
    state, given = FORMS[MAMBA2 if form == "expanded" else form]()
    given = on(device, expanded(given) if form == "expanded" else given)
    eager, compiled = state.to(device, copy=True), state.to(device, copy=True)
    given["state_batch_indices"] = torch.tensor([3, -1, 0, 5], device=device, dtype=torch.int32)
    torch._dynamo.reset()  # other forms count towards the recompilation limit
    step = torch.compile(update, backend="aot_eager", fullgraph=True, dynamic=dynamic)
    assert torch.equal(step(compiled, **given), update(eager, **given))
    assert torch.equal(compiled, eager)
    assert not torch.equal(eager.cpu(), state)


@pytest.mark.parametrize("path", [pytest.param("cuda", marks=pytest.mark.gpu)], indirect=True)
def test_no_synchronisation_with_the_device(path, device):
    state, given = FORMS[MAMBA2]()
    state, given = state.to(device), expanded(on(device, given))
    given["state_batch_indices"] = torch.tensor([3, -1, 0, 5], device=device, dtype=torch.int32)
    update(state, **given)
    with no_device_sync():
        update(state, **given)


@pytest.mark.parametrize("path", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)], indirect=True)
@pytest.mark.parametrize(("form", "cached"), [(MAMBA1, False), (MAMBA2, True)])
def test_the_operator_passes_opcheck(path, device, form, cached):
    state, given = FORMS[form]()
    given = with_own_entries(given, ["dt"]) if form == MAMBA2 else given
    given = {n: x[:, None] if n in HALF else x for n, x in given.items()}
    table, *inputs = canonicalize(StepTensors(laid_out(state, range(state.ndim)[::-1]), **given))
    x, dt, _, B, *_ = inputs
    caches = [torch.randn_like(v[:1].expand(6, -1, -1, -1).contiguous()) for v in (x, dt, B)] if cached else [None] * 3
    accepted = torch.tensor([1, 0, 1, 0], device=device) if cached else None
    arguments = [table, *caches, *inputs, accepted, torch.tensor([3, -1, 0, 5])]
    arguments = [None if v is None else v.to(device) for v in arguments]
    torch.library.opcheck(state_step.operator, (*arguments, True))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"state": torch.zeros(3, 3, 4, dtype=torch.int64)}, "state: torch.int64 .* must be .* float16, bfloat16"),
        ({"state": torch.zeros(3, 1, 4).expand(3, 3, 4)}, "state: .* share memory"),
        ({"state": torch.zeros(1, 3, 4).expand(3, 3, 4)}, "state: .* share memory"),
        ({"state": torch.zeros(20).as_strided((3, 3, 4), (4, 2, 1))}, "state: .* share memory"),
        ({"x": torch.zeros(2, 1, 3)}, r"x: shape \(2, 1, 3\)"),
        ({"B": torch.zeros(2, 3)}, r"\(M, N\) = \(2, 4\)"),
        ({"B": torch.zeros(2, 2, 4)}, r"B: shape \(2, 2, 4\) .* where G divides the number of channels, 3"),
        ({"state_batch_indices": torch.tensor([1, 1])}, "state_batch_indices: 1 was given more than once"),
        ({"state_batch_indices": torch.tensor([0, 3])}, "state_batch_indices: 3 was given, but .* slots 0 to 2"),
        ({"state_batch_indices": torch.tensor([0])}, r"state_batch_indices: shape \(1,\)"),
        ({"state_batch_indices": torch.tensor([0.0, 1.0])}, "torch.float32 on cpu was given, but .* integers"),
        ({"state_batch_indices": torch.tensor([True, False])}, "torch.bool on cpu was given, but .* integers"),
        ({"state_batch_indices": [0, 1]}, "state_batch_indices: a list was given, but it must be a tensor"),
        ({"state": torch.zeros(1, 3, 4)}, "x: it has 2 sequences.* in state_batch_indices"),
        ({"A": torch.zeros(3, 4, requires_grad=True)}, "call it under torch.no_grad"),
    ],
)
def test_invalid_input_raises_a_clear_error(change, message):
    state, given = step_inputs(2, 3, 4, 3)
    good = {name: x.float() for name, x in given.items()} | {"state": state.float()}
    with pytest.raises(ValueError, match=message):
        selective_state_update(**(good | change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"state": torch.zeros(3, 4)}, r"\(R, D, N\), or \(R, H, P, N\) of Mamba-2, float16"),
        ({"x": torch.zeros(2, 20)}, r"it must be \(M, H, P\)"),
        ({"z": torch.zeros(2, 5, 4)}, r"z: shape \(2, 5, 4\) was given, but it must be \(M, H, P\) = \(2, 4, 5\)"),
        ({"dt": torch.zeros(2, 5)}, r"dt: shape \(2, 5\) was given, but it must be \(M, H\) = \(2, 4\)"),
        ({"dt": torch.zeros(2, 4, 3)}, r"it must be \(M, H, P\) = \(2, 4, 5\)"),
        ({"dt": torch.zeros(8)}, r"it must be \(M, H\) = \(2, 4\) or \(M, H, P\) = \(2, 4, 5\)"),
        ({"A": torch.zeros(4, 3)}, r"A: shape \(4, 3\) .* must be \(H,\) = \(4,\) or \(H, P, N\) = \(4, 5, 3\)"),
        ({"A": torch.zeros(4, 5, 1)}, r"it must be \(H, P, N\) = \(4, 5, 3\)"),
        ({"B": torch.zeros(2, 3, 3)}, "where G divides the number of heads, 4"),
        ({"C": torch.zeros(2, 4, 3)}, r"\(M, G, N\) = \(2, 2, 3\)"),
        ({"dt_bias": torch.zeros(20)}, r"dt_bias: shape \(20,\) .*\(H,\) = \(4,\)"),
        ({"D": torch.zeros(4, 4)}, r"D: shape \(4, 4\) .*\(H, P\) = \(4, 5\)"),
    ],
)
def test_invalid_input_of_mamba2_raises_a_clear_error(change, message):
    state, given = mamba2_inputs(2, 4, 5, 2, 3, 3)
    good = {name: x.float() for name, x in given.items()} | {"state": state.float()}
    with pytest.raises(ValueError, match=message):
        selective_state_update(**(good | change))
