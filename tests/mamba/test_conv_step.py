import pytest
import torch
from sequences import apart, distance

from supa_mamba import causal_conv1d, causal_conv1d_replay, causal_conv1d_update
from supa_mamba.conv_step.naive import naive_causal_conv1d_replay, naive_causal_conv1d_update
from supa_mamba.conv_step.operator import causal_conv1d_step_operator


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def parameters(channels, width):
    return {"weight": normal(channels, width, seed=1), "bias": normal(channels, seed=2)}


def moved(tensors, device, dtype=torch.float64):
    return {name: x.to(device, dtype, copy=True) for name, x in tensors.items()}


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-14), (torch.float32, 1e-5), (torch.bfloat16, 1e-2)])
@pytest.mark.parametrize(
    ("channels", "width", "activation"), [(5, 1, None), (70, 4, "silu"), (3, 2, None), (64, 7, "silu")]
)
def test_one_step_of_chosen_rows(path, device, channels, width, activation, dtype, bound):
    state, x, given = normal(6, channels, width - 1), normal(4, channels).to(dtype), parameters(channels, width)
    rows = torch.tensor([5, -1, 0, 3])
    y, after = naive_causal_conv1d_update(state, x.double(), **given, rows=rows, activation=activation)
    of_state = torch.float64 if dtype == torch.float64 else torch.float32
    mine = state.to(device, of_state, copy=True)
    found = causal_conv1d_update(
        mine, x.to(device), **moved(given, device, of_state), rows=rows.to(device), activation=activation
    )
    assert found.dtype == dtype
    assert distance(found, y) < bound
    assert distance(mine, after) < min(bound, 1e-6)
    assert not found[1].any()
    untouched = [1, 2, 4]
    assert torch.equal(mine[untouched].cpu(), state[untouched].to(of_state))


@pytest.mark.parametrize("width", [1, 4])
def test_the_convolution_is_steps_repeated(path, device, width):
    x, state = normal(2, 7, 5).to(device), normal(2, 5, width - 1, seed=3).to(device)
    given = {"weight": normal(5, width, seed=1).to(device), "activation": "silu"}
    y, final = causal_conv1d(x, **given, initial_state=state, return_final_state=True)
    for t in range(7):
        torch.testing.assert_close(causal_conv1d_update(state, x[:, t], **given), y[:, t])
    assert torch.equal(state, final)


def test_what_lies_apart_is_read_where_it_lies(path, device):
    wide, given, state = normal(3, 12), parameters(4, 3), normal(3, 4, 2)
    y, _ = naive_causal_conv1d_update(state, wide[:, 2:6], **given, rows=torch.arange(3))
    for x in (wide.to(device)[:, 2:6], wide[:, 2:6].t().contiguous().to(device).t()):
        assert distance(causal_conv1d_update(state.to(device, copy=True), x, **moved(given, device)), y) < 1e-14


