"""Small mixers and stacks with random weights, and step-by-step formulas of the mixers."""

import math

import torch
from torch.nn import functional

from supa_mamba import BiMamba, HybridStack, Mamba, Mamba2, MambaStack

D_MODEL = 8

CAUSAL = {
    "mamba": lambda: Mamba(D_MODEL, d_state=3),
    "mamba with biases": lambda: Mamba(D_MODEL, d_state=2, d_conv=2, expand=1.5, dt_rank=3, bias=True),
    "mamba without": lambda: Mamba(D_MODEL, d_state=1, d_conv=1, conv_bias=False),
    "mamba2": lambda: Mamba2(D_MODEL, d_state=3, headdim=4),
    "mamba2 in groups": lambda: Mamba2(D_MODEL, d_state=2, headdim=2, ngroups=4, bias=True),
}
BOTH_WAYS = {
    "bimamba": lambda: BiMamba(D_MODEL, d_state=3),
    "bimamba untied": lambda: BiMamba(D_MODEL, d_state=3, tied=False, bias=True),
}
STACKS = {
    "mamba": lambda: MambaStack(D_MODEL, 2, d_state=3),
    "mamba2": lambda: MambaStack(D_MODEL, 2, mixer="mamba2", d_state=3, headdim=4),
    "hybrid": lambda: HybridStack(D_MODEL, 3, [1], 2, d_state=3),
    "transformer": lambda: HybridStack(D_MODEL, 2, [0, 1], 2, d_intermediate=6, rotary_emb_dim=2),
}


def made(make, device="cpu", dtype=torch.float64, seed=0):
    """Build a module with random weights everywhere, because zeros and ones could hide errors."""
    torch.manual_seed(seed)
    module = make()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return module.to(device, dtype)


def rows(count, device="cpu", dtype=torch.float64, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, D_MODEL, generator=generator, dtype=torch.float64).to(device, dtype)


def convolved(x, weight, bias):
    """Apply a causal convolution and silu."""
    y = torch.zeros_like(x)
    for t in range(len(x)):
        for k in range(min(weight.shape[-1], t + 1)):
            y[t] += weight[:, 0, -1 - k] * x[t - k]
    return functional.silu(y if bias is None else y + bias)


def mamba_by_formulas(weights, x):
    """Compute Mamba (arXiv 2312.00752, algorithm 2, figure 3) for one sequence, without the output projection."""
    inner = weights["conv1d.weight"].shape[0]
    rates = -torch.exp(weights["A_log"])
    rank, states = weights["dt_proj.weight"].shape[1], rates.shape[1]
    projected = x @ weights["in_proj.weight"].T + weights.get("in_proj.bias", 0)
    u, z = projected[:, :inner], projected[:, inner:]
    u = convolved(u, weights["conv1d.weight"], weights.get("conv1d.bias"))
    h, y = torch.zeros(inner, states, dtype=x.dtype), torch.zeros_like(u)
    for t in range(len(x)):
        selected = weights["x_proj.weight"] @ u[t]
        step = weights["dt_proj.weight"] @ selected[:rank] + weights["dt_proj.bias"]
        step = torch.log1p(torch.exp(step))
        enter, leave = selected[rank : rank + states], selected[rank + states :]
        h = torch.exp(step[:, None] * rates) * h + step[:, None] * enter * u[t][:, None]
        y[t] = (h @ leave + weights["D"] * u[t]) * z[t] / (1 + torch.exp(-z[t]))
    return y


def mamba2_by_formulas(weights, x, headdim, states, *, norm_before_gate=False, eps=1e-5, dt_limit=(0.0, math.inf)):
    """Compute Mamba-2 (arXiv 2405.21060, equation 1, figure 6) for one sequence, without the output projection.

    As in mamba_ssm, the norm may come before the gate, and steps may be clamped.
    """
    inner, heads = weights["norm.weight"].shape[0], weights["A_log"].shape[0]
    groups = (weights["conv1d.weight"].shape[0] - inner) // (2 * states)
    projected = x @ weights["in_proj.weight"].T + weights.get("in_proj.bias", 0)
    z, mixed, steps = projected[:, :inner], projected[:, inner:-heads], projected[:, -heads:]
    mixed = convolved(mixed, weights["conv1d.weight"], weights.get("conv1d.bias"))
    y = torch.zeros(len(x), inner, dtype=x.dtype)
    for head in range(heads):
        group, mine = head * groups // heads, slice(head * headdim, (head + 1) * headdim)
        h = torch.zeros(headdim, states, dtype=x.dtype)
        for t in range(len(x)):
            u = mixed[t, :inner][mine]
            enter = mixed[t, inner + group * states :][:states]
            leave = mixed[t, inner + (groups + group) * states :][:states]
            step = torch.log1p(torch.exp(steps[t, head] + weights["dt_bias"][head])).clamp(*dt_limit)
            h = torch.exp(-step * torch.exp(weights["A_log"][head])) * h + step * u[:, None] * enter
            y[t, mine] = h @ leave + weights["D"][head] * u
    gate = z / (1 + torch.exp(-z))
    y = y if norm_before_gate else y * gate
    for group in range(groups):
        mine = slice(group * inner // groups, (group + 1) * inner // groups)
        y[:, mine] = y[:, mine] / torch.sqrt(y[:, mine].square().mean(1, keepdim=True) + eps)
    y = y * weights["norm.weight"]
    return y * gate if norm_before_gate else y


def gated_mlp_by_formulas(weights, x):
    """Compute SwiGLU (arXiv 2002.05202, equation 6): the second half of ``fc1`` is the gate."""
    projected = x @ weights["fc1.weight"].T
    hidden = weights["fc2.weight"].shape[1]
    gate = projected[:, hidden:]
    return (projected[:, :hidden] * gate / (1 + torch.exp(-gate))) @ weights["fc2.weight"].T


def rotated_by_formulas(x, position, dim):
    """Rotate the first features of a head (arXiv 2104.09864, equation 34): their halves are complex numbers."""
    half = dim // 2
    pairs = torch.complex(x[:half], x[half:dim])
    angles = torch.tensor([position * 10_000 ** (-2 * k / dim) for k in range(half)], dtype=x.dtype)
    pairs = pairs * torch.polar(torch.ones_like(angles), angles).to(x.device)
    return torch.cat([pairs.real, pairs.imag, x[dim:]])


def flipped(x, offset):
    """Reverse each packed sequence."""
    return torch.cat([x[a:b].flip(0) for a, b in zip(offset[:-1].tolist(), offset[1:].tolist(), strict=True)])


def pieces(offset):
    return list(zip(offset[:-1].tolist(), offset[1:].tolist(), strict=True))
