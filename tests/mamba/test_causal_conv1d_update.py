from itertools import cycle, product

import pytest
import torch
from device_sync import no_device_sync
from kernel_paths import on_all_paths
from sequences import apart, distance
from steps import laid_out

from supa_mamba import causal_conv1d, causal_conv1d_replay, causal_conv1d_update
from supa_mamba.ops.causal_conv1d_update.naive import naive_causal_conv1d_replay, naive_causal_conv1d_update
from supa_mamba.ops.causal_conv1d_update.operator import conv_step
from supa_mamba.ops.checks import INTEGER_DTYPES


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def parameters(channels, width):
    return {"weight": normal(channels, width, seed=1), "bias": normal(channels, seed=2)}


def moved(tensors, device, dtype=torch.float64):
    return {name: x.to(device, dtype, copy=True) for name, x in tensors.items()}


LONGER = [(70, 4, 3, 1), (5, 4, 4, 1), (5, 4, 3, 5), (5, 3, 9, 4), (3, 2, 11, 1), (3, 1, 1, 2), (3, 4, 17, 20)]


@on_all_paths(
    ["sizes", "circular"], [*product(LONGER, (False, True))],
    [*zip(LONGER, cycle((False, True)), strict=False)],
)  # fmt: skip
def test_several_steps_in_longer_states(path, device, sizes, circular):
    channels, width, columns, inputs = sizes
    """States may have more than W - 1 columns, and calls more inputs than columns. A negative slot is skipped."""
    x, state, given = normal(4, channels, inputs), normal(6, channels, columns, seed=3), parameters(channels, width)
    rows, before = torch.tensor([5, -1, 0, 3]), torch.tensor([0, -9, 5, 1000]) if circular else None
    given |= {"activation": "silu"}
    y, after = naive_causal_conv1d_update(x, state, **given, cache_seqlens=before, conv_state_indices=rows)
    mine = state.to(device, copy=True)
    given = {name: v.to(device) if isinstance(v, torch.Tensor) else v for name, v in given.items()}
    before = before.to(device) if circular else None
    found = causal_conv1d_update(x.to(device), mine, **given, cache_seqlens=before, conv_state_indices=rows.to(device))
    assert distance(found, y) < 1e-14
    assert torch.equal(mine.cpu(), after)
    assert not found[1].any()


@pytest.mark.parametrize("columns", [3, 4, 7])
@pytest.mark.parametrize("inputs", [1, 3])
def test_a_circular_buffer_reproduces_the_convolution(path, device, columns, inputs):
    """Compare the steps, and the naive steps, with the convolution of complete sequences."""
    x, weight = normal(2, 12, 5).to(device), normal(5, 4, seed=1).to(device)
    y = causal_conv1d(x, weight, activation="silu").transpose(1, 2)
    mine, plain, before = x.new_zeros(2, 5, columns), torch.zeros(2, 5, columns).double(), torch.zeros(2).int()
    for t in range(0, 12, inputs):
        given = x[:, t : t + inputs].transpose(1, 2)
        found = causal_conv1d_update(given, mine, weight, None, "silu", before.to(device))
        naive, plain = naive_causal_conv1d_update(given.cpu(), plain, weight.cpu(), None, "silu", before)
        before += inputs
        assert distance(found, y[:, :, t : t + inputs]) < 1e-14
        assert distance(naive, y[:, :, t : t + inputs]) < 1e-14
    assert torch.equal(mine[:, :, 11 % columns], x[:, 11])