@pytest.mark.parametrize(("channels", "width", "inputs"), [(5, 4, 3), (70, 3, 2), (3, 1, 2), (4, 7, 1)])
def test_replaying_is_steps_of_what_was_accepted(path, device, channels, width, inputs):
    """Over many rounds, and with rows that finish, cached inputs that do not hold leave no trace."""
    generator = torch.Generator().manual_seed(5)
    given = parameters(channels, width) | {"activation": "silu"}
    on_device = {name: x.to(device) if isinstance(x, torch.Tensor) else x for name, x in given.items()}
    mine = normal(6, channels, width - 1).to(device)
    plain, cached = mine.cpu().clone(), torch.full((6, inputs, channels), torch.nan, dtype=torch.float64)
    cache, accepted = cached.to(device, copy=True), torch.zeros(6, dtype=torch.int64)
    rows = torch.tensor([4, 0, 5, 2])
    for turn in range(6):
        x = normal(4, inputs, channels, seed=10 + turn)
        found = causal_conv1d_replay(
            mine, cache, x.to(device), **on_device, accepted=accepted[rows].to(device), rows=rows.to(device)
        )
        for m, row in enumerate(rows.tolist()):
            if row < 0:
                assert not found[m].any()
                continue
            place = rows[m : m + 1]
            for i in range(int(accepted[row])):
                _, plain = naive_causal_conv1d_update(plain, cached[row, i][None], **given, rows=place)
            scored = plain
            for i in range(inputs):
                y, scored = naive_causal_conv1d_update(scored, x[m, i][None], **given, rows=place)
                assert distance(found[m, i], y[0]) < 1e-12
            cached[row] = x[m]
        assert distance(mine, plain) < 1e-12
        assert torch.equal(cache.cpu()[rows[rows >= 0]], cached[rows[rows >= 0]])
        accepted = torch.randint(inputs + 1, (6,), generator=generator)
        if turn in (2, 4):
            rows[turn // 2] = -1


def test_what_has_no_rows_may_lie_apart(path, device):
    state, cache, x, given = normal(6, 5, 3), normal(6, 2, 5, seed=4), normal(3, 2, 5, seed=5), parameters(5, 4)
    accepted, rows = torch.tensor([0, 1, 2]), torch.tensor([4, 0, 5])
    y, after, _ = naive_causal_conv1d_replay(state, cache, x, **given, accepted=accepted, rows=rows)
    views = {name: apart(v.to(device)) for name, v in (given | {"accepted": accepted, "rows": rows}).items()}
    mine = state.to(device, copy=True)
    assert distance(causal_conv1d_replay(mine, cache.to(device, copy=True), x.to(device), **views), y) < 1e-13
    assert distance(mine, after) < 1e-13


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_replaying_in_lower_precision(path, device, dtype):
    state, cache, x = normal(5, 6, 3), normal(5, 4, 6, seed=1).to(dtype), normal(3, 4, 6, seed=2).to(dtype)
    given, accepted, rows = parameters(6, 4), torch.tensor([4, 9, 1]), torch.tensor([0, -1, 3])
    y, after, cached = naive_causal_conv1d_replay(
        state, cache.double(), x.double(), **given, accepted=accepted, rows=rows
    )
    mine, mine_cache = state.to(device, torch.float32), cache.to(device, copy=True)
    found = causal_conv1d_replay(
        mine, mine_cache, x.to(device), **moved(given, device, torch.float32), accepted=accepted.to(device),
        rows=rows.to(device),
    )  # fmt: skip
    assert found.dtype == dtype
    assert distance(found, y) < (1e-5 if dtype == torch.float32 else 1e-2)
    assert distance(mine, after) < 1e-6
    assert torch.equal(mine_cache.cpu().double(), cached)


def test_autocast_changes_nothing(path, device):
    given = moved(parameters(5, 4), device, torch.float32)
    state, cache, x = (v.to(device, torch.float32) for v in (normal(3, 5, 3), normal(3, 2, 5), normal(3, 2, 5)))
    accepted = torch.tensor([2, 0, 1], device=device)

    def run():
        states = state.clone(), state.clone(), cache.clone()
        y = causal_conv1d_update(states[0], x[:, 0], **given)
        return *states, y, causal_conv1d_replay(*states[1:], x, **given, accepted=accepted)

    plain = run()
    with torch.autocast(device, torch.bfloat16):
        assert all(torch.equal(a, b) for a, b in zip(plain, run(), strict=True))


def test_nobody_left(path, device):
    given, state = moved(parameters(3, 4), device), normal(2, 3, 3).to(device)
    assert causal_conv1d_update(state, state.new_zeros(0, 3), **given).shape == (0, 3)
    cache, none = state.new_zeros(2, 5, 3), torch.zeros(0, dtype=torch.int64, device=device)
    assert causal_conv1d_replay(state, cache, state.new_zeros(0, 5, 3), **given, accepted=none).shape == (0, 5, 3)


@pytest.mark.parametrize("operation", ["update", "replay"])
def test_compiled_programs_change_the_state(path, device, operation):
    if path == "interpreter":
        pytest.skip("the interpreter needs memory that is there, so it runs under no compiler")
    given = moved(parameters(3, 4), device) | {"rows": torch.tensor([3, -1], device=device)}
    state, cache, x = (v.to(device) for v in (normal(4, 3, 3), normal(4, 2, 3), normal(2, 2, 3)))
    accepted = torch.tensor([1, 2], device=device)

    def run(state, cache):
        if operation == "update":
            return causal_conv1d_update(state, x[:, 0], **given)
        return causal_conv1d_replay(state, cache, x, **given, accepted=accepted)

    eager, compiled = (state.clone(), cache.clone()), (state.clone(), cache.clone())
    y = torch.compile(run, backend="aot_eager", fullgraph=True)(*compiled)
    assert torch.equal(y, run(*eager))
    assert all(torch.equal(a, b) for a, b in zip(eager, compiled, strict=True))
    assert not torch.equal(state, eager[0])


@pytest.mark.parametrize("path", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)], indirect=True)
@pytest.mark.parametrize("cached", [False, True])
def test_the_operator_is_what_pytorch_expects(path, device, cached):
    state, x, given = normal(4, 3, 3).to(device), normal(2, 2, 3).to(device), moved(parameters(3, 4), device)
    cache, accepted = (normal(4, 2, 3).to(device), torch.tensor([1, 2], device=device)) if cached else (None, None)
    rows = torch.tensor([3, -1], device=device)
    torch.library.opcheck(
        causal_conv1d_step_operator, (state, cache, x, given["weight"], given["bias"], accepted, rows, True)
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"state": torch.zeros(3, 3, 3, dtype=torch.float16)}, "state: torch.float16"),
        ({"state": torch.zeros(3, 3, 3).transpose(1, 2)}, "contiguous"),
        ({"state": torch.zeros(3, 3)}, r"it must be \(R, D, W - 1\)"),
        ({"x": torch.zeros(2, 1, 3)}, r"x: shape \(2, 1, 3\)"),
        ({"weight": torch.zeros(3, 3)}, r"weight: shape \(3, 3\) was given, but it must be \(D, W\) = \(3, 4\)"),
        ({"bias": torch.zeros(4)}, r"bias: shape \(4,\)"),
        ({"activation": "relu"}, "it must be None, 'silu' or 'swish'"),
        ({"rows": torch.tensor([0, 3])}, "rows: 3 was given, but the state has rows 0 to 2"),
        ({"rows": torch.tensor([0])}, r"rows: shape \(1,\)"),
        ({"state": torch.zeros(1, 3, 3)}, "say with rows which are meant"),
        ({"weight": torch.zeros(3, 4, requires_grad=True)}, "call it under torch.no_grad"),
    ],
)
def test_bad_input_of_a_step_gives_one_clear_error(change, message):
    good = {"state": torch.zeros(3, 3, 3), "x": torch.zeros(2, 3), "weight": torch.zeros(3, 4), "bias": torch.zeros(3)}
    with pytest.raises(ValueError, match=message):
        causal_conv1d_update(**(good | change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.zeros(2, 3)}, r"it must be \(M, K, D\)"),
        ({"cache": torch.zeros(3, 4, 3)}, r"cache: shape \(3, 4, 3\) on cpu was given.*\(R, K, D\) = \(3, 5, 3\)"),
        ({"cache": torch.zeros(3, 5, 3).bfloat16()}, "cache: torch.bfloat16 was given, which would round the"),
        ({"accepted": torch.zeros(2)}, r"accepted: shape \(2,\), torch.float32"),
        ({"accepted": torch.tensor([0, 6])}, "accepted: 0 to 6 was given, but it must be 0 to 5"),
        ({"accepted": torch.tensor([-1, 5])}, "accepted: -1 to 5 was given"),
        ({"x": torch.zeros(2, 5, 3, requires_grad=True)}, "causal_conv1d_replay changes its state"),
    ],
)
def test_bad_input_of_a_replay_gives_one_clear_error(change, message):
    good = {"state": torch.zeros(3, 3, 3), "cache": torch.zeros(3, 5, 3), "x": torch.zeros(2, 5, 3)}
    good |= {"weight": torch.zeros(3, 4), "accepted": torch.tensor([0, 5])}
    with pytest.raises(ValueError, match=message):
        causal_conv1d_replay(**(good | change))
