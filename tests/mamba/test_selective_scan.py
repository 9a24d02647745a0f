from functools import partial

import pytest
import torch
from device_sync import no_device_sync
from sequences import apart, assert_close, distance, lengths_for, offset_of, scan_inputs, with_gradients

import supa_mamba
from supa_mamba.ops.selective_scan import naive

# as the modules call them
selective_scan = partial(supa_mamba.selective_scan, delta_softplus=True)
naive_selective_scan = partial(naive.naive_selective_scan, delta_softplus=True)
LEAST = {"u", "delta", "A", "B", "C"}


def expected(inputs, lengths, **options):
    missing = {name: None for name in ("D", "z", "delta_bias", "initial_states") if name not in inputs}
    offset = offset_of(lengths)
    return with_gradients(lambda **x: naive_selective_scan(offset=offset, **x, **missing, **options), inputs)


def found(inputs, lengths, dtype, device, *, half=(), **options):
    offset = offset_of(lengths, device)
    run = lambda **x: selective_scan(**x, offset=offset, return_final_states=True, **options)  # noqa: E731
    return with_gradients(run, inputs, dtype, device, half)


def test_the_naive_scan_equals_the_sum_over_all_earlier_inputs():
    lengths, channels, states = [4, 0, 7], 3, 2
    inputs = scan_inputs(lengths, channels, states)
    y, final = naive_selective_scan(**inputs, offset=offset_of(lengths))
    step = torch.log1p(torch.exp(inputs["delta"] + inputs["delta_bias"]))
    for s, (start, end) in enumerate([(0, 4), (4, 4), (4, 11)]):
        for t in range(start, end):
            h = torch.exp(inputs["A"] * step[start : t + 1].sum(0)[:, None]) * inputs["initial_states"][s]
            for r in range(start, t + 1):
                decay = torch.exp(inputs["A"] * step[r + 1 : t + 1].sum(0)[:, None])
                h = h + decay * (step[r] * inputs["u"][r])[:, None] * inputs["B"][r]
            gate = inputs["z"][t] / (1 + torch.exp(-inputs["z"][t]))
            torch.testing.assert_close(y[t], ((h * inputs["C"][t]).sum(1) + inputs["D"] * inputs["u"][t]) * gate)
        torch.testing.assert_close(final[s], h if end > start else inputs["initial_states"][s])


@pytest.mark.parametrize("reverse", [False, True])
def test_mixed_lengths_in_double_precision(path, device, reverse):
    lengths = lengths_for(path, [3, 0, 1, 33, 2, 65])
    inputs = scan_inputs(lengths, 5, 3)
    assert_close(
        found(inputs, lengths, torch.float64, device, reverse=reverse),
        expected(inputs, lengths, reverse=reverse), 1e-13, 1e-12,
    )  # fmt: skip


@pytest.mark.parametrize("lengths", [[1], [2, 0], [31, 32, 33], [64, 63, 65]])
def test_single_precision(path, device, lengths):
    lengths = lengths_for(path, lengths)
    inputs = scan_inputs(lengths, 3, 4)
    assert_close(found(inputs, lengths, torch.float32, device), expected(inputs, lengths), 1e-5, 1e-4)


@pytest.mark.parametrize(("channels", "states"), [(130, 1), (33, 16), (9, 128), (17, 40), (2, 256)])
def test_any_number_of_channels_and_states(path, device, channels, states):
    lengths = lengths_for(path, [2, 34])
    inputs = scan_inputs(lengths, channels, states)
    assert_close(found(inputs, lengths, torch.float32, device), expected(inputs, lengths), 1e-5, 1e-4)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("path", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)], indirect=True)
def test_long_sequences(path, device, reverse):
    lengths = [500, 1, 96, 0, 160]
    inputs = scan_inputs(lengths, 20, 16)
    assert_close(
        found(inputs, lengths, torch.float32, device, reverse=reverse),
        expected(inputs, lengths, reverse=reverse), 1e-5, 1e-4,
    )  # fmt: skip


