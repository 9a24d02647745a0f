import math
from functools import partial

import pytest
import torch
from device_sync import no_device_sync
from sequences import assert_close, distance, offset_of, ssd_inputs, with_gradients

import supa_mamba
from supa_mamba import selective_scan
from supa_mamba.ops.ssd import block_sizes, cpu, naive

ssd = partial(supa_mamba.ssd, dt_softplus=True)
naive_ssd = partial(naive.naive_ssd, dt_softplus=True)
LEAST = {"x", "dt", "A", "B", "C"}
ALONG = {"x", "dt", "B", "C"}


def expected(inputs, lengths, **options):
    missing = {name: None for name in ("D", "dt_bias", "initial_states") if name not in inputs}
    offset = offset_of(lengths)
    return with_gradients(lambda **x: naive_ssd(offset=offset, **x, **missing, **options), inputs)


def found(inputs, lengths, dtype, device, *, half=(), **options):
    offset = offset_of(lengths, device)
    run = lambda **x: ssd(**x, offset=offset, return_final_states=True, **options)  # noqa: E731
    return with_gradients(run, inputs, dtype, device, half)


def test_the_naive_form_equals_the_selective_scan_with_equal_rates():
    lengths, heads, width, states = [4, 0, 7], 2, 3, 5
    inputs = ssd_inputs(lengths, heads, width, states)
    y, final = naive_ssd(**inputs, offset=offset_of(lengths))
    each = lambda v: v.repeat_interleave(width, -1)  # noqa: E731
    y_scan, final_scan = selective_scan(
        inputs["x"].flatten(1), each(inputs["dt"]), each(inputs["A"])[:, None].repeat(1, states),
        inputs["B"][:, 0], inputs["C"][:, 0], each(inputs["D"]), None, each(inputs["dt_bias"]),
        offset=offset_of(lengths), initial_states=inputs["initial_states"].flatten(1, 2), return_final_states=True,
        delta_softplus=True,
    )  # fmt: skip
    torch.testing.assert_close(y.flatten(1), y_scan)
    torch.testing.assert_close(final.flatten(1, 2), final_scan)


@pytest.mark.parametrize("reverse", [False, True])
def test_mixed_lengths_in_double_precision(path, device, reverse):
    lengths = [3, 0, 1, 33, 2, 65]
    inputs = ssd_inputs(lengths, 4, 5, 3, groups=2)
    assert_close(
        found(inputs, lengths, torch.float64, device, reverse=reverse),
        expected(inputs, lengths, reverse=reverse), 1e-12, 1e-12,
    )  # fmt: skip


@pytest.mark.parametrize("lengths", [[1], [2, 0], [31, 32, 33], [64, 63, 65], [129]])
def test_single_precision(path, device, lengths):
    inputs = ssd_inputs(lengths, 2, 4, 6)
    assert_close(found(inputs, lengths, torch.float32, device), expected(inputs, lengths), 1e-5, 1e-4)


@pytest.mark.parametrize(
    ("heads", "groups", "width", "states"),
    [(1, 1, 1, 1), (6, 3, 17, 16), (11, 1, 3, 40), (2, 1, 64, 128), (1, 1, 100, 20), (2, 2, 33, 256)],
)
def test_any_number_of_heads_and_states(path, device, heads, groups, width, states):
    lengths = [2, 68]
    inputs = ssd_inputs(lengths, heads, width, states, groups=groups)
    assert_close(found(inputs, lengths, torch.float32, device), expected(inputs, lengths), 1e-5, 1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("reverse", [False, True])
def test_long_sequences(path, device, reverse):
    lengths = [500, 1, 96, 0, 160]
    inputs = ssd_inputs(lengths, 2, 5, 4, dt=-4.0)
    assert_close(
        found(inputs, lengths, torch.float32, device, reverse=reverse),
        expected(inputs, lengths, reverse=reverse), 1e-5, 1e-4,
    )  # fmt: skip


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-4), (torch.bfloat16, 1e-2)])
@pytest.mark.parametrize(("heads", "width", "states"), [(2, 64, 64), (2, 64, 128), (3, 32, 16), (2, 256, 32)])
@pytest.mark.parametrize("path", [pytest.param("cuda", marks=pytest.mark.gpu)], indirect=True)
def test_model_sizes_with_many_programs(path, device, heads, width, states, dtype, bound):
    lengths = [40, 1, 64, 0, 70, 200] * 12
    inputs = ssd_inputs(lengths, heads, width, states)
    half = ("x", "dt", "B", "C") if dtype == torch.bfloat16 else ()
    inputs |= {name: inputs[name].to(dtype).double() for name in half}
    assert_close(found(inputs, lengths, dtype, device, half=half), expected(inputs, lengths), bound, 2 * bound)

    # pairs_kernel prefetches only without initial states.
    inputs.pop("initial_states")
    offset, no_state = offset_of(lengths, device), torch.zeros(0)
    y_alone = with_gradients(lambda **x: (ssd(**x, offset=offset), no_state), inputs, dtype, device, half)
    truth = with_gradients(
        lambda **x: (naive_ssd(**x, offset=offset.cpu(), initial_states=None)[0], no_state), inputs
    )  # fmt: skip
    assert_close(y_alone, truth, bound, 2 * bound)


