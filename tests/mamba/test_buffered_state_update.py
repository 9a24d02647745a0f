from functools import partial

import pytest
import torch
from device_sync import no_device_sync
from kernel_paths import on_all_paths
from sequences import distance
from steps import HALF, expanded, laid_out, mamba2_inputs

from supa_mamba import InputBuffer, buffered_state_update, selective_state_update
from supa_mamba.ops.buffered_state_update.naive import naive_buffered_state_update
from supa_mamba.ops.buffered_state_update.operator import buffered_step
from supa_mamba.ops.selective_state_update.naive import naive_selective_state_update

FORMS = {
    "6 heads of 5, 3 groups, 3 states": (6, 5, 3, 3),
    "2 heads of 33, 1 group, 64 states": (2, 33, 1, 64),
    "1 head of 70, 1 group, 128 states": (1, 70, 1, 128),
}
SMALL, WIDE = "6 heads of 5, 3 groups, 3 states", "2 heads of 33, 1 group, 64 states"
LENGTH, ROWS = 4, 6

buffered = partial(buffered_state_update, dt_softplus=True)
naive_buffered = partial(naive_buffered_state_update, dt_softplus=True)
update = partial(selective_state_update, dt_softplus=True)
naive_update = partial(naive_selective_state_update, dt_softplus=True)


def drawn(form, count, inputs=None, seed=3):
    """Return a state table, a buffer with different lengths, and the inputs of a call."""
    heads, width, groups, states = FORMS[form]
    state, given = mamba2_inputs(count * (inputs or 1), heads, width, groups, states, ROWS)
    if inputs:
        given |= {name: given[name].unflatten(0, (count, inputs)) for name in HALF}
    generator = torch.Generator().manual_seed(seed)
    lead, shapes = (ROWS, LENGTH), ((heads, width), (heads,), (groups, states))
    held = (torch.randn(*lead, *shape, generator=generator, dtype=torch.float64) for shape in shapes)
    return state, InputBuffer(*held, torch.tensor([0, 4, 3, 1, 2, 4])), given


def moved(buffer, device, dtype=torch.float64):
    """Return a copy on a device, in which the values after the stored inputs must not be used."""
    beyond = torch.arange(LENGTH) >= buffer.lengths[:, None]
    filled = (v.clone() for v in (buffer.x, buffer.dt, buffer.B))
    filled = [v.index_put((beyond,), torch.tensor(torch.nan, dtype=v.dtype)) for v in filled]
    return InputBuffer(*(v.to(device, dtype) for v in filled), buffer.lengths.to(device, copy=True))


def on(device, given, dtype=None):
    return {name: x.to(device, dtype) for name, x in given.items()}


def assert_buffers_equal(found, expected):
    assert torch.equal(found.lengths.cpu(), expected.lengths)
    held = torch.arange(LENGTH) < expected.lengths[:, None]
    for name in ("x", "dt", "B"):
        a, b = getattr(found, name).cpu(), getattr(expected, name)
        assert torch.equal(a[held].double(), b[held].double()), name


def cast_buffer(buffer, dtype):
    return InputBuffer(*(v.to(dtype).double() for v in (buffer.x, buffer.dt, buffer.B)), buffer.lengths)


BOUNDS = {torch.float64: 1e-13, torch.float32: 1e-5, torch.bfloat16: 1e-2}


@on_all_paths(
    ["form", "inputs", "dtype"],
    [
        *((form, inputs, torch.float64) for form in FORMS for inputs in (1, 3)),
        *((WIDE, inputs, dtype) for inputs in (1, 3) for dtype in (torch.float32, torch.bfloat16)),
    ],
    [
        *((form, inputs, torch.float64) for form, inputs in zip(FORMS, (1, 3, 1), strict=True)),
        *((WIDE, inputs, dtype) for inputs, dtype in ((1, torch.float32), (3, torch.bfloat16))),
    ],
)
def test_one_call_of_selected_slots(path, device, form, inputs, dtype):
    """Slots have different numbers of buffered inputs; finished sequences are skipped."""
    bound = BOUNDS[dtype]
    state, buffer, given = drawn(form, 5, inputs)
    rows = torch.tensor([5, -1, 0, 3, 2])
    of_state = torch.float64 if dtype == torch.float64 else torch.float32
    given |= {name: given[name].to(dtype).double() for name in HALF}
    buffer = cast_buffer(buffer, dtype)
    y, after, kept = naive_buffered(state, buffer, **given, state_batch_indices=rows)
    given = {name: x.to(device, dtype if name in HALF else of_state) for name, x in given.items()}
    mine, mine_buffer = state.to(device, of_state, copy=True), moved(buffer, device, dtype)
    found = buffered(mine, mine_buffer, **given, state_batch_indices=rows.to(device))
    assert found.dtype == dtype
    assert distance(found, y) < bound
    assert distance(mine, after) < min(bound, 1e-5)
    assert not found[1].any()
    assert_buffers_equal(mine_buffer, kept)
    full = (buffer.lengths + inputs > LENGTH) & torch.isin(torch.arange(ROWS), rows)
    assert torch.equal(mine[~full].cpu(), state[~full].to(of_state))