def test_extreme_step_sizes_in_whole_tiles(path, device, whole_tiles):
    inputs = scan_inputs([70], 3, 4, delta=1.0, spread=3.0)
    assert_close(found(inputs, [70], torch.float32, device), expected(inputs, [70]), 1e-5, 1e-4, of_rates=1e-3)


@pytest.mark.parametrize("delta", [-20.0, -13.0])
def test_tiny_step_sizes_keep_their_digits(path, device, delta):
    inputs = scan_inputs([9], 3, 4, delta=delta)
    assert_close(found(inputs, [9], torch.float32, device), expected(inputs, [9]), 1e-5, 1e-4)


@pytest.mark.parametrize("path", [pytest.param("cuda", marks=pytest.mark.gpu)], indirect=True)
def test_no_synchronisation_with_the_device(path, device):
    inputs = {name: x.to(device).requires_grad_() for name, x in scan_inputs([40, 3], 5, 4).items()}
    offset = offset_of([40, 3], device)

    def run():
        y, final_state = selective_scan(**inputs, offset=offset, return_final_states=True)
        torch.autograd.grad(y.sum() + final_state.sum(), list(inputs.values()))

    run()
    with no_device_sync():
        run()


@pytest.mark.parametrize("path", [pytest.param("cuda", marks=pytest.mark.gpu)], indirect=True)
def test_new_lengths_cause_no_compilation(path, device):
    from supa_mamba.ops.selective_scan.kernels.backward import scan_backward_kernel
    from supa_mamba.ops.selective_scan.kernels.forward import scan_forward_kernel

    def run(lengths):
        inputs = {n: x.to(device, torch.float32).requires_grad_() for n, x in scan_inputs(lengths, 16, 16).items()}
        y, final_state = selective_scan(**inputs, offset=offset_of(lengths, device), return_final_states=True)
        torch.autograd.grad(y.sum() + final_state.sum(), list(inputs.values()))
        cached = (kernel.device_caches for kernel in (scan_forward_kernel, scan_backward_kernel))
        return [len(cache[0]) for caches in cached for cache in caches.values()]

    first = run([40, 3])
    assert run([1]) == run([2] * 5000) == run([100, 0, 7]) == first


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(path, device, dtype):
    half, lengths = ("u", "delta", "B", "C", "z"), lengths_for(path, [33, 5])
    inputs = scan_inputs(lengths, 4, 4)
    inputs |= {name: inputs[name].to(dtype).double() for name in half}
    result, truth = found(inputs, lengths, dtype, device, half=half), expected(inputs, lengths)
    assert_close(result, truth, 1e-2, 1e-2)
    assert result["y"].dtype == result["gradient of u"].dtype == dtype
    assert result["final_state"].dtype == result["gradient of A"].dtype == torch.float32
    assert distance(result["final_state"], truth["final_state"]) < 1e-5  # states are never in half precision


@pytest.mark.parametrize("delta_softplus", [False, True])
def test_optional_arguments_may_be_missing(path, device, delta_softplus):
    lengths = lengths_for(path, [3, 34, 0])
    inputs = {name: x for name, x in scan_inputs(lengths, 3, 2).items() if name in LEAST}
    inputs["delta"] = inputs["delta"].abs() / 4
    options = {"delta_softplus": delta_softplus}
    assert_close(
        found(inputs, lengths, torch.float64, device, **options), expected(inputs, lengths, **options), 1e-13, 1e-12
    )


