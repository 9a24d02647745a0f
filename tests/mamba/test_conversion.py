"""Conversion of attention layers into Mamba-2 and Mamba: equality with linear attention, steps, sampling, export."""

import copy
import re
from itertools import pairwise

import pytest
import torch
from sequences import offset_of

from supa_mamba import CausalAttention, HybridStack, Mamba, Mamba2, convert_attention, fit_converted
from supa_mamba.modules.attention import CausalAttention as Mixer
from supa_mamba.modules.conversion import FASTEST, RIDGE, SLOWEST, recorded_mixers

LENGTHS = [40, 0, 1, 70]
HEADS, WIDTH = 2, 16
paths = pytest.mark.parametrize("path", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)], indirect=True)


def teacher(*, bias=False, rotary=0, device="cpu"):
    torch.manual_seed(0)
    stack = HybridStack(WIDTH, 4, range(4), HEADS, d_intermediate=24, rotary_emb_dim=rotary, device=device)
    if bias:
        for block in stack.blocks():
            block.mixer = CausalAttention(WIDTH, HEADS, bias=True, device=device)
            for name in ("in_proj", "out_proj"):
                torch.nn.init.normal_(getattr(block.mixer, name).bias, std=0.1)
    return stack


def linear_attention(mixer, x, offset):
    """Return causal attention without softmax: the sum over the earlier rows of (q k / sqrt(d)) v."""
    out = []
    for begin, end in pairwise(offset.tolist()):
        q, k, v = mixer.in_proj(x[begin:end]).unflatten(1, (3, HEADS, WIDTH // HEADS)).transpose(0, 1)
        weight = torch.einsum("thp,shp->hts", q, k).tril() * (WIDTH // HEADS) ** -0.5
        out.append(mixer.out_proj(torch.einsum("hts,shp->thp", weight, v).flatten(1)))
    return torch.cat(out)


def linear_twin(stack, layers, x, offset):
    """Return the results of a stack whose softmax is replaced in some layers."""
    for number, block in enumerate(stack.blocks()):
        rows = block.norm(x)[0]
        x = x + (linear_attention(block.mixer, rows, offset) if number in layers else block.mixer(rows, offset))
        x = x + block.mlp(block.norm2(x)[0])
    return stack.norm_f(x)[0]


def without_decay(stack):
    """Set the decay rates to zero, with which a converted layer is exactly linear attention."""
    for block in stack.blocks():
        if isinstance(block.mixer, Mamba | Mamba2):
            block.mixer.A_log.data.fill_(-torch.inf)
    return stack


def relative(one, other):
    return float((one - other).norm() / other.norm())


@paths
@pytest.mark.parametrize("layers", [(0, 1, 2, 3), (0, 2)])
@pytest.mark.parametrize("bias", [False, True])
def test_a_converted_stack_equals_its_teacher_with_linear_attention(path, layers, bias):
    stack, offset = teacher(bias=bias, device=path), offset_of(LENGTHS).to(path)
    torch.manual_seed(1)
    x = torch.randn(sum(LENGTHS), WIDTH).to(path)
    student = without_decay(convert_attention(stack, layers))
    with torch.no_grad():
        expected = linear_twin(copy.deepcopy(stack).cpu().double(), layers, x.cpu().double(), offset.cpu())
        y = student(x, offset).cpu()
        assert relative(y, expected) < 1e-5
        assert relative(stack(x, offset).cpu(), expected) > 0.1  # softmax differs


@paths
def test_a_stack_converted_to_mamba_equals_its_teacher_with_linear_attention(path):
    """B and C contain the inverse of the map of values, so the comparison is in double precision."""
    stack, offset = teacher(device=path).double(), offset_of(LENGTHS).to(path)
    torch.manual_seed(1)
    x = torch.randn(sum(LENGTHS), WIDTH, dtype=torch.float64).to(path)
    student = without_decay(convert_attention(stack, (0, 2), "mamba"))
    with torch.no_grad():
        expected = linear_twin(copy.deepcopy(stack).cpu(), (0, 2), x.cpu(), offset.cpu())
        assert relative(student(x, offset).cpu(), expected) < 1e-9


def test_the_decay_of_a_converted_layer_is_slow():
    layers = range(4)
    stack, offset, x = teacher(), offset_of(LENGTHS), torch.randn(sum(LENGTHS), WIDTH)
    with torch.no_grad():
        started, expected = convert_attention(stack, layers)(x, offset), linear_twin(stack, layers, x, offset)
    assert 1e-4 < relative(started, expected) < 0.05


def test_conversion_copies_and_leaves_the_teacher_alone():
    stack = teacher(rotary=4).eval()
    before = {name: value.clone() for name, value in stack.state_dict().items()}
    student = convert_attention(stack, [1])
    assert not student.training
    assert [isinstance(block.mixer, Mixer) for block in student.blocks()] == [True, False, True, True]
    for parameter in student.parameters():
        parameter.data.add_(1)
    assert all(torch.equal(value, before[name]) for name, value in stack.state_dict().items())


def squared_errors(student, teacher, layers, x, offset):
    """Return the squared errors of the converted layers on the teacher's rows, in units of the squared results."""
    with torch.no_grad(), recorded_mixers(teacher, layers) as found:
        teacher(x, offset)
        mixers = [block.mixer for number, block in enumerate(student.blocks()) if number in layers]
        return [relative(mixer(a, offset), b) ** 2 for mixer, (a, b) in zip(mixers, found, strict=True)]


@paths
def test_fitted_layers_are_near_the_attention_and_have_its_scale(path):
    layers = (0, 2)
    stack = teacher(bias=True, device=path)
    student = convert_attention(stack, layers)
    torch.manual_seed(1)
    x, offset = torch.randn(1200, WIDTH).to(path), torch.arange(0, 1201, 40, device=path)
    for block in stack.blocks():
        block.mixer.in_proj.bias.data += 0.5  # the weights of softmax are not all equal, and their sum does not vanish
    student = convert_attention(stack, layers)
    before = {name: value.clone() for name, value in student.state_dict().items()}
    started = squared_errors(student, stack, layers, x, offset)
    fit_converted(student, stack, layers, x, offset)
    found = squared_errors(student, stack, layers, x, offset)
    assert all(later < 0.5 < 2 < first for later, first in zip(found, started, strict=True))
    changed = {name for name, value in student.state_dict().items() if not torch.equal(value, before[name])}
    fitted = ("A_log", "dt_bias", "out_proj.weight", "out_proj.bias")
    assert changed == {f"layers.{number}.mixer.{name}" for number in layers for name in fitted}

    mixer = student.layers[0].mixer
    steps = torch.nn.functional.softplus(mixer.dt_bias)
    decays = (steps * mixer.A_log.exp()).tolist()
    assert decays == pytest.approx([SLOWEST, FASTEST], rel=1e-5)  # two heads
    with torch.no_grad(), recorded_mixers(stack, layers) as rows:
        stack(x, offset)
        projected = mixer.in_proj(rows[0][0])
        heads, _ = mixer.run(projected, offset, None, reverse=False, return_state=False)
    values = projected[:, WIDTH : 2 * WIDTH]
    sizes = [a.square().view(-1, HEADS, WIDTH // HEADS).mean((0, 2)) for a in (heads, values)]
    below = steps < 1
    assert below.any()
    torch.testing.assert_close(sizes[0][below], sizes[1][below], rtol=1e-3, atol=0.0)
    # The output projection is the solution of ridge regression, here by another way: further rows for the penalty.
    features, target = heads.double().cpu(), rows[0][1].double().cpu()
    penalty = (RIDGE * features.square().sum(0).mean()).sqrt() * torch.eye(WIDTH, dtype=torch.float64)
    features = torch.cat([torch.cat([features, penalty]), torch.zeros(len(heads) + WIDTH, 1, dtype=torch.float64)], 1)
    features[: len(heads), -1] = 1
    solution = torch.linalg.lstsq(features, torch.cat([target, torch.zeros(WIDTH, WIDTH)])).solution.float()
    torch.testing.assert_close(mixer.out_proj.weight.cpu(), solution[:-1].T, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(mixer.out_proj.bias.cpu(), solution[-1], rtol=1e-4, atol=1e-5)


@paths
def test_layers_of_mamba_are_fitted_to_the_attention_with_its_scale(path):
    stack = teacher(device=path)
    student = convert_attention(stack, (0, 2), "mamba")
    torch.manual_seed(1)
    # The means of the values do not vanish.
    x, offset = 1 + torch.randn(1200, WIDTH).to(path), torch.arange(0, 1201, 40, device=path)
    before = {name: value.clone() for name, value in student.state_dict().items()}
    started = squared_errors(student, stack, (0, 2), x, offset)
    fit_converted(student, stack, (0, 2), x, offset)
    found = squared_errors(student, stack, (0, 2), x, offset)
    assert all(later < 0.5 < 2 < first for later, first in zip(found, started, strict=True))
    changed = {name for name, value in student.state_dict().items() if not torch.equal(value, before[name])}
    fitted = ("A_log", "dt_proj.bias", "out_proj.weight", "out_proj.bias")
    assert changed == {f"layers.{number}.mixer.{name}" for number in (0, 2) for name in fitted}
    mixer = student.layers[0].mixer
    decays = torch.nn.functional.softplus(mixer.dt_proj.bias)[:, None] * mixer.A_log.exp()
    expected = torch.tensor([SLOWEST, FASTEST], device=path).repeat_interleave(WIDTH // HEADS)  # two heads
    torch.testing.assert_close(decays, expected[:, None].expand_as(decays), rtol=1e-5, atol=0)


@paths
@pytest.mark.parametrize("mixer", ["mamba2", "mamba"])
def test_steps_of_a_converted_stack_equal_its_forward(path, mixer):
    student = convert_attention(teacher(rotary=4, device=path), [0, 1, 3], mixer)
    for parameter in student.parameters():
        parameter.data.add_(0.05 * torch.randn_like(parameter))
    x, offset = torch.randn(12, WIDTH, device=path), offset_of([6, 6]).to(path)
    with torch.no_grad():
        expected = student(x, offset).view(2, 6, WIDTH)
        state = student.init_state(2, 6)
        _, state = student(x.view(2, 6, WIDTH)[:, :3], state=state, return_state=True)
        states = [state]
        if mixer == "mamba2":
            states.append(student.with_buffers(tuple(type(s)(*(v.clone() for v in s)) for s in state), 2))
        for buffered in states:
            steps = torch.stack([student.step(x.view(2, 6, WIDTH)[:, t], buffered) for t in range(3, 6)], 1)
            torch.testing.assert_close(steps, expected[:, 3:], rtol=2e-4, atol=2e-5)


@paths
@pytest.mark.parametrize("options", [{"rmsnorm": False}, {"activation": "identity"}])
def test_norm_and_activation_can_be_left_out(path, options):
    mixer = Mamba2(WIDTH, d_state=8, headdim=8, **options).to(path)
    x, offset = torch.randn(9, WIDTH, device=path), offset_of([9]).to(path)
    z, mixed, dt = mixer.in_proj(x).split([32, 48, 4], 1)
    windows = torch.nn.functional.pad(mixed.T, (3, 0)).unfold(1, 4, 1)
    mixed = (windows * mixer.conv1d.weight).sum(2).T + mixer.conv1d.bias
    silu = torch.nn.functional.silu
    mixed = mixed if "activation" in options else silu(mixed)
    u, B, C = mixed.split([32, 8, 8], 1)
    dt = torch.nn.functional.softplus(dt + mixer.dt_bias)
    state, y = torch.zeros(4, 8, 8, device=path), []
    for t in range(9):
        of_row = u[t].view(4, 8)
        decay = torch.exp(-dt[t] * mixer.A_log.exp())[:, None, None]
        state = decay * state + dt[t][:, None, None] * of_row[:, :, None] * B[t]
        y.append((state @ C[t] + mixer.D[:, None] * of_row).flatten())
    y = torch.stack(y) * silu(z)
    if mixer.norm is not None:
        y = y * (y.square().mean(1, keepdim=True) + 1e-5).rsqrt() * mixer.norm.weight
    torch.testing.assert_close(mixer(x, offset), mixer.out_proj(y), rtol=1e-4, atol=1e-5)


def test_errors():
    stack = convert_attention(teacher(), [0])
    for layers, message in [
        ([4], "4 was given, but the stack has 4 layers"),
        ([0], "layer 0 is Mamba2; only attention"),
    ]:
        with pytest.raises(ValueError, match=re.escape(message)):
            convert_attention(stack, layers)
    with pytest.raises(ValueError, match="mixer: 'mamba3' was given, but it must be one of mamba, mamba2"):
        convert_attention(stack, [1], "mamba3")
    with pytest.raises(ValueError, match="the attention of layer 1 has biases, which Mamba cannot copy"):
        convert_attention(teacher(bias=True), [1], "mamba")
    with pytest.raises(ValueError, match="activation: 'gelu' was given"):
        Mamba(16, activation="gelu")
    with pytest.raises(ValueError, match="activation: 'gelu' was given"):
        Mamba2(16, headdim=8, activation="gelu")