@pytest.mark.parametrize("circular", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_states_store_half_precision_inputs_exactly(path, device, dtype, circular):
    x, state, given = normal(4, 5, 2).to(dtype), normal(6, 5, 4, seed=3).to(dtype), parameters(5, 4)
    rows, before = torch.tensor([5, -1, 0, 3]), torch.tensor([0, 2, 5, 1000])
    options = {"cache_seqlens": before if circular else None, "conv_state_indices": rows}
    y, after = naive_causal_conv1d_update(x, state, **given, **options)
    mine = state.to(device, copy=True)
    options = {name: None if v is None else v.to(device) for name, v in options.items()}
    found = causal_conv1d_update(x.to(device), mine, **moved(given, device, torch.float32), **options)
    assert found.dtype == dtype
    assert distance(found, y) < 1e-2
    assert torch.equal(mine.cpu(), after)


def test_inputs_are_rounded_when_they_are_stored(path, device):
    x, state = (
        torch.full((1, 1), 1 + 2.0**-10, device=device),
        torch.zeros(1, 1, 1, dtype=torch.bfloat16, device=device),
    )
    weight = torch.tensor([[0.0, 1024.0]], device=device)
    assert causal_conv1d_update(x, state, weight).item() == 1025
    assert state.item() == 1


@pytest.mark.parametrize("order", [(0, 2, 1), (2, 1, 0)])
@pytest.mark.parametrize("kind", ["shifted", "circular", "replayed"])
def test_states_and_inputs_may_have_any_memory_layout(path, device, order, kind):
    x, state, given = normal(3, 5, 2).to(device), normal(6, 5, 4, seed=3).to(device), moved(parameters(5, 4), device)
    rows, counts = torch.tensor([4, 0, 5], device=device), torch.tensor([0, 1, 2], device=device)

    def run(x, state):
        if kind == "replayed":
            cache = normal(6, 2, 5, seed=9).to(device)
            return causal_conv1d_replay(
                x.transpose(1, 2), state, cache, **given, accepted=counts, conv_state_indices=rows
            )
        begins = counts if kind == "circular" else None
        return causal_conv1d_update(x, state, **given, cache_seqlens=begins, conv_state_indices=rows)

    mine, theirs = state.clone(), laid_out(state, order)
    around = theirs._base.clone()
    assert torch.equal(run(x, mine), run(laid_out(x, order), theirs))
    assert torch.equal(mine, theirs)
    assert int((theirs._base != around).sum()) == int((mine != state).sum())


@pytest.mark.parametrize("dtype", INTEGER_DTYPES, ids=str)
def test_slots_and_counts_may_have_any_integer_dtype(path, device, dtype):
    x, state, given = normal(3, 5), normal(6, 5, 4, seed=3), parameters(5, 4)
    rows, before = torch.tensor([4, 0, 5]), torch.tensor([3, 100, 2])
    y, after = naive_causal_conv1d_update(x, state, **given, cache_seqlens=before, conv_state_indices=rows)
    mine = state.to(device, copy=True)
    found = causal_conv1d_update(
        x.to(device), mine, **moved(given, device), cache_seqlens=before.to(device, dtype),
        conv_state_indices=rows.to(device, dtype),
    )  # fmt: skip
    assert distance(found, y) < 1e-14
    assert torch.equal(mine.cpu(), after)


@pytest.mark.parametrize("columns", [3, 4, 12])
def test_replay_with_longer_states(path, device, columns):
    state, cache, x, given = normal(6, 5, columns), normal(6, 3, 5, seed=4), normal(4, 3, 5, seed=5), parameters(5, 4)
    accepted, rows = torch.tensor([0, 1, 3, 2]), torch.tensor([4, 0, 5, -1])
    y, after, kept = naive_causal_conv1d_replay(x, state, cache, **given, accepted=accepted, conv_state_indices=rows)
    mine, mine_cache = state.to(device, copy=True), cache.to(device, copy=True)
    found = causal_conv1d_replay(
        x.to(device), mine, mine_cache, **moved(given, device), accepted=accepted.to(device, torch.int32),
        conv_state_indices=rows.to(device, torch.int32),
    )  # fmt: skip
    assert distance(found, y) < 1e-13
    assert torch.equal(mine.cpu(), after)
    assert torch.equal(mine_cache.cpu(), kept)


@pytest.mark.parametrize("inputs", [0, 2])
def test_states_are_unchanged_without_steps_or_sequences(path, device, inputs):
    given, state = moved(parameters(3, 4), device), normal(2, 3, 5).to(device)
    for before in (None, torch.zeros(2 if not inputs else 0, dtype=torch.int64, device=device)):
        mine, x = state.clone(), state.new_zeros(0 if inputs else 2, 3, inputs)
        assert causal_conv1d_update(x, mine, **given, cache_seqlens=before).shape == x.shape
        assert torch.equal(mine, state)


def test_inference_mode_does_not_change_the_results(path, device):
    x, state, given = normal(2, 5, 2).to(device), normal(2, 5, 4).to(device), moved(parameters(5, 4), device)
    plain, mine = state.clone(), state.clone()
    y = causal_conv1d_update(x, plain, **given)
    with torch.inference_mode():
        assert torch.equal(causal_conv1d_update(x, mine, **given), y)
    assert torch.equal(mine, plain)


@pytest.mark.parametrize("path", [pytest.param("cuda", marks=pytest.mark.gpu)], indirect=True)
def test_no_synchronisation_with_the_device(path, device):
    x, state, given = normal(2, 5).to(device), normal(4, 5, 4).to(device), moved(parameters(5, 4), device)
    rows, before = (torch.tensor(v, dtype=torch.int32, device=device) for v in ([3, -1], [7, 0]))
    causal_conv1d_update(x, state, **given, cache_seqlens=before, conv_state_indices=rows)
    with no_device_sync():
        causal_conv1d_update(x, state, **given, cache_seqlens=before, conv_state_indices=rows)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-14), (torch.float32, 1e-5), (torch.bfloat16, 1e-2)])