@pytest.mark.parametrize("path", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)], indirect=True)
def test_very_long_sequences(path, device):
    lengths = [5000, 3]
    inputs = ssd_inputs(lengths, 1, 2, 2, dt=-6.0)
    assert_close(found(inputs, lengths, torch.float32, device), expected(inputs, lengths), 1e-5, 1e-4)


def test_more_sequences_than_shares(path, device, monkeypatch):
    monkeypatch.setattr(block_sizes, "SHARES", 2)
    lengths = [3, 70, 0, 1, 66]
    inputs = ssd_inputs(lengths, 4, 5, 3, groups=2)
    assert_close(found(inputs, lengths, torch.float64, device), expected(inputs, lengths), 1e-12, 1e-12)


def test_extreme_step_sizes(path, device):
    inputs = ssd_inputs([70], 3, 4, 5, dt=1.0, spread=3.0)
    assert_close(found(inputs, [70], torch.float32, device), expected(inputs, [70]), 1e-5, 1e-4, of_rates=1e-3)


@pytest.mark.parametrize("dt", [-20.0, -13.0])
def test_tiny_step_sizes_keep_their_digits(path, device, dt):
    inputs = ssd_inputs([9], 3, 4, 5, dt=dt)
    assert_close(found(inputs, [9], torch.float32, device), expected(inputs, [9]), 1e-5, 1e-4)


@pytest.mark.parametrize("path", [pytest.param("cuda", marks=pytest.mark.gpu)], indirect=True)
def test_no_synchronisation_with_the_device(path, device):
    inputs = {name: x.to(device).requires_grad_() for name, x in ssd_inputs([40, 3], 2, 5, 4).items()}
    offset = offset_of([40, 3], device)

    def run():
        y, final_state = ssd(**inputs, offset=offset, return_final_states=True)
        torch.autograd.grad(y.sum() + final_state.sum(), list(inputs.values()))

    run()
    with no_device_sync():
        run()


@pytest.mark.parametrize("path", [pytest.param("cuda", marks=pytest.mark.gpu)], indirect=True)
def test_new_lengths_cause_no_compilation(path, device):
    from supa_mamba.ops.ssd.kernels.pairs import pairs_kernel
    from supa_mamba.ops.ssd.kernels.walk import walk_kernel

    def run(lengths):
        inputs = {n: x.to(device, torch.float32).requires_grad_() for n, x in ssd_inputs(lengths, 2, 16, 16).items()}
        y, final_state = ssd(**inputs, offset=offset_of(lengths, device), return_final_states=True)
        torch.autograd.grad(y.sum() + final_state.sum(), list(inputs.values()))
        cached = (kernel.device_caches for kernel in (walk_kernel, pairs_kernel))
        return [len(cache[0]) for caches in cached for cache in caches.values()]

    first = run([40, 3])
    assert run([1]) == run([16] * 16) == run([100, 0, 7]) == first


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(path, device, dtype):
    half, lengths = ("x", "dt", "B", "C"), [33, 5, 129]
    inputs = ssd_inputs(lengths, 2, 16, 16)
    inputs |= {name: inputs[name].to(dtype).double() for name in half}
    result, truth = found(inputs, lengths, dtype, device, half=half), expected(inputs, lengths)
    assert_close(result, truth, 1e-2, 1e-2)
    assert result["y"].dtype == result["gradient of x"].dtype == dtype
    assert result["final_state"].dtype == result["gradient of A"].dtype == torch.float32


