"""Blocks without norms: formulas, steps, generators, and outlier features in training."""

from functools import partial

import numpy as np
import pytest
import torch
from sequences import offset_of
from stack_steps import assert_steps_equal_the_forward
from torch.nn import functional
from untrained import model_of

from supa_mamba import (
    CausalAttention,
    GeneratorConfig,
    HybridStack,
    Mamba,
    Mamba2,
    MambaStack,
    ShowerGenerator,
    convert_attention,
    parallel_pairs,
    selective_scan,
    ssd,
)
from supa_mamba.generator.plain_step import plain_step
from supa_mamba.generator.sampling.cpu_stack import CpuStack
from supa_mamba.generator.sampling.speculation.replays import ReplayStack, stack_state
from supa_mamba.modules.rotary import rotated

WIDTH, PROTECTED = 16, "outlier-protected"
NARROW = partial(Mamba2, WIDTH, d_state=4, headdim=8, ngroups=2)
STACKS = {
    "mamba": lambda: MambaStack(WIDTH, 3, d_state=4, block=PROTECTED),
    "mamba groups": lambda: MambaStack(WIDTH, 3, d_state=4, ngroups=2, block=PROTECTED),
    "mamba2": lambda: MambaStack(WIDTH, 3, "mamba2", d_state=4, headdim=8, ngroups=2, block=PROTECTED),
    "transformer": lambda: HybridStack(WIDTH, 3, range(3), 2, d_intermediate=24, rotary_emb_dim=4, block=PROTECTED),
}
paths = pytest.mark.parametrize("path", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)], indirect=True)
kinds = pytest.mark.parametrize("kind", STACKS)


def stack_of(kind, device="cpu"):
    torch.manual_seed(0)
    stack = STACKS[kind]().to(device)
    for parameter in stack.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    return stack


@kinds
def test_the_residual_has_no_norms_and_updates_have_gains(kind):
    stack, x, offset = stack_of(kind), torch.randn(12, WIDTH), offset_of([5, 7])
    assert not any("norm.weight" in name and "mixer" not in name for name, _ in stack.layers.named_parameters())
    rows = functional.rms_norm(x, (WIDTH,), stack.norm_in.weight, 1e-5)
    for block in stack.blocks():
        rows = rows + block.gain * block.mixer(rows, offset)
        if block.mlp is not None:
            rows = rows + block.gain2 * block.mlp(rows)
    expected = functional.rms_norm(rows, (WIDTH,), stack.norm_f.weight, 1e-5)
    torch.testing.assert_close(stack(x, offset), expected, rtol=1e-5, atol=1e-5)
    updates = 6 if kind == "transformer" else 3
    assert STACKS[kind]().layers[0].gain.item() == pytest.approx(updates**-0.5)


def test_queries_and_keys_are_normalised_before_rotation():
    torch.manual_seed(0)
    attention = CausalAttention(WIDTH, 2, qk_norm=True, rotary_emb_dim=4).double()
    torch.nn.init.normal_(attention.q_norm.weight)
    torch.nn.init.normal_(attention.k_norm.weight)
    x = torch.randn(7, WIDTH, dtype=torch.float64)
    q, k, v = attention.in_proj(x).view(7, 3, 2, 8).unbind(1)
    q, k = rms(q, attention.q_norm), rms(k, attention.k_norm)
    q, k, v = rotated(torch.stack([q, k, v], 1), torch.arange(7), 4).permute(1, 2, 0, 3)
    y = functional.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(0, 1).flatten(1)
    torch.testing.assert_close(attention(x, offset_of([7])), attention.out_proj(y), rtol=1e-10, atol=1e-10)


def rms(x, norm):
    return functional.rms_norm(x, norm.weight.shape, norm.weight, 1e-5)