@pytest.mark.parametrize("missing", [("D", "z", "dt_bias"), ()])
def test_steps_equal_those_without_a_buffer(path, device, missing):
    state, _, given = drawn(SMALL, 2)
    given = {name: None if name in missing else x.to(device) for name, x in given.items()}
    mine, plain = state.to(device, copy=True), state.to(device, copy=True)
    buffer = InputBuffer.empty(mine, LENGTH, groups=3, dtype=torch.float64)
    turns = LENGTH + 2 if path == "interpreter" else 3 * LENGTH + 2
    for turn in range(turns):
        given |= {name: given[name].roll(1, 0) * (-1) ** turn for name in HALF if name not in missing}
        assert distance(buffered(mine, buffer, **given), update(plain, **given)) < 1e-13
    assert (buffer.lengths == torch.tensor([2, 2, 0, 0, 0, 0], device=device)).all()


def test_the_error_does_not_grow_with_the_number_of_steps():
    """1,000 steps in float32, compared with float64."""
    state, _, given = drawn(WIDE, 4)
    exact, mine = state.clone(), state.float()
    buffer = InputBuffer.empty(mine, 16)
    generator, errors = torch.Generator().manual_seed(0), []
    for _ in range(1000):
        given |= {name: given[name][torch.randperm(4, generator=generator)] for name in HALF}
        errors.append(distance(buffered(mine, buffer, **on("cpu", given, torch.float32)), update(exact, **given)))
    assert max(errors) < 1e-5
    assert max(errors[500:]) < 2 * max(errors[:500])


def test_rejected_inputs_have_no_effect(path, device):
    """Random acceptance over many calls, with sequences that leave and others that enter their slots."""
    generator = torch.Generator().manual_seed(5)
    state, _, given = drawn(SMALL, 4, 2)
    fixed = {name: given[name] for name in ("A", "D", "dt_bias")}
    mine, plain = state.to(device, copy=True), state.clone()
    buffer, rows = InputBuffer.empty(mine, LENGTH, groups=3, dtype=torch.float64), torch.tensor([4, 0, 5, 2])
    for turn in range(6 if path == "interpreter" else 40):
        new = {name: given[name][torch.randperm(4, generator=generator)] * (-1) ** turn for name in HALF}
        found = buffered(mine, buffer, **on(device, fixed | new), state_batch_indices=rows.to(device))
        rejected = torch.randint(3, (4,), generator=generator)
        for m, row in enumerate(rows.tolist()):
            if row < 0:
                assert not found[m].any()
                continue
            scored = plain
            for i in range(2):
                one = {name: x[m, i : i + 1] for name, x in new.items()}
                y, scored = naive_update(scored, **one, **fixed, state_batch_indices=rows[m : m + 1])
                assert distance(found[m, i], y[0]) < 1e-12
                plain = scored if i < 2 - rejected[m] else plain
        live = rows >= 0
        buffer.lengths[rows[live].to(device)] -= rejected[live].to(device)
        if turn in (2, 3):  # a sequence ends, and later another one takes its slot
            rows[1] = -1 if turn == 2 else 0
            plain[0] = mine[0] = 0
            buffer.lengths[0] = 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_states_in_half_precision_are_rounded_only_when_they_are_written(path, device, dtype):
    state, buffer, given = drawn(SMALL, 4)
    state = state.to(dtype)
    y, after, _ = naive_buffered(state, buffer, **{n: x[:, None] if n in HALF else x for n, x in given.items()})
    mine = state.to(device, copy=True)
    found = buffered(mine, moved(buffer, device, torch.float32), **on(device, given, torch.float32))
    assert distance(found, y[:, 0]) < 1e-5
    torch.testing.assert_close(mine.cpu(), after, rtol=torch.finfo(dtype).eps, atol=1e-6)
    assert torch.equal(mine[0].cpu(), state[0])