def test_one_single_precision_input_sets_the_precision(path, device):
    lengths = [33, 5]
    inputs = ssd_inputs(lengths, 2, 16, 16)
    inputs["x"] = inputs["x"].bfloat16().double()
    given = {n: x.to(device, torch.bfloat16 if n == "x" else torch.float32) for n, x in inputs.items()}
    _, final_state = ssd(**given, offset=offset_of(lengths, device), return_final_states=True)
    assert distance(final_state, naive_ssd(**inputs, offset=offset_of(lengths))[1]) < 1e-5


@pytest.mark.parametrize("dt_softplus", [False, True])
def test_optional_arguments_may_be_missing(path, device, dt_softplus):
    lengths = [3, 70, 0]
    inputs = {name: x for name, x in ssd_inputs(lengths, 3, 4, 2).items() if name in LEAST}
    inputs["dt"] = inputs["dt"].abs() / 4
    options = {"dt_softplus": dt_softplus}
    assert_close(
        found(inputs, lengths, torch.float64, device, **options), expected(inputs, lengths, **options), 1e-12, 1e-12
    )


@pytest.mark.parametrize(
    ("dt_softplus", "dt_limit"),
    [(True, (0.1, 0.3)), (True, (0.0, 0.2)), (False, (0.0, math.inf)), (False, (-0.1, 0.2)), (False, (-math.inf, 0.1))],
)
def test_step_sizes_are_clamped_to_their_limits(path, device, dt_softplus, dt_limit):
    lengths, options = [3, 40, 0], {"dt_softplus": dt_softplus, "dt_limit": dt_limit}
    inputs = ssd_inputs(lengths, 3, 4, 2)
    if not dt_softplus:
        inputs["dt"] = (inputs["dt"] + 2) / 5
    step = inputs["dt"] + inputs["dt_bias"]
    step = torch.nn.functional.softplus(step) if dt_softplus else step
    clamped = (step < dt_limit[0]) | (step > dt_limit[1])
    assert clamped.any()
    assert not clamped.all()
    result = found(inputs, lengths, torch.float64, device, **options)
    assert_close(result, expected(inputs, lengths, **options), 1e-12, 1e-12)
    assert torch.equal(result["gradient of dt"].cpu() == 0, clamped)


def test_the_same_call_returns_the_numbers_of_the_public_function(path, device):
    inputs = {name: x.to(device) for name, x in ssd_inputs([6], 2, 3, 4).items() if name in LEAST}
    step = inputs.pop("dt") + 2
    assert (step < 0).any()
    y = supa_mamba.ssd(inputs["x"], step, inputs["A"], inputs["B"], inputs["C"], offset=offset_of([6], device))
    clamped = naive.naive_ssd(
        **inputs, dt=step.clamp(min=0), D=None, dt_bias=None, offset=offset_of([6]), initial_states=None,
        dt_limit=(-math.inf, math.inf),
    )[0]  # fmt: skip
    assert distance(y, clamped) < 1e-12


@pytest.mark.parametrize("used", ["y", "final_state"])
def test_gradients_through_a_single_output(path, device, used):
    lengths = [70, 2]
    inputs = ssd_inputs(lengths, 3, 2, 4)
    inputs = {name: x.to(device).requires_grad_() for name, x in inputs.items()}
    offset = offset_of(lengths, device)

    def gradients(y, final_state):
        loss = (y if used == "y" else final_state).sum()
        return torch.autograd.grad(loss, list(inputs.values()), allow_unused=True)

    mine = gradients(*ssd(**inputs, offset=offset, return_final_states=True))
    naive = gradients(*naive_ssd(**inputs, offset=offset))
    for name, a, b in zip(inputs, mine, naive, strict=True):
        zeros = torch.zeros_like(inputs[name])
        assert distance(zeros if a is None else a, zeros if b is None else b) < 1e-12, name


def test_second_and_forward_mode_derivatives_on_a_cpu(monkeypatch):
    monkeypatch.setattr(cpu, "CHUNK", 2)
    inputs = ssd_inputs([3, 0, 5], 2, 2, 2)
    names = list(inputs)

    def run(*given):
        return ssd(**dict(zip(names, given, strict=True)), offset=offset_of([3, 0, 5]), return_final_states=True)

    given = [x.requires_grad_() for x in inputs.values()]
    assert torch.autograd.gradcheck(run, given, check_forward_ad=True, fast_mode=True)
    assert torch.autograd.gradgradcheck(run, given, fast_mode=True)


