from functools import partial
from itertools import cycle, product

import pytest
import torch
from device_sync import no_device_sync
from kernel_paths import on_all_paths
from sequences import apart, distance
from steps import HALF, expanded, laid_out, mamba2_inputs, step_inputs, with_own_entries

from supa_mamba import ReplayCache, selective_state_replay
from supa_mamba.ops.selective_state_update.naive import naive_selective_state_replay, naive_selective_state_update

FORMS = {
    "mamba1 70x3": lambda count: step_inputs(count, 70, 3, 6),
    "mamba1 5x16": lambda count: step_inputs(count, 5, 16, 6),
    "mamba1 6x3, 2 groups": lambda count: step_inputs(count, 6, 3, 6, 2),
    "mamba1 20x128": lambda count: step_inputs(count, 20, 128, 6),
    "mamba2 6 heads of 5, 3 groups, 3 states": lambda count: mamba2_inputs(count, 6, 5, 3, 3, 6),
    "mamba2 2 heads of 33, 1 group, 64 states": lambda count: mamba2_inputs(count, 2, 33, 1, 64, 6),
}
MAMBA1, MAMBA2 = "mamba1 5x16", "mamba2 6 heads of 5, 3 groups, 3 states"
WIDE = "mamba2 2 heads of 33, 1 group, 64 states"

replay = partial(selective_state_replay, dt_softplus=True)
naive_replay = partial(naive_selective_state_replay, dt_softplus=True)
naive_update = partial(naive_selective_state_update, dt_softplus=True)


def replay_inputs(form, count, inputs):
    state, given = FORMS[form](count * inputs)
    return state, given | {name: given[name].unflatten(0, (count, inputs)) for name in HALF}


def unknown(state, given, dtype=torch.float64, device="cpu"):
    """Return a cache whose values must not be used."""
    groups = given["B"].shape[2] if given["B"].ndim == 4 else 1
    cache = ReplayCache.empty(state.to(device), given["x"].shape[1], groups=groups, dtype=dtype)
    assert all(x.isnan().all() for x in (cache.x, cache.dt, cache.B))  # the tests fill empty memory with NaN
    return cache


def moved(cache, device, dtype=torch.float64):
    return ReplayCache(*(x.to(device, dtype, copy=True) for x in (cache.x, cache.dt, cache.B)))