@pytest.mark.parametrize("order", [(0, 2, 1, 3), (3, 2, 1, 0)])
def test_states_may_have_any_memory_layout_and_inputs_any_stride(path, device, order):
    state, buffer, given = drawn(SMALL, 3, 2)
    rows = torch.tensor([5, 1, 0], device=device)
    mine, theirs = state.to(device, copy=True), laid_out(state.to(device), order)
    y = buffered(mine, moved(buffer, device), **on(device, given), state_batch_indices=rows)
    parts = {name: x.flatten(2) for name, x in on(device, given).items() if name in HALF}
    projected = torch.cat(list(parts.values()), 2).split([x.shape[2] for x in parts.values()], 2)
    sliced = {n: x.unflatten(2, given[n].shape[2:]) for n, x in zip(parts, projected, strict=True)}
    found = buffered(theirs, moved(buffer, device), **(on(device, given) | sliced), state_batch_indices=rows.int())
    assert distance(found, y) < 1e-14
    assert distance(theirs, mine) < 1e-14


def test_entries_expanded_from_one_per_head(path, device):
    state, buffer, given = drawn(SMALL, 4)
    given = on(device, given)
    one, other = state.to(device, copy=True), state.to(device, copy=True)
    y = buffered(one, moved(buffer, device), **given)
    assert torch.equal(buffered(other, moved(buffer, device), **expanded(given)), y)
    assert torch.equal(one, other)


@pytest.mark.parametrize("form", [WIDE, SMALL])
def test_repeated_calls_have_the_same_bits(path, device, form, monkeypatch):
    """A program of the kernel handles one head in the first call, and two heads in the others."""
    results = []
    for few in (4096, 0, 0):
        if path != "cpu":
            monkeypatch.setattr("supa_mamba.ops.buffered_state_update.launch.FEW_PARTS", few)
        state, buffer, given = drawn(form, 6, 2)
        state, buffer = state.to(device, torch.float32), moved(buffer, device, torch.float32)
        y = buffered(state, buffer, **on(device, given, torch.float32))
        results.append((y, state))
    for one, two, again in zip(*results, strict=True):
        assert torch.equal(two, again)
        assert distance(two, one) < 1e-6


def test_autocast_does_not_change_the_results(path, device):
    state, buffer, given = drawn(SMALL, 4)
    given = on(device, given, torch.float32)
    plain, cast = ((state.to(device, torch.float32), moved(buffer, device, torch.float32)) for _ in range(2))
    y = buffered(*plain, **given)
    with torch.autocast(device, torch.bfloat16):
        assert torch.equal(buffered(*cast, **given), y)
    assert torch.equal(plain[0], cast[0])


def test_no_sequences(path, device):
    state, buffer, given = drawn(SMALL, 0)
    assert buffered(state.to(device), moved(buffer, device), **on(device, given)).shape == (0, 6, 5)


def test_compiled_programs_update_state_and_buffer(path, device):
    if path == "interpreter":
        pytest.skip("the interpreter needs real memory, so it cannot run inside compiled programs")
    state, buffer, given = drawn(SMALL, 4)
    given = on(device, given) | {"state_batch_indices": torch.tensor([3, -1, 1, 5], device=device)}
    eager, compiled = ((state.to(device, copy=True), moved(buffer, device)) for _ in range(2))
    y = torch.compile(buffered, backend="aot_eager", fullgraph=True)(*compiled, **given)
    assert torch.equal(y, buffered(*eager, **given))
    assert torch.equal(compiled[0], eager[0])
    assert torch.equal(compiled[1].lengths, eager[1].lengths)
    assert torch.equal(compiled[1].B.nan_to_num(), eager[1].B.nan_to_num())
    assert eager[1].lengths.tolist() == [0, 1, 3, 2, 2, 1]