@pytest.mark.parametrize(
    ("channels", "width", "activation"), [(5, 1, None), (70, 4, "silu"), (3, 2, None), (64, 7, "silu")]
)
def test_one_step_of_selected_slots(path, device, channels, width, activation, dtype, bound):
    state, x, given = normal(6, channels, width - 1), normal(4, channels).to(dtype), parameters(channels, width)
    rows = torch.tensor([5, -1, 0, 3])
    y, after = naive_causal_conv1d_update(x, state, **given, activation=activation, conv_state_indices=rows)
    of_state = torch.float64 if dtype == torch.float64 else torch.float32
    mine = state.to(device, of_state, copy=True)
    found = causal_conv1d_update(
        x.to(device), mine, **moved(given, device, of_state), activation=activation, conv_state_indices=rows.to(device)
    )
    assert found.dtype == dtype
    assert distance(found, y) < bound
    assert distance(mine, after) < min(bound, 1e-6)
    assert not found[1].any()
    untouched = [1, 2, 4]
    assert torch.equal(mine[untouched].cpu(), state[untouched].to(of_state))


@pytest.mark.parametrize("width", [1, 4])
def test_repeated_steps_equal_the_convolution(path, device, width):
    x, state = normal(2, 7, 5).to(device), normal(2, 5, width - 1, seed=3).to(device)
    given = {"weight": normal(5, width, seed=1).to(device), "activation": "silu"}
    y, final = causal_conv1d(x, **given, initial_states=state, return_final_states=True)
    for t in range(7):
        torch.testing.assert_close(causal_conv1d_update(x[:, t], state, **given), y[:, t])
    assert torch.equal(state, final)


def test_non_contiguous_inputs(path, device):
    wide, given, state = normal(3, 12), parameters(4, 3), normal(3, 4, 2)
    y, _ = naive_causal_conv1d_update(wide[:, 2:6], state, **given)
    for x in (wide.to(device)[:, 2:6], wide[:, 2:6].t().contiguous().to(device).t()):
        assert distance(causal_conv1d_update(x, state.to(device, copy=True), **moved(given, device)), y) < 1e-14