@pytest.mark.parametrize("used", ["y", "final_state"])
def test_gradients_through_a_single_output(path, device, used):
    lengths = lengths_for(path, [34, 2])
    inputs = scan_inputs(lengths, 3, 2)
    inputs = {name: x.to(device).requires_grad_() for name, x in inputs.items()}
    offset = offset_of(lengths, device)

    def gradients(y, final_state):
        loss = (y if used == "y" else final_state).sum()
        return torch.autograd.grad(loss, list(inputs.values()), allow_unused=True)

    mine = gradients(*selective_scan(**inputs, offset=offset, return_final_states=True))
    naive = gradients(*naive_selective_scan(**inputs, offset=offset))
    for name, a, b in zip(inputs, mine, naive, strict=True):
        zeros = torch.zeros_like(inputs[name])
        assert distance(zeros if a is None else a, zeros if b is None else b) < 1e-12, name


def test_positional_arguments_match_the_public_function(path, device):
    inputs = {name: x.to(device) for name, x in scan_inputs([4], 3, 2).items() if name != "initial_states"}
    inputs["delta"] = inputs["delta"].abs()
    offset = offset_of([4], device)
    plain = supa_mamba.selective_scan(*inputs.values(), offset=offset)
    assert torch.equal(plain, supa_mamba.selective_scan(*inputs.values(), False, offset=offset))
    soft = supa_mamba.selective_scan(*inputs.values(), True, offset=offset)
    steps = torch.nn.functional.softplus(inputs.pop("delta") + inputs.pop("delta_bias"))
    assert distance(supa_mamba.selective_scan(delta=steps, **inputs, offset=offset), soft) < 1e-14


@pytest.mark.parametrize("alone", [None, "B", "C"])
def test_each_group_of_channels_has_its_own_b_and_c(path, device, alone):
    lengths = [3, 0, 5]
    inputs = scan_inputs(lengths, 6, 2, groups=(3,))
    if alone:
        inputs[alone] = inputs[alone][:, 0].clone()
    found_in_groups = found(inputs, lengths, torch.float64, device, reverse=alone == "B")
    assert_close(found_in_groups, expected(inputs, lengths, reverse=alone == "B"), 1e-13, 1e-12)


def test_one_group_equals_no_groups(path, device):
    inputs = {name: x.to(device) for name, x in scan_inputs([5, 5], 4, 2, groups=(1,)).items()}
    offset = offset_of([5, 5], device)
    found = selective_scan(**inputs, offset=offset)
    plain = inputs | {name: inputs[name][:, 0] for name in ("B", "C")}
    assert torch.equal(found, selective_scan(**plain, offset=offset))
    padded = {n: x.unflatten(0, (2, 5)) if n in ("u", "delta", "B", "C", "z") else x for n, x in inputs.items()}
    assert torch.equal(selective_scan(**padded).flatten(0, 1), found)


def test_padded_batches_equal_packed_sequences_of_equal_length(path, device):
    packed = {name: x.to(device) for name, x in scan_inputs([5, 5, 5], 3, 2).items()}
    padded = {n: x.unflatten(0, (3, 5)) if n in ("u", "delta", "B", "C", "z") else x for n, x in packed.items()}
    y, final = selective_scan(**packed, offset=offset_of([5, 5, 5], device), return_final_states=True)
    padded_y, padded_final = selective_scan(**padded, return_final_states=True)
    assert torch.equal(padded_y, y.unflatten(0, (3, 5)))
    assert torch.equal(padded_final, final)


def test_packed_sequences_are_independent(path, device):
    lengths = lengths_for(path, [4, 37, 0, 9])
    inputs = {name: x.to(device) for name, x in scan_inputs(lengths, 3, 2).items()}
    offset = offset_of(lengths, device)
    y, final = selective_scan(**inputs, offset=offset, return_final_states=True)
    for s, (start, end) in enumerate(zip(offset[:-1].tolist(), offset[1:].tolist(), strict=True)):
        alone = {n: x[start:end] if n in ("u", "delta", "B", "C", "z") else x for n, x in inputs.items()}
        alone["initial_states"] = inputs["initial_states"][s : s + 1]
        y_alone, final_alone = selective_scan(
            **alone, offset=offset_of([end - start], device), return_final_states=True
        )
        torch.testing.assert_close(y_alone, y[start:end], rtol=1e-14, atol=1e-14)
        torch.testing.assert_close(final_alone[0], final[s], rtol=1e-14, atol=1e-14)


