import pytest
import torch
from sequences import apart, assert_close, conv_inputs, distance, lengths_for, offset_of, with_gradients

from supa_mamba import causal_conv1d
from supa_mamba.ops.causal_conv1d.naive import naive_causal_conv1d


def expected(inputs, lengths, **options):
    missing = {name: None for name in ("bias", "initial_states") if name not in inputs}
    offset = offset_of(lengths)
    return with_gradients(lambda **x: naive_causal_conv1d(offset=offset, **x, **missing, **options), inputs)


def found(inputs, lengths, dtype, device, *, half=(), **options):
    offset = offset_of(lengths, device)
    run = lambda **x: causal_conv1d(**x, offset=offset, return_final_states=True, **options)  # noqa: E731
    return with_gradients(run, inputs, dtype, device, half)


def test_the_naive_convolution_equals_pytorchs():
    inputs = conv_inputs([9, 0, 2], 4, 3)
    offset = offset_of([9, 0, 2])
    y, final = naive_causal_conv1d(**inputs, offset=offset, activation="silu")
    for s, (start, end) in enumerate([(0, 9), (9, 9), (9, 11)]):
        seen = torch.cat([inputs["initial_states"][s], inputs["x"][start:end].t()], 1)
        assert torch.equal(final[s], seen[:, end - start :])
        if end > start:
            plain = torch.conv1d(seen[None], inputs["weight"][:, None], inputs["bias"], groups=4)[0]
            torch.testing.assert_close(y[start:end], torch.nn.functional.silu(plain.t()))


@pytest.mark.parametrize(
    ("width", "activation", "reverse"),
    [
        (1, None, True), (2, "silu", False), (3, None, True), (4, "silu", False), (4, "silu", True),
        *(pytest.param(9, "silu", reverse, marks=pytest.mark.slow) for reverse in (False, True)),
    ],
)  # fmt: skip
def test_any_width_in_double_precision(path, device, width, activation, reverse):
    lengths = lengths_for(path, [3, 0, 1, 33, 2, 6])
    inputs = conv_inputs(lengths, 40, width)
    options = {"activation": activation, "reverse": reverse}
    assert_close(
        found(inputs, lengths, torch.float64, device, **options), expected(inputs, lengths, **options), 1e-13, 1e-13
    )


@pytest.mark.parametrize("lengths", [[1], [2, 0], [31, 32, 33], [64, 63, 65]])
def test_single_precision(path, device, lengths):
    lengths = lengths_for(path, lengths)
    inputs = conv_inputs(lengths, 140, 4)
    options = {"activation": "silu"}
    assert_close(
        found(inputs, lengths, torch.float32, device, **options), expected(inputs, lengths, **options), 1e-5, 1e-4
    )


@pytest.mark.parametrize("path", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)], indirect=True)
def test_long_sequences(path, device):
    inputs = conv_inputs([500, 1, 96], 20, 4)
    assert_close(found(inputs, [500, 1, 96], torch.float32, device), expected(inputs, [500, 1, 96]), 1e-5, 1e-4)


def test_half_precision(path, device):
    inputs = conv_inputs([9, 5], 4, 4)
    inputs["x"] = inputs["x"].bfloat16().double()
    result = found(inputs, [9, 5], torch.bfloat16, device, half=("x",), activation="silu")
    assert_close(result, expected(inputs, [9, 5], activation="silu"), 1e-2, 1e-2)
    assert result["y"].dtype == result["gradient of x"].dtype == torch.bfloat16
    assert result["final_state"].dtype == result["gradient of weight"].dtype == torch.float32


def test_optional_arguments_may_be_missing(path, device):
    inputs = {name: x for name, x in conv_inputs([5, 1], 3, 4).items() if name in ("x", "weight")}
    assert_close(found(inputs, [5, 1], torch.float64, device), expected(inputs, [5, 1]), 1e-13, 1e-13)


@pytest.mark.parametrize("used", ["y", "final_state"])
def test_gradients_through_a_single_output(path, device, used):
    inputs = {name: x.to(device).requires_grad_() for name, x in conv_inputs([5, 2], 3, 4).items()}
    offset = offset_of([5, 2], device)

    def gradients(y, final_state):
        loss = (y if used == "y" else final_state).sum()
        return torch.autograd.grad(loss, list(inputs.values()), allow_unused=True)

    mine = gradients(*causal_conv1d(**inputs, offset=offset, return_final_states=True))
    naive = gradients(*naive_causal_conv1d(**inputs, offset=offset))
    for name, a, b in zip(inputs, mine, naive, strict=True):
        zeros = torch.zeros_like(inputs[name])
        assert distance(zeros if a is None else a, zeros if b is None else b) < 1e-13, name


