"""Linear layers of single steps: values, and bits that do not depend on the batch."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from supa_mamba import HybridStack, Mamba, MambaStack
from supa_mamba.generator.sampling.cpu_stack import Linear
from supa_mamba.ops.row_linear.function import row_linear, step_linear

SIZES = [(1, 1, 1), (2, 3, 4), (7, 64, 292), (33, 37, 5), (64, 130, 66)]


def given(rows, inputs, outputs, dtype=torch.float32):
    torch.manual_seed(0)
    return (
        torch.randn(rows, inputs, dtype=dtype),
        torch.randn(outputs, inputs, dtype=dtype),
        torch.randn(outputs).to(dtype),
    )


def applied(x, weight, bias, *, use_silu):
    """Apply the layer as the sampler does."""
    layer = nn.Linear(*weight.T.shape)
    layer.weight.data, layer.bias.data = weight, bias
    return torch.from_numpy(Linear(layer)(x.numpy(), use_silu=use_silu))


@pytest.mark.parametrize("use_silu", [False, True])
@pytest.mark.parametrize(("rows", "inputs", "outputs"), SIZES)
def test_the_values_are_those_of_the_formula(rows, inputs, outputs, use_silu):
    x, weight, bias = given(rows, inputs, outputs)
    expected = x.double() @ weight.double().T + bias.double()
    expected = functional.silu(expected) if use_silu else expected
    found = applied(x, weight, bias, use_silu=use_silu)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5 * inputs**0.5)
    torch.testing.assert_close(row_linear(x, weight, bias), applied(x, weight, bias, use_silu=False), rtol=0, atol=0)
    without = row_linear(x.double(), weight.double())
    torch.testing.assert_close(without, x.double() @ weight.double().T, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("rows", "inputs", "outputs"), SIZES)
def test_the_bits_of_a_row_do_not_depend_on_other_rows(rows, inputs, outputs, threads):
    x, weight, bias = given(rows, inputs, outputs)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        whole = row_linear(x, weight, bias)
    finally:
        torch.set_num_threads(before)
    activated = applied(x, weight, bias, use_silu=True)
    for first in range(rows):
        for last in {first + 1, min(first + 2, rows), min(first + 5, rows)}:
            assert torch.equal(row_linear(x[first:last], weight, bias), whole[first:last])
            assert torch.equal(applied(x[first:last], weight, bias, use_silu=True), activated[first:last])


@pytest.mark.parametrize("kind", ["mamba", "mamba2", "transformer"])
def test_the_bits_of_a_step_do_not_depend_on_other_sequences(kind):
    torch.manual_seed(0)
    if kind == "transformer":
        stack = HybridStack(48, 2, [0, 1], num_heads=3, d_intermediate=20, rotary_emb_dim=8)
        many, few, one = (stack.init_state(count, max_length=4) for count in (50, 3, 1))
    else:
        stack = MambaStack(48, 2, kind, d_state=8, **({"headdim": 16} if kind == "mamba2" else {}))
        many, few, one = stack.init_state(50), stack.init_state(3), stack.init_state(1)
    for _ in range(4):
        x = torch.randn(50, 48)
        y = stack.step(x, many)
        assert torch.equal(stack.step(x[20:23], few), y[20:23])
        assert torch.equal(stack.step(x[21:22], one), y[21:22])


def test_another_module_in_the_place_of_a_layer_is_called():
    torch.manual_seed(0)
    mixer = Mamba(16, d_state=4)
    x, state = torch.randn(3, 16), mixer.init_state(3)
    expected = mixer.step(x, mixer.init_state(3))
    seen = []
    mixer.in_proj.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    mixer.out_proj = nn.Sequential(mixer.out_proj)
    torch.testing.assert_close(mixer.step(x, state), expected)
    assert len(seen) == 1


def test_half_precision_and_recorded_programs_use_the_layer_of_pytorch():
    layer = nn.Linear(8, 4, dtype=torch.bfloat16)
    x = torch.randn(3, 8, dtype=torch.bfloat16)
    assert torch.equal(step_linear(layer, x), layer(x))
    traced = torch.jit.trace(lambda x: row_linear(x, torch.eye(8)), torch.randn(3, 8))
    assert torch.equal(traced(torch.ones(3, 8)), torch.ones(3, 8))