def test_reverse_equals_flipped_sequences(path, device):
    lengths = lengths_for(path, [4, 34, 0, 1])
    inputs = {name: x.to(device) for name, x in scan_inputs(lengths, 3, 2).items()}
    offset = offset_of(lengths, device)
    flip = torch.cat([torch.arange(end - 1, start - 1, -1) for start, end in offset.unfold(0, 2, 1).tolist()])
    flipped = {n: x[flip] if n in ("u", "delta", "B", "C", "z") else x for n, x in inputs.items()}
    y, final = selective_scan(**inputs, offset=offset, reverse=True, return_final_states=True)
    y_flipped, final_flipped = selective_scan(**flipped, offset=offset, return_final_states=True)
    assert torch.equal(y, y_flipped[flip])
    assert torch.equal(final, final_flipped)


# Triton's interpreter runs one program after the other.
@pytest.mark.parametrize("path", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)], indirect=True)
def test_gradients_are_bitwise_reproducible(path, device):
    lengths = lengths_for(path, [34, 0, 7])
    inputs = scan_inputs(lengths, 9, 3)
    first, second = (found(inputs, lengths, torch.float32, device) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_rows_may_be_non_contiguous(path, device):
    inputs = {name: x.to(device) for name, x in scan_inputs([5, 6], 4, 3).items()}
    offset = offset_of([5, 6], device)
    halves = torch.cat([inputs["u"], inputs["z"]], 1)
    strided = inputs | {"u": halves[:, :4], "z": halves[:, 4:], "B": inputs["B"].t().contiguous().t()}
    strided |= {name: torch.stack([inputs[name]] * 2, 1)[:, 0] for name in ("D", "delta_bias")}
    found = selective_scan(**strided, offset=offset)
    torch.testing.assert_close(found, selective_scan(**inputs, offset=offset), rtol=1e-14, atol=1e-14)


def test_arguments_without_rows_may_be_non_contiguous(path, device):
    lengths = [3, 0, 5]
    inputs = scan_inputs(lengths, 5, 3)
    views = {"D", "delta_bias", "initial_states"}

    def run(**given):
        given = {name: apart(x) if name in views else x for name, x in given.items()}
        return selective_scan(**given, offset=apart(offset_of(lengths, device)), return_final_states=True)

    assert_close(with_gradients(run, inputs, device=device), expected(inputs, lengths), 1e-13, 1e-12)


@pytest.mark.parametrize("lengths", [[], [0], [0, 0]])
def test_empty_inputs(path, device, lengths):
    result = found(scan_inputs(lengths, 3, 2), lengths, torch.float32, device)
    assert result["y"].shape == (0, 3)
    assert torch.equal(result["final_state"].cpu(), scan_inputs(lengths, 3, 2)["initial_states"].float())


def test_autocast_does_not_change_the_results(path, device):
    inputs = {name: x.to(device, torch.float32) for name, x in scan_inputs([5, 6], 4, 3).items()}
    offset = offset_of([5, 6], device)
    y, final = selective_scan(**inputs, offset=offset, return_final_states=True)
    with torch.autocast(device, torch.bfloat16):
        cast_y, cast_final = selective_scan(**inputs, offset=offset, return_final_states=True)
    assert torch.equal(y, cast_y)
    assert torch.equal(final, cast_final)


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8, torch.uint64])
def test_an_offset_may_have_any_integer_dtype(path, device, dtype):
    inputs = {name: x.to(device) for name, x in scan_inputs([3, 0, 5], 3, 2).items()}
    offset = offset_of([3, 0, 5], device)
    assert torch.equal(selective_scan(**inputs, offset=offset.to(dtype)), selective_scan(**inputs, offset=offset))