@pytest.mark.parametrize("kind", ["mamba", "mamba2"])
def test_step_sizes_b_and_c_are_normalised(kind):
    torch.manual_seed(0)
    mixer = (Mamba(WIDTH, d_state=4, b_c_dt_norm=True) if kind == "mamba" else NARROW(b_c_dt_norm=True)).double()
    for norm in mixer.norms:
        torch.nn.init.normal_(norm.weight)
    x, offset = torch.randn(7, WIDTH, dtype=torch.float64), offset_of([7])
    projected, inner = mixer.in_proj(x), mixer.d_inner
    u = projected[:, :inner] if kind == "mamba" else projected[:, inner : inner + 32 + 16]
    windows = functional.pad(u.T, (3, 0)).unfold(1, 4, 1)
    u = functional.silu((windows * mixer.conv1d.weight).sum(2).T + mixer.conv1d.bias)
    if kind == "mamba":
        dt, B, C = (
            rms(part, norm) for part, norm in zip(mixer.x_proj(u).split([1, 4, 4], 1), mixer.norms, strict=True)
        )
        y = selective_scan(
            u, dt @ mixer.dt_proj.weight.T, -mixer.A_log.exp(), B, C, mixer.D, projected[:, inner:], mixer.dt_proj.bias,
            True, offset=offset,
        )  # fmt: skip
    else:
        u, B, C = u.split([32, 8, 8], 1)
        dt, B, C = (
            rms(part, norm)
            for part, norm in zip((projected[:, -4:], B.view(7, 2, 4), C.view(7, 2, 4)), mixer.norms, strict=True)
        )
        y = ssd(
            u.view(7, 4, 8), dt, -mixer.A_log.exp(), B, C, D=mixer.D, dt_bias=mixer.dt_bias, dt_softplus=True,
            offset=offset,
        )  # fmt: skip
        y = mixer.norm(y.flatten(1), projected[:, :inner])
    torch.testing.assert_close(mixer(x, offset), mixer.out_proj(y), rtol=1e-9, atol=1e-10)


@paths
@kinds
def test_steps_equal_the_forward_pass(path, kind):
    stack = stack_of(kind, path)
    assert_steps_equal_the_forward(stack, path)


@pytest.mark.parametrize("kind", ["mamba", "hybrid", "transformer"])
def test_generators_are_sampled_drafted_and_exported(kind):
    """The compiled loops of the sampler, the replays of drafts and the program for export equal the stack."""
    coding = model_of("critical").coding
    torch.manual_seed(0)
    sizes = GeneratorConfig(model=kind, d_model=32, n_layer=4, d_state=4, block=PROTECTED)
    stack = ShowerGenerator(sizes, coding).stack
    for parameter in stack.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    x, inputs = torch.randn(3, 4, 32), 4
    with torch.no_grad():
        expected = stack(x.flatten(0, 1), offset_of([4, 4, 4])).view(3, 4, 32)
        state, of_loops = stack_state(stack, 3, 20), stack_state(stack, 3, 20)
        states = [tensor.clone() for layer in state for tensor in layer]
        loops = CpuStack(stack, of_loops)
        for t in range(inputs):
            y, states = plain_step(stack, x[:, t], states)
            torch.testing.assert_close(y, expected[:, t], rtol=1e-4, atol=1e-5)
            y = torch.from_numpy(loops.step(x[:, t].numpy().copy(), np.arange(3)))
            torch.testing.assert_close(y, expected[:, t], rtol=1e-4, atol=1e-5)
        replays = ReplayStack(stack, 3, 2, 20)
        first = replays.score(x[:, :2], torch.zeros(3, dtype=torch.int64))
        second = replays.score(x[:, 2:], torch.full((3,), 2))
    torch.testing.assert_close(torch.cat([first, second], 1), expected, rtol=1e-4, atol=1e-5)


def test_errors():
    stack = HybridStack(WIDTH, 2, range(2), 2, block=PROTECTED)
    with pytest.raises(ValueError, match="cannot form a pair, because they are outlier-protected"):
        parallel_pairs(stack, 0, 2)
    with pytest.raises(ValueError, match="the queries and keys of layer 0 are normalised"):
        convert_attention(stack, [0])
    with pytest.raises(ValueError, match="block: 'post-norm' was given"):
        MambaStack(WIDTH, 2, block="post-norm")
    with pytest.raises(ValueError, match="the mixer 'bimamba' has none"):
        MambaStack(WIDTH, 2, "bimamba", block=PROTECTED)
    with pytest.raises(ValueError, match='paired_layers: they need the block "pre-norm"'):
        GeneratorConfig(block=PROTECTED, paired_layers=(0,))