def drawn(given, state, seed):
    """Return a cache with inputs."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(len(state), *given[name].shape[1:]) for name in ("x", "dt", "B")]
    return ReplayCache(*(torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes))


@pytest.mark.parametrize(
    ("names", "wide_cache"), [(("dt",), True), (("A", "D", "dt_bias"), False), ((), True), ((), False)]
)
def test_each_channel_may_have_its_own_entries(path, device, names, wide_cache):
    """Expanded entries are cached per head or per channel, depending on the shape of the cache."""
    state, given = replay_inputs(MAMBA2, 3, 2)
    along = {name: given[name].flatten(0, 1) for name in HALF}
    if names:
        own = with_own_entries(given | along, names)
        given |= {name: x.unflatten(0, (3, 2)) if name in HALF else x for name, x in own.items()}
        asked = given
    else:
        # Moving an expanded tensor to another device would materialise it.
        asked = expanded({name: x.to(device) for name, x in (given | along).items()})
        asked |= {name: asked[name].unflatten(0, (3, 2)) for name in HALF if name != "dt"}
        asked |= {"dt": given["dt"].to(device)[..., None].expand(3, 2, 6, 5)}
    if wide_cache:
        given |= {"dt": asked["dt"].cpu().contiguous()}
    cache, accepted, rows = drawn(given, state, 3), torch.tensor([2, 0, 1]), torch.tensor([3, -1, 0])
    y, after, kept = naive_replay(state, cache, **given, accepted=accepted, state_batch_indices=rows)
    mine, mine_cache = state.to(device, copy=True), moved(cache, device)
    asked = {name: x.to(device) for name, x in asked.items()}
    places = {"accepted": accepted.to(device), "state_batch_indices": rows.to(device)}
    assert distance(replay(mine, mine_cache, **asked, **places), y) < 1e-13
    assert distance(mine, after) < 1e-13
    assert torch.equal(mine_cache.dt.cpu(), kept.dt)


def test_a_single_group_needs_no_dimension(path, device):
    state, given = mamba2_inputs(2, 2, 4, 1, 3, 6)
    given |= {name: given[name][:, None] for name in HALF}
    cache, accepted = drawn(given, state, 3), torch.tensor([1, 0], device=device)
    given, others = ({name: x.to(device) for name, x in given.items()} for _ in range(2))
    others |= {name: given[name][:, :, 0] for name in ("B", "C")}
    one, another = ((state.to(device, copy=True), moved(cache, device)) for _ in range(2))
    assert torch.equal(replay(*one, **given, accepted=accepted), replay(*another, **others, accepted=accepted))
    assert torch.equal(one[1].B, another[1].B)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_states_in_half_precision_are_rounded_once(path, device, dtype):
    """They are rounded after the last accepted input, and new inputs are scored from the unrounded states."""
    state, given = replay_inputs(MAMBA1, 3, 3)
    state, cache, accepted = state.to(dtype), drawn(given, state, 3), torch.tensor([3, 0, 2])
    y, after, _ = naive_replay(state, cache, **given, accepted=accepted)
    mine, mine_cache = state.to(device, copy=True), moved(cache, device, torch.float32)
    given = {name: x.to(device, torch.float32) for name, x in given.items()}
    found = replay(mine, mine_cache, **given, accepted=accepted.to(device))
    assert distance(found, y) < 1e-5
    torch.testing.assert_close(mine.cpu(), after, rtol=torch.finfo(dtype).eps, atol=1e-6)
    assert torch.equal(mine[1].cpu(), state[1])
    if path != "interpreter" or dtype == torch.float16:  # the interpreter truncates to bfloat16
        assert (mine.cpu() == after).double().mean() > 0.99


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8])
def test_states_may_have_any_layout_and_slots_any_integer_dtype(path, device, dtype):
    state, given = replay_inputs(MAMBA2, 3, 2)
    cache, accepted, rows = drawn(given, state, 3), torch.tensor([2, 0, 1]), torch.tensor([3, 5, 0])
    y, after, _ = naive_replay(state, cache, **given, accepted=accepted, state_batch_indices=rows)
    mine, places = laid_out(state.to(device), (3, 0, 2, 1)), {"accepted": accepted, "state_batch_indices": rows}
    places = {name: x.to(device, dtype) for name, x in places.items()}
    given = {name: x.to(device) for name, x in given.items()}
    assert distance(replay(mine, moved(cache, device), **given, **places), y) < 1e-13
    assert distance(mine, after) < 1e-13


OPTIONAL = ("D", "z", "dt_bias")


@on_all_paths(
    ["form", "inputs", "missing"], [*((form, 3, ()) for form in FORMS), (MAMBA1, 1, OPTIONAL), (MAMBA2, 2, OPTIONAL)],
    [("mamba1 70x3", 3, ()), (MAMBA1, 1, OPTIONAL), (MAMBA2, 2, OPTIONAL), (WIDE, 3, ())],
)  # fmt: skip
def test_replay_equals_steps_of_the_accepted_inputs(path, device, form, inputs, missing):
    """Rejected inputs have no effect, over several calls and with sequences that finish."""
    generator = torch.Generator().manual_seed(5)
    state, given = replay_inputs(form, 4, inputs)
    fixed = {name: None if name in missing else given[name] for name in ("A", "D", "dt_bias")}
    mine, plain = state.to(device, copy=True), state
    cached = unknown(state, given)
    cache, accepted, rows = moved(cached, device), torch.zeros(6, dtype=torch.int64), torch.tensor([4, 0, 5, 2])
    for turn in range(4):
        new = {name: given[name][torch.randperm(4, generator=generator)] * (-1) ** turn for name in HALF}
        new["z"] = None if "z" in missing else new["z"]
        on_device = {name: None if x is None else x.to(device) for name, x in (fixed | new).items()}
        found = replay(
            mine, cache, **on_device, accepted=accepted[rows].to(device), state_batch_indices=rows.to(device)
        )
        for m, row in enumerate(rows.tolist()):
            if row < 0:
                assert not found[m].any()
                continue
            place = rows[m : m + 1]
            for i in range(int(accepted[row])):
                old = {"x": cached.x[row, i], "dt": cached.dt[row, i], "B": cached.B[row, i]}
                old = {name: x[None] for name, x in old.items()} | {"C": new["C"][m, :1], "z": None}
                _, plain = naive_update(plain, **old, **fixed, state_batch_indices=place)
            scored = plain
            for i in range(inputs):
                one = {name: None if x is None else x[m, i : i + 1] for name, x in new.items()}
                y, scored = naive_update(scored, **one, **fixed, state_batch_indices=place)
                assert distance(found[m, i], y[0]) < 1e-12
            cached.x[row], cached.dt[row], cached.B[row] = (new[name][m] for name in ("x", "dt", "B"))
        assert distance(mine, plain) < 1e-12
        for a, b in ((cache.x, cached.x), (cache.dt, cached.dt), (cache.B, cached.B)):
            assert torch.equal(a.cpu().nan_to_num(), b.nan_to_num())
        accepted = torch.randint(inputs + 1, (6,), generator=generator)
        if turn in (1, 2):
            rows[turn] = -1


@on_all_paths(
    ["form", "dtype"], [*product(FORMS, (torch.float32, torch.bfloat16))],
    [*zip(FORMS, cycle((torch.float32, torch.bfloat16)), strict=False)],
)  # fmt: skip
def test_replay_in_lower_precision(path, device, form, dtype):
    state, given = replay_inputs(form, 3, 3)
    given |= {name: given[name].to(dtype).double() for name in HALF}
    cache, rows, accepted = drawn(given, state, 3), torch.tensor([0, -1, 3]), torch.tensor([3, 9, 1])
    cache = moved(moved(cache, "cpu", dtype), "cpu")
    y, after, cached = naive_replay(state, cache, **given, accepted=accepted, state_batch_indices=rows)
    mine, mine_cache = state.to(device, torch.float32), moved(cache, device, dtype)
    given = {name: x.to(device, dtype if name in HALF else torch.float32) for name, x in given.items()}
    found = replay(mine, mine_cache, **given, accepted=accepted.to(device), state_batch_indices=rows.to(device))
    assert found.dtype == dtype
    assert distance(found, y) < (1e-5 if dtype == torch.float32 else 1e-2)
    assert distance(mine, after) < 1e-5
    for a, b in ((mine_cache.x, cached.x), (mine_cache.dt, cached.dt), (mine_cache.B, cached.B)):
        assert torch.equal(a.cpu().double(), b)


def test_arguments_without_rows_may_be_non_contiguous(path, device):
    state, given = replay_inputs(MAMBA1, 3, 2)
    cache, accepted, rows = drawn(given, state, 3), torch.tensor([0, 1, 2]), torch.tensor([4, 0, 5])
    y, after, _ = naive_replay(state, cache, **given, accepted=accepted, state_batch_indices=rows)
    views = {name: apart(given[name]) for name in ("A", "D", "dt_bias")} | {"accepted": apart(accepted)}
    views = {name: x.to(device) for name, x in (given | views | {"state_batch_indices": apart(rows)}).items()}
    mine = state.to(device, copy=True)
    assert distance(replay(mine, moved(cache, device), **views), y) < 1e-13
    assert distance(mine, after) < 1e-13


def test_replay_without_softplus_and_slots(path, device):
    state, given = replay_inputs(MAMBA1, 6, 2)
    cache, accepted = drawn(given, state, 3), torch.tensor([0, 1, 2, 0, 1, 2])
    given["A"], cache = given["A"] / 100, ReplayCache(cache.x, cache.dt / 10, cache.B)
    y, after, _ = naive_selective_state_replay(state, cache, **given, accepted=accepted)
    mine, mine_cache, given = (
        state.to(device, copy=True),
        moved(cache, device),
        {n: x.to(device) for n, x in given.items()},
    )
    found = selective_state_replay(mine, mine_cache, **given, accepted=accepted.to(device))
    assert distance(found, y) < 1e-13
    assert distance(mine, after) < 1e-13


@pytest.mark.parametrize("form", [MAMBA1, MAMBA2])
def test_autocast_does_not_change_the_results(path, device, form):
    state, given = replay_inputs(form, 3, 2)
    cache, accepted = drawn(given, state, 3), torch.tensor([2, 0, 1], device=device)
    given = {name: x.to(device, torch.float32) for name, x in given.items()}
    plain, cast = ((state.to(device, torch.float32), moved(cache, device, torch.float32)) for _ in range(2))
    y = replay(*plain, **given, accepted=accepted)
    with torch.autocast(device, torch.bfloat16):
        assert torch.equal(replay(*cast, **given, accepted=accepted), y)
    assert torch.equal(plain[0], cast[0])


def test_a_wider_cache_takes_half_precision(path, device):
    state, given = replay_inputs(MAMBA1, 2, 2)
    given = {name: x.to(device, torch.bfloat16 if name in HALF else torch.float32) for name, x in given.items()}
    state, none = state.to(device, torch.float32), torch.zeros(2, dtype=torch.int64, device=device)
    cache = ReplayCache.empty(state, 2)
    replay(state, cache, **given, accepted=none)
    assert torch.equal(cache.B[:2], given["B"].float())


@pytest.mark.parametrize("path", [pytest.param("cuda", marks=pytest.mark.gpu)], indirect=True)
def test_no_synchronisation_with_the_device(path, device):
    state, given = replay_inputs(MAMBA2, 3, 2)
    given = {name: x.to(device) for name, x in given.items()}
    state, cache, accepted = (
        state.to(device),
        moved(drawn(given, state, 3), device),
        torch.tensor([2, 0, 1], device=device),
    )
    replay(state, cache, **given, accepted=accepted)
    with no_device_sync():
        replay(state, cache, **given, accepted=accepted)


def test_no_sequences(path, device):
    state, given = replay_inputs(MAMBA1, 0, 3)
    given, cache = {name: x.to(device) for name, x in given.items()}, moved(unknown(state, given), device)
    none = torch.zeros(0, dtype=torch.int64, device=device)
    assert replay(state.to(device), cache, **given, accepted=none).shape == (0, 3, 5)


@pytest.mark.parametrize("form", [MAMBA1, MAMBA2])
def test_compiled_programs_update_state_and_cache(path, device, form):
    if path == "interpreter":
        pytest.skip("the interpreter needs real memory, so it cannot run inside compiled programs")
    state, given = replay_inputs(form, 3, 2)
    cache, accepted, rows = drawn(given, state, 3), torch.tensor([2, 0, 1]), torch.tensor([3, -1, 0])
    given = {name: x.to(device) for name, x in given.items()}
    given |= {"accepted": accepted.to(device), "state_batch_indices": rows.to(device)}
    eager, compiled = ((state.to(device, copy=True), moved(cache, device)) for _ in range(2))
    y = torch.compile(replay, backend="aot_eager", fullgraph=True)(*compiled, **given)
    assert torch.equal(y, replay(*eager, **given))
    assert torch.equal(compiled[0], eager[0])
    for a, b in zip(*((c.x, c.dt, c.B) for c in (compiled[1], eager[1])), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(eager[1].B.cpu(), cache.B)


def change_cache(**change):
    return lambda good: {"cache": ReplayCache(**(vars(good["cache"]) | change))}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda good: {"x": good["x"][:, 0]}, r"x: shape \(2, 5\) was given, but it must be \(M, K, D\)"),
        (lambda good: {"C": good["C"][:, :2]}, r"C: shape \(2, 2, 16\) was given, but it must be \(M, K, N\)"),
        (change_cache(x=torch.zeros(6, 4, 5)), r"cache.x: shape \(6, 4, 5\) on cpu.*as x = \(6, 3, 5\), contiguous"),
        (change_cache(B=torch.zeros(6, 16, 3).transpose(1, 2)), "cache.B: .*contiguous"),
        (change_cache(dt=torch.zeros(6, 3, 5).half()), "cache.dt: torch.float16 was given, which would round"),
        (lambda _: {"accepted": torch.zeros(3, dtype=torch.int64)}, r"accepted: shape \(3,\)"),
        (lambda _: {"accepted": torch.tensor([True, False])}, "accepted: .*torch.bool on cpu .*integers"),
        (lambda _: {"accepted": torch.tensor([0, 4])}, "accepted: 0 to 4 was given, but it must be 0 to 3"),
        (lambda _: {"accepted": torch.tensor([0, -1])}, "accepted: -1 to 0 was given"),
        (
            lambda _: {"state_batch_indices": torch.tensor([0, 6])},
            "state_batch_indices: 6 was given, but the table has slots 0 to 5",
        ),
        (lambda good: {"A": good["A"].requires_grad_()}, "selective_state_replay modifies its state"),
    ],
)
def test_invalid_input_raises_a_clear_error(change, message):
    state, given = replay_inputs(MAMBA1, 2, 3)
    good = {name: x.float() for name, x in given.items()} | {"state": state.float()}
    good |= {"cache": moved(drawn(given, state, 3), "cpu", torch.float32), "accepted": torch.tensor([0, 3])}
    with pytest.raises(ValueError, match=message):
        selective_state_replay(**(good | change(good)))