def test_compiled_programs_contain_one_operator(path, device):
    if path == "interpreter":
        pytest.skip("the interpreter needs real memory, so it cannot run inside compiled programs")
    inputs = scan_inputs([34, 0, 7], 3, 2)
    offset = offset_of([34, 0, 7], device)

    def run(**x):
        return selective_scan(**x, offset=offset, return_final_states=True)

    compiled = torch.compile(run, backend="aot_eager", fullgraph=True)
    assert_close(
        with_gradients(compiled, inputs, torch.float64, device),
        with_gradients(run, inputs, device=device),
        1e-14,
        1e-13,
    )


def test_the_operator_passes_opcheck(path, device):
    inputs = {name: x.to(device, torch.float32) for name, x in scan_inputs([3, 2], 3, 2).items()}
    given = {**inputs, "A": inputs["A"].t().contiguous(), "initial_states": inputs["initial_states"].transpose(1, 2)}
    initial_states = given.pop("initial_states").contiguous()
    tensors = [x.requires_grad_() for x in given.values()]
    arguments = (*tensors, offset_of([3, 2], device), initial_states.requires_grad_(), False, True, True, True)
    torch.library.opcheck(
        torch.ops.supa_mamba.selective_scan.default, arguments, test_utils=("test_schema", "test_faketensor")
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"offset": None}, r"u: shape \(5, 3\) was given without an offset"),
        ({"offset": torch.tensor([0.0, 5.0])}, r"offset: shape \(2,\), torch.float32.*\(S \+ 1,\) integers on cpu"),
        ({"offset": torch.tensor([False, True])}, "torch.bool on cpu was given"),
        ({"offset": [0, 5]}, "offset: a list was given, but it must be a tensor"),
        ({"offset": torch.tensor([0, 4])}, r"offset: 0 to 4 was given for 5 rows"),
        ({"offset": torch.tensor([0, 4, 3, 5])}, "0 to 5, descending after entry 1, was given for 5 rows"),
        ({"u": torch.zeros(1, 5, 3)}, "given with an offset, but it must be packed"),
        ({"u": torch.zeros(5, 3, dtype=torch.int64)}, "u: torch.int64 was given"),
        ({"delta": torch.zeros(5, 1)}, r"delta: shape \(5, 1\) was given, but it must be \(T, D\) = \(5, 3\)"),
        ({"A": torch.zeros(3)}, r"A: shape \(3,\) was given for 3 channels"),
        ({"A": torch.zeros(3, 300)}, "1 to 256 states"),
        ({"B": torch.zeros(2, 5)}, r"it must be \(T, N\) or \(T, G, N\) = \(5, 2\)"),
        ({"B": torch.zeros(3, 2)}, r"B: shape \(3, 2\) was given, but it must be \(T, N\)"),
        ({"B": torch.zeros(5, 2, 2)}, "2 groups were given for 3 channels"),
        ({"B": torch.zeros(5, 3, 2), "C": torch.zeros(5, 1, 2)}, "3 and 1 groups"),
        ({"A": torch.zeros(3, 2, dtype=torch.complex64)}, "A: torch.complex64 was given"),
        ({"D": torch.zeros(2)}, r"D: shape \(2,\) was given"),
        ({"initial_states": torch.zeros(2, 3, 2)}, r"\(S, D, N\) = \(1, 3, 2\)"),
        ({"C": torch.zeros(5, 2, device="meta")}, "C: it is on meta"),
    ],
)
def test_invalid_input_raises_a_clear_error(change, message):
    good = {name: x.float() for name, x in scan_inputs([5], 3, 2).items()} | {"offset": torch.tensor([0, 5])}
    if change.get("offset") is not None and len(change["offset"]) == 4:
        good.pop("initial_states")
    with pytest.raises(ValueError, match=message):
        selective_scan(**(good | change))