@pytest.mark.parametrize("path", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)], indirect=True)
def test_the_operator_passes_opcheck(path, device):
    state, buffer, given = drawn(SMALL, 4, 1)
    buffer = InputBuffer(*(v.to(device, copy=True) for v in vars(buffer).values()))
    given, rows = on(device, given), torch.tensor([3, -1, 1, 5], device=device)
    order = ("x", "dt", "A", "B", "C", "D", "z", "dt_bias")
    table = laid_out(state.to(device), (3, 2, 1, 0))
    arguments = (table, *vars(buffer).values(), *(given[name] for name in order), rows, True)
    torch.library.opcheck(buffered_step.operator, arguments)


@pytest.mark.parametrize("path", [pytest.param("cuda", marks=pytest.mark.gpu)], indirect=True)
def test_a_cuda_graph_captures_the_steps(path, device):
    """The captured calls have the bits of eager ones. Different slots write their states at different calls."""
    state, buffer, given = drawn(WIDE, 6, 2)
    given = on(device, given, torch.float32)
    eager, captured = ((state.to(device, torch.float32), moved(buffer, device, torch.float32)) for _ in range(2))
    others = state.to(device, torch.float32), InputBuffer(*(v.clone() for v in vars(captured[1]).values()))
    buffered(*others, **given)
    with no_device_sync():
        buffered(*others, **given)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = buffered(*captured, **given)
    for _ in range(5):
        graph.replay()
        assert torch.equal(y, buffered(*eager, **given))
    assert torch.equal(captured[0], eager[0])
    assert torch.equal(captured[1].lengths, eager[1].lengths)


def change_buffer(**change):
    return lambda good: {"buffer": InputBuffer(**(vars(good["buffer"]) | change))}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda _: {"state": torch.zeros(6, 30, 3)}, r"state: .* must be \(R, H, P, N\)"),
        (lambda good: {"x": good["x"][..., :4]}, r"x: shape \(4, 6, 4\) was given, but it must be \(M, H, P\)"),
        (lambda good: {"A": torch.rand(6, 5, 3)}, "A: one entry per channel .* use selective_state_update"),
        (lambda good: {"dt": torch.rand(4, 6, 5)}, "dt: one entry per channel"),
        (lambda good: {"buffer": good["state"]}, "buffer: a Tensor was given, but it must be an InputBuffer"),
        (change_buffer(x=torch.zeros(6, 4, 5, 6)), r"buffer.x: shape \(6, 4, 5, 6\) .* as x = \(6, 4, 6, 5\)"),
        (change_buffer(dt=torch.zeros(6, 4, 6).half()), "buffer.dt: torch.float16 .* round"),
        (change_buffer(lengths=torch.zeros(5, dtype=torch.int64)), r"buffer.lengths: shape \(5,\)"),
        (change_buffer(lengths=torch.zeros(6, dtype=torch.int32)), "buffer.lengths: .* torch.int32 on cpu"),
        (change_buffer(lengths=torch.zeros(12, dtype=torch.int64)[::2]), "buffer.lengths: .* contiguous"),
        (change_buffer(lengths=torch.full((6,), 5)), "buffer.lengths: 5 to 5 was given, but it must be 0 to 4"),
        (lambda _: {"state_batch_indices": torch.tensor([0, 1, 2, 6])}, "state_batch_indices: 6 was given"),
        (lambda good: {"A": good["A"].clone().requires_grad_()}, "buffered_state_update modifies its state"),
    ],
)
def test_invalid_input_raises_a_clear_error(change, message):
    state, buffer, given = drawn(SMALL, 4)
    good = on("cpu", given, torch.float32) | {"state": state.float(), "buffer": moved(buffer, "cpu", torch.float32)}
    with pytest.raises(ValueError, match=message):
        buffered_state_update(**(good | change(good)))


@pytest.mark.parametrize("length", [0, 33])
def test_the_length_of_a_buffer_is_limited(length):
    with pytest.raises(ValueError, match=f"length: {length} was given, but it must be 1 to 32"):
        InputBuffer.empty(torch.zeros(2, 1, 4, 3), length)


def test_more_inputs_than_the_buffer_can_store():
    state, buffer, given = drawn(SMALL, 1, 5)
    with pytest.raises(
        ValueError, match="buffer: it can store 4 inputs per slot, but it must be at least the 5 inputs"
    ):
        buffered(state, buffer, **given)