def test_gradients_without_final_states(path, device):
    lengths = [70, 0, 2]
    inputs = {name: x.to(device).requires_grad_() for name, x in ssd_inputs(lengths, 2, 3, 4).items()}
    offset = offset_of(lengths, device)
    mine = torch.autograd.grad(ssd(**inputs, offset=offset).square().sum(), list(inputs.values()))
    naive = torch.autograd.grad(naive_ssd(**inputs, offset=offset)[0].square().sum(), list(inputs.values()))
    for name, a, b in zip(inputs, mine, naive, strict=True):
        assert distance(a, b) < 1e-12, name


def test_padded_batches_equal_packed_sequences_of_equal_length(path, device):
    packed = {name: x.to(device) for name, x in ssd_inputs([5, 5, 5], 4, 3, 2, groups=2).items()}
    padded = {n: x.unflatten(0, (3, 5)) if n in ALONG else x for n, x in packed.items()}
    y, final = ssd(**packed, offset=offset_of([5, 5, 5], device), return_final_states=True)
    padded_y, padded_final = ssd(**padded, return_final_states=True)
    assert torch.equal(padded_y, y.unflatten(0, (3, 5)))
    assert torch.equal(padded_final, final)


def test_packed_sequences_are_independent(path, device):
    lengths = [4, 67, 0, 9]
    inputs = {name: x.to(device) for name, x in ssd_inputs(lengths, 2, 3, 2).items()}
    offset = offset_of(lengths, device)
    y, final = ssd(**inputs, offset=offset, return_final_states=True)
    for s, (start, end) in enumerate(zip(offset[:-1].tolist(), offset[1:].tolist(), strict=True)):
        alone = {n: x[start:end] if n in ALONG else x for n, x in inputs.items()}
        alone["initial_states"] = inputs["initial_states"][s : s + 1]
        y_alone, final_alone = ssd(**alone, offset=offset_of([end - start], device), return_final_states=True)
        torch.testing.assert_close(y_alone, y[start:end], rtol=1e-13, atol=1e-13)
        torch.testing.assert_close(final_alone[0], final[s], rtol=1e-13, atol=1e-13)


def test_reverse_equals_flipped_sequences(path, device):
    lengths = [4, 66, 0, 1]
    inputs = {name: x.to(device) for name, x in ssd_inputs(lengths, 2, 3, 2).items()}
    offset = offset_of(lengths, device)
    flip = torch.cat([torch.arange(end - 1, start - 1, -1) for start, end in offset.unfold(0, 2, 1).tolist()])
    flipped = {n: x[flip] if n in ALONG else x for n, x in inputs.items()}
    y, final = ssd(**inputs, offset=offset, reverse=True, return_final_states=True)
    y_flipped, final_flipped = ssd(**flipped, offset=offset, return_final_states=True)
    assert torch.equal(y, y_flipped[flip])
    assert torch.equal(final, final_flipped)