def test_arguments_without_rows_may_be_non_contiguous(path, device):
    lengths = [3, 0, 5]
    inputs = conv_inputs(lengths, 5, 4)

    def run(**given):
        given = {name: x if name == "x" else apart(x) for name, x in given.items()}
        return causal_conv1d(**given, offset=apart(offset_of(lengths, device)), return_final_states=True)

    assert_close(with_gradients(run, inputs, device=device), expected(inputs, lengths), 1e-13, 1e-13)


def test_padded_batches_equal_packed_sequences_of_equal_length(path, device):
    packed = {name: x.to(device) for name, x in conv_inputs([5, 5, 5], 3, 4).items()}
    y, final = causal_conv1d(**packed, offset=offset_of([5, 5, 5], device), return_final_states=True)
    padded = packed | {"x": packed["x"].unflatten(0, (3, 5))}
    padded_y, padded_final = causal_conv1d(**padded, return_final_states=True)
    assert torch.equal(padded_y, y.unflatten(0, (3, 5)))
    assert torch.equal(padded_final, final)


def test_a_sequence_continues_from_its_state(path, device):
    inputs = {name: x.to(device) for name, x in conv_inputs([6], 3, 4).items()}
    x = inputs.pop("x")
    y, final = causal_conv1d(x[None], **inputs, return_final_states=True)
    for t in range(6):
        step, inputs["initial_states"] = causal_conv1d(x[None, t : t + 1], **inputs, return_final_states=True)
        torch.testing.assert_close(step[0, 0], y[0, t])
    assert torch.equal(inputs["initial_states"], final)


def test_swish_is_silu(path, device):
    inputs = {name: x.to(device) for name, x in conv_inputs([5, 2], 3, 4).items()}
    offset = offset_of([5, 2], device)
    assert torch.equal(
        causal_conv1d(**inputs, offset=offset, activation="swish"),
        causal_conv1d(**inputs, offset=offset, activation="silu"),
    )


# Triton's interpreter runs one program after the other.
@pytest.mark.parametrize("path", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)], indirect=True)
def test_gradients_are_bitwise_reproducible(path, device):
    inputs = conv_inputs([9, 0, 7], 9, 3)
    first, second = (found(inputs, [9, 0, 7], torch.float32, device) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("lengths", [[], [0, 0]])
def test_empty_inputs(path, device, lengths):
    result = found(conv_inputs(lengths, 3, 4), lengths, torch.float32, device)
    assert result["y"].shape == (0, 3)
    assert torch.equal(result["final_state"].cpu(), conv_inputs(lengths, 3, 4)["initial_states"].float())


def test_compiled_programs_contain_one_operator(path, device):
    if path == "interpreter":
        pytest.skip("the interpreter needs real memory, so it cannot run inside compiled programs")
    inputs, offset = conv_inputs([5, 0, 7], 3, 4), offset_of([5, 0, 7], device)

    def run(**x):
        return causal_conv1d(**x, offset=offset, return_final_states=True)

    compiled = torch.compile(run, backend="aot_eager", fullgraph=True)
    assert_close(
        with_gradients(compiled, inputs, torch.float64, device),
        with_gradients(run, inputs, device=device),
        1e-14,
        1e-13,
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": torch.zeros(3)}, r"weight: shape \(3,\) was given"),
        ({"weight": torch.zeros(2, 4)}, r"x: shape \(5, 3\) was given"),
        ({"bias": torch.zeros(2)}, r"bias: shape \(2,\)"),
        ({"initial_states": torch.zeros(1, 3, 4)}, r"\(S, D, W - 1\) = \(1, 3, 3\)"),
        ({"activation": "relu"}, "it must be None, 'silu' or 'swish'"),
        ({"offset": None}, "without an offset"),
    ],
)
def test_invalid_input_raises_a_clear_error(change, message):
    good = {name: x.float() for name, x in conv_inputs([5], 3, 4).items()} | {"offset": torch.tensor([0, 5])}
    with pytest.raises(ValueError, match=message):
        causal_conv1d(**(good | change))