@pytest.mark.parametrize(("channels", "width", "inputs"), [(5, 4, 3), (70, 3, 2), (3, 1, 2), (4, 7, 1)])
def test_replay_equals_steps_of_the_accepted_inputs(path, device, channels, width, inputs):
    """Rejected inputs have no effect, over many calls and with sequences that finish."""
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
            x.to(device),
            mine,
            cache,
            **on_device,
            accepted=accepted[rows].to(device),
            conv_state_indices=rows.to(device),
        )
        for m, row in enumerate(rows.tolist()):
            if row < 0:
                assert not found[m].any()
                continue
            place = rows[m : m + 1]
            for i in range(int(accepted[row])):
                _, plain = naive_causal_conv1d_update(cached[row, i][None], plain, **given, conv_state_indices=place)
            scored = plain
            for i in range(inputs):
                y, scored = naive_causal_conv1d_update(x[m, i][None], scored, **given, conv_state_indices=place)
                assert distance(found[m, i], y[0]) < 1e-12
            cached[row] = x[m]
        assert distance(mine, plain) < 1e-12
        assert torch.equal(cache.cpu()[rows[rows >= 0]], cached[rows[rows >= 0]])
        accepted = torch.randint(inputs + 1, (6,), generator=generator)
        if turn in (2, 4):
            rows[turn // 2] = -1


def test_arguments_without_rows_may_be_non_contiguous(path, device):
    state, cache, x, given = normal(6, 5, 3), normal(6, 2, 5, seed=4), normal(3, 2, 5, seed=5), parameters(5, 4)
    accepted, rows = torch.tensor([0, 1, 2]), torch.tensor([4, 0, 5])
    y, after, _ = naive_causal_conv1d_replay(x, state, cache, **given, accepted=accepted, conv_state_indices=rows)
    views = {
        name: apart(v.to(device)) for name, v in (given | {"accepted": accepted, "conv_state_indices": rows}).items()
    }
    mine = state.to(device, copy=True)
    assert distance(causal_conv1d_replay(x.to(device), mine, cache.to(device, copy=True), **views), y) < 1e-13
    assert distance(mine, after) < 1e-13


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_replay_in_lower_precision(path, device, dtype):
    state, cache, x = normal(5, 6, 3), normal(5, 4, 6, seed=1).to(dtype), normal(3, 4, 6, seed=2).to(dtype)
    given, accepted, rows = parameters(6, 4), torch.tensor([4, 9, 1]), torch.tensor([0, -1, 3])
    y, after, cached = naive_causal_conv1d_replay(x, state, cache, **given, accepted=accepted, conv_state_indices=rows)
    mine, mine_cache = state.to(device, torch.float32), cache.to(device, copy=True)
    found = causal_conv1d_replay(
        x.to(device), mine, mine_cache, **moved(given, device, torch.float32), accepted=accepted.to(device),
        conv_state_indices=rows.to(device),
    )  # fmt: skip
    assert found.dtype == dtype
    assert distance(found, y) < (1e-5 if dtype == torch.float32 else 1e-2)
    assert distance(mine, after) < 1e-6
    assert torch.equal(mine_cache.cpu(), cached)


def test_autocast_does_not_change_the_results(path, device):
    given = moved(parameters(5, 4), device, torch.float32)
    state, cache, x = (v.to(device, torch.float32) for v in (normal(3, 5, 3), normal(3, 2, 5), normal(3, 2, 5)))
    accepted = torch.tensor([2, 0, 1], device=device)

    def run():
        states = state.clone(), state.clone(), cache.clone()
        y = causal_conv1d_update(x[:, 0], states[0], **given)
        return *states, y, causal_conv1d_replay(x, *states[1:], **given, accepted=accepted)

    plain = run()
    with torch.autocast(device, torch.bfloat16):
        assert all(torch.equal(a, b) for a, b in zip(plain, run(), strict=True))


def test_no_sequences(path, device):
    given, state = moved(parameters(3, 4), device), normal(2, 3, 3).to(device)
    assert causal_conv1d_update(state.new_zeros(0, 3), state, **given).shape == (0, 3)
    cache, none = state.new_zeros(2, 5, 3), torch.zeros(0, dtype=torch.int64, device=device)
    assert causal_conv1d_replay(state.new_zeros(0, 5, 3), state, cache, **given, accepted=none).shape == (0, 5, 3)


@pytest.mark.parametrize("operation", ["update", "steps", "circular", "replay"])
def test_compiled_programs_update_the_state(path, device, operation):
    if path == "interpreter":
        pytest.skip("the interpreter needs real memory, so it cannot run inside compiled programs")
    given = moved(parameters(3, 4), device) | {"conv_state_indices": torch.tensor([3, -1], device=device)}
    state, cache, x = (v.to(device) for v in (normal(4, 3, 3), normal(4, 2, 3), normal(2, 2, 3)))
    accepted = torch.tensor([1, 2], device=device)

    def run(state, cache):
        if operation == "update":
            return causal_conv1d_update(x[:, 0], state, **given)
        if operation != "replay":
            begins = torch.tensor([1, 7], device=device, dtype=torch.int32) if operation == "circular" else None
            return causal_conv1d_update(x.transpose(1, 2), state, **given, cache_seqlens=begins)
        return causal_conv1d_replay(x, state, cache, **given, accepted=accepted)

    eager, compiled = (state.clone(), cache.clone()), (state.clone(), cache.clone())
    y = torch.compile(run, backend="aot_eager", fullgraph=True)(*compiled)
    assert torch.equal(y, run(*eager))
    assert all(torch.equal(a, b) for a, b in zip(eager, compiled, strict=True))
    assert not torch.equal(state, eager[0])


@pytest.mark.parametrize("path", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)], indirect=True)
@pytest.mark.parametrize("kind", ["shifted", "circular", "cached"])
def test_the_operator_passes_opcheck(path, device, kind):
    state, x, given = normal(4, 3, 3).to(device), normal(2, 2, 3).to(device), moved(parameters(3, 4), device)
    counts = torch.tensor([1, 2], device=device)
    cache, accepted, begins = None, None, counts if kind == "circular" else None
    if kind == "cached":
        cache, accepted = normal(4, 2, 3).to(device), counts
    state = laid_out(state, (2, 0, 1))
    rows = torch.tensor([3, -1], device=device)
    torch.library.opcheck(
        conv_step.operator, (state, cache, x, given["weight"], given["bias"], accepted, begins, rows, True)
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conv_state": torch.zeros(3, 3, 3, dtype=torch.int64)}, "conv_state: torch.int64 .* float16, bfloat16"),
        ({"conv_state": torch.zeros(3, 3, 1).expand(3, 3, 3)}, "conv_state: .* share memory"),
        ({"conv_state": torch.zeros(3, 3)}, r"it must be \(R, D, L\), where L >= W - 1"),
        ({"conv_state": torch.zeros(3, 3, 2)}, r"conv_state: shape \(3, 3, 2\) .* L >= W - 1 = 3"),
        ({"x": torch.zeros(2, 1, 3)}, r"x: shape \(2, 1, 3\) was given, but it must be \(M, D, K\) = \(2, 3, 3\)"),
        ({"x": torch.zeros(2)}, r"x: shape \(2,\) was given, but it must be \(M, D\) or \(M, D, K\)"),
        ({"weight": torch.zeros(2, 3)}, r"weight: shape \(2, 3\) was given, but it must be \(D, W\) = \(3, 3\)"),
        ({"weight": torch.zeros(3, 1, 4)}, r"weight: shape \(3, 1, 4\) was given, but it must be \(D, W\)"),
        ({"bias": torch.zeros(4)}, r"bias: shape \(4,\)"),
        ({"activation": "relu"}, "it must be None, 'silu' or 'swish'"),
        (
            {"conv_state_indices": torch.tensor([0, 3])},
            "conv_state_indices: 3 was given, but the table has slots 0 to 2",
        ),
        ({"conv_state_indices": torch.tensor([0])}, r"conv_state_indices: shape \(1,\)"),
        ({"conv_state_indices": torch.tensor([0.0, 1.0])}, "torch.float32 on cpu was given, but .* integers"),
        (
            {"cache_seqlens": torch.tensor([True, False])},
            "cache_seqlens: .*torch.bool on cpu was given, but .* integers",
        ),
        ({"cache_seqlens": torch.tensor([3])}, r"cache_seqlens: shape \(1,\)"),
        (
            {"cache_seqlens": torch.tensor([3, -1])},
            "cache_seqlens: -1 was given, but it must be at least 0",
        ),
        (
            {"cache_seqlens": torch.tensor([3, 1]), "weight": torch.zeros(3, 1), "conv_state": torch.zeros(3, 3, 0)},
            "cache_seqlens requires L >= 1",
        ),
        ({"conv_state": torch.zeros(1, 3, 3)}, "x: it has 2 sequences.* in conv_state_indices"),
        ({"weight": torch.zeros(3, 4, requires_grad=True)}, "call it under torch.no_grad"),
    ],
)
def test_invalid_input_of_a_step_raises_a_clear_error(change, message):
    good = {
        "conv_state": torch.zeros(3, 3, 3),
        "x": torch.zeros(2, 3),
        "weight": torch.zeros(3, 4),
        "bias": torch.zeros(3),
    }
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
        ({"x": torch.zeros(2, 5, 3, requires_grad=True)}, "causal_conv1d_replay modifies its state"),
    ],
)
def test_invalid_input_of_a_replay_raises_a_clear_error(change, message):
    good = {"conv_state": torch.zeros(3, 3, 3), "cache": torch.zeros(3, 5, 3), "x": torch.zeros(2, 5, 3)}
    good |= {"weight": torch.zeros(3, 4), "accepted": torch.tensor([0, 5])}
    with pytest.raises(ValueError, match=message):
        causal_conv1d_replay(**(good | change))