# Triton's interpreter runs one program after the other.
@pytest.mark.parametrize("path", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)], indirect=True)
def test_gradients_are_bitwise_reproducible(path, device):
    lengths = [70, 0, 7]
    inputs = ssd_inputs(lengths, 9, 3, 4)
    first, second = (found(inputs, lengths, torch.float32, device) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_rows_may_be_non_contiguous(path, device):
    inputs = {name: x.to(device) for name, x in ssd_inputs([5, 6], 2, 4, 3).items()}
    offset = offset_of([5, 6], device)
    apart = {
        name: torch.cat([x, x], 1)[:, : x.shape[1]] if name in ALONG else x.repeat_interleave(2, 0)[::2]
        for name, x in inputs.items()
    }
    assert torch.equal(ssd(**apart, offset=offset), ssd(**inputs, offset=offset))


@pytest.mark.parametrize("lengths", [[], [0], [0, 0]])
def test_empty_inputs(path, device, lengths):
    inputs = ssd_inputs(lengths, 3, 4, 2)
    result = found(inputs, lengths, torch.float32, device)
    assert result["y"].shape == (0, 3, 4)
    assert torch.equal(result["final_state"].cpu(), inputs["initial_states"].float())
    assert_close(result, expected(inputs, lengths), 1e-6, 1e-6)


def test_autocast_does_not_change_the_results(path, device):
    inputs = {name: x.to(device, torch.float32) for name, x in ssd_inputs([5, 6], 2, 4, 3).items()}
    offset = offset_of([5, 6], device)
    y, final = ssd(**inputs, offset=offset, return_final_states=True)
    with torch.autocast(device, torch.bfloat16):
        cast_y, cast_final = ssd(**inputs, offset=offset, return_final_states=True)
    assert torch.equal(y, cast_y)
    assert torch.equal(final, cast_final)


@pytest.mark.parametrize("return_final_states", [False, True])
def test_compiled_programs_contain_one_operator(path, device, return_final_states):
    if path == "interpreter":
        pytest.skip("the interpreter needs real memory, so it cannot run inside compiled programs")
    inputs = ssd_inputs([70, 0, 7], 4, 3, 2, groups=2)
    offset = offset_of([70, 0, 7], device)

    def run(**x):
        result = ssd(**x, offset=offset, return_final_states=return_final_states)
        return result if return_final_states else (result, x["x"])

    compiled = torch.compile(run, backend="aot_eager", fullgraph=True)
    assert_close(
        with_gradients(compiled, inputs, torch.float64, device),
        with_gradients(run, inputs, device=device),
        1e-13,
        1e-12,
    )


@pytest.mark.parametrize(("finish", "save"), [(True, True), (False, False)])
def test_the_operator_passes_opcheck(path, device, finish, save):
    inputs = {name: x.to(device, torch.float32) for name, x in ssd_inputs([3, 70], 2, 3, 2).items()}
    initial_states = inputs.pop("initial_states")
    tensors = [x.requires_grad_() for x in inputs.values()]
    options = (False, True, 0.1, math.inf, finish, save)
    arguments = (*tensors, offset_of([3, 70], device), initial_states.requires_grad_(), *options)
    torch.library.opcheck(torch.ops.supa_mamba.ssd.default, arguments, test_utils=("test_schema", "test_faketensor"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"offset": None}, r"x: shape \(5, 4, 3\) was given without an offset, but it must be padded, \(B, L, H, P\)"),
        ({"offset": torch.tensor([0, 4])}, r"offset: 0 to 4 was given for 5 rows"),
        ({"x": torch.zeros(1, 5, 4, 3)}, r"given with an offset, but it must be packed, \(T, H, P\)"),
        ({"x": torch.zeros(5, 4, 3, dtype=torch.int64)}, "x: torch.int64 was given"),
        ({"x": torch.zeros(5, 4, 0)}, "with H >= 1 and P >= 1"),
        ({"dt": torch.zeros(5, 1)}, r"dt: shape \(5, 1\) was given, but it must be \(T, H\) = \(5, 4\)"),
        ({"A": torch.zeros(3)}, r"A: shape \(3,\) was given, but it must be \(H,\) = \(4,\)"),
        ({"B": torch.zeros(5, 3, 2)}, r"B: shape \(5, 3, 2\) was given for 4 heads"),
        ({"B": torch.zeros(5, 2)}, r"B: shape \(5, 2\) was given for 4 heads"),
        ({"B": torch.zeros(5, 1, 300)}, "1 to 256 states"),
        ({"C": torch.zeros(5, 1, 2)}, r"it must be \(T, G, N\) = \(5, 2, 2\)"),
        ({"D": torch.zeros(2)}, r"D: shape \(2,\) was given"),
        ({"initial_states": torch.zeros(2, 4, 3, 2)}, r"\(S, H, P, N\) = \(1, 4, 3, 2\)"),
        ({"C": torch.zeros(5, 2, 2, device="meta")}, "C: it is on meta"),
        ({"dt_limit": (0.2, 0.1)}, r"dt_limit: \(0.2, 0.1\) was given, but it must be two numbers"),
        ({"dt_limit": 0.1}, "dt_limit: 0.1 was given"),
        ({"dt_limit": (0.0, math.nan)}, "dt_limit"),
    ],
)
def test_invalid_input_raises_a_clear_error(change, message):
    good = {name: x.float() for name, x in ssd_inputs([5], 4, 3, 2, groups=2).items()}
    with pytest.raises(ValueError, match=message):
        ssd(**(good | {"offset": torch.tensor([0, 5])} | change))


def test_the_limits_of_step_sizes_may_be_equal():
    inputs = ssd_inputs([3], 1, 2, 2)
    fixed = ssd(**inputs, offset=offset_of([3]), dt_limit=(0.1, 0.1))
    step = torch.full_like(inputs["dt"], 0.1)
    assert distance(fixed, supa_mamba.ssd(**(inputs | {"dt": step, "dt_bias": None}), offset=offset_of([3]))) < 1e-14
