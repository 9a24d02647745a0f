"""Linear layers of single steps: values, and bits that do not depend on the batch."""

import pytest
import torch
from device_sync import no_device_sync
from torch import nn
from torch.nn import functional

from supa_mamba import HybridStack, Mamba, MambaStack
from supa_mamba.generator.sampling.cpu_stack import Linear
from supa_mamba.ops.row_linear.function import row_linear, step_linear

SIZES = [(1, 1, 1), (2, 3, 4), (7, 64, 292), (33, 37, 5), (64, 130, 66)]
gpu = pytest.param("cuda", marks=pytest.mark.gpu)


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
def test_the_values_are_those_of_the_formula(path, device, rows, inputs, outputs, use_silu):
    x, weight, bias = given(rows, inputs, outputs)
    expected = x.double() @ weight.double().T + bias.double()
    expected = functional.silu(expected) if use_silu else expected
    found = row_linear(x.to(device), weight.to(device), bias.to(device), use_silu=use_silu).cpu()
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5 * inputs**0.5)
    if path == "cpu":
        torch.testing.assert_close(found, applied(x, weight, bias, use_silu=use_silu), rtol=0, atol=0)
    without = row_linear(x.double().to(device), weight.double().to(device)).cpu()
    torch.testing.assert_close(without, x.double() @ weight.double().T, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("path", ["interpreter", gpu], indirect=True)
def test_the_bits_of_a_row_do_not_depend_on_other_rows_in_the_kernel(path, device):
    wide, weight, _ = (tensor.to(device) for tensor in given(150, 90, 70))
    x, weight = wide[:, 8:85], weight[:, 8:85]  # only the even rows are aligned to 16 bytes
    if path == "interpreter":  # NumPy's sums depend on the place of a row, except those of a few small integers
        x, weight = x.round(), weight.round()
    whole, order = row_linear(x, weight, use_silu=True), torch.randperm(150, device=device)
    expected = functional.silu(x.double() @ weight.double().T)
    torch.testing.assert_close(whole.double(), expected, rtol=1e-5, atol=1e-4)
    assert torch.equal(row_linear(x[order], weight, use_silu=True), whole[order])
    for rows in (slice(0, 0), slice(0, 1), slice(63, 65), slice(140, 143), slice(17, 117)):
        assert torch.equal(row_linear(x[rows], weight, use_silu=True), whole[rows])


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


def stack_and_states(kind, device, *counts):
    torch.manual_seed(0)
    if kind == "transformer":
        stack = HybridStack(48, 2, [0, 1], num_heads=3, d_intermediate=20, rotary_emb_dim=8, device=device)
        return stack, [stack.init_state(count, max_length=9) for count in counts]
    stack = MambaStack(48, 2, kind, d_state=8, device=device, **({"headdim": 16} if kind == "mamba2" else {}))
    return stack, [stack.init_state(count) for count in counts]


@pytest.mark.parametrize("path", ["cpu", gpu], indirect=True)
@pytest.mark.parametrize("kind", ["mamba", "mamba2", "transformer"])
def test_the_bits_of_a_step_do_not_depend_on_other_sequences(path, device, kind):
    stack, (many, few, one) = stack_and_states(kind, device, 150, 3, 1)
    for _ in range(4):
        x = torch.randn(150, 48, device=device)
        y = stack.step(x, many)
        assert torch.equal(stack.step(x[120:123], few), y[120:123])
        assert torch.equal(stack.step(x[121:122], one), y[121:122])


@pytest.mark.parametrize("path", [gpu], indirect=True)
@pytest.mark.parametrize("kind", ["mamba", "mamba2", "transformer"])
def test_a_cuda_graph_captures_the_steps_of_a_stack(path, device, kind):
    stack, (other, captured, eager) = stack_and_states(kind, device, 70, 70, 70)
    x, slots = torch.randn(70, 48, device=device), torch.randperm(70, device=device)
    slots[5] = -1
    stack.step(x, other, slots)
    with no_device_sync():
        stack.step(x, other, slots)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = stack.step(x, captured, slots)
    for _ in range(4):
        x.normal_()
        graph.replay()
        assert torch.equal(y, stack.step(x, eager, slots))


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
