"""One step of a stack in operations of PyTorch alone, without changes in place, for programs that are exported."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional

from supa_mamba.modules.attention import CausalAttention
from supa_mamba.modules.block import scaled
from supa_mamba.modules.initialisation import rates
from supa_mamba.modules.mamba import Mamba
from supa_mamba.modules.mamba2 import Mamba2
from supa_mamba.modules.norm import ResidualSum
from supa_mamba.modules.rotary import rotated
from supa_mamba.modules.stack import BlockStack


def plain_step(stack: BlockStack, x: Tensor, states: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Apply all blocks of a stack to one more row of each sequence.

    Args:
        stack: Stack of `Mamba`, `Mamba2` and `CausalAttention`.
        x: (M, d_model) rows.
        states: Tensors of the states of all layers, in the order of their named tuples.

    Returns:
        (M, d_model) rows, and the new tensors of the states.
    """
    after, left = [], list(states)
    x = x if stack.norm_in is None else _norm(x, stack.norm_in)
    for block in stack.blocks():
        mixer, step = _step_of(block.mixer)
        count = 3 if isinstance(mixer, CausalAttention) else 2
        update, new = step(mixer, _norm(x, block.norm), left[:count])
        left, x = left[count:], x + scaled(update, block.gain)
        after += new
        if block.norm2 is not None and block.mlp is not None:
            x = x + scaled(block.mlp(_norm(x, block.norm2)), block.gain2)
    return _norm(x, stack.norm_f), after


def _step_of(mixer: Any) -> tuple[Any, Any]:
    for kind, step in ((Mamba2, _mamba2_step), (Mamba, _mamba_step), (CausalAttention, _attention_step)):
        if isinstance(mixer, kind):
            return mixer, step
    raise ValueError(f"{type(mixer).__name__} cannot be exported; a generator has Mamba, Mamba2 and CausalAttention.")


def _norm(x: Tensor, norm: Any) -> Tensor:
    return x if isinstance(norm, ResidualSum) else functional.rms_norm(x, norm.weight.shape, norm.weight, norm.eps)


def _convolve(layer: Any, x: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
    window = torch.cat([before, x[:, :, None]], 2)
    y = (window * layer.weight.squeeze(1)).sum(2)
    return y if layer.bias is None else y + layer.bias, window[:, :, 1:]


def _mamba2_step(mixer: Mamba2, x: Tensor, states: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    conv, ssm = states
    inner, groups, mixed = mixer.d_inner, mixer.ngroups, mixer.conv1d.in_channels
    z, u, dt = torch.split(mixer.in_proj(x), [inner, mixed, mixer.nheads], dim=1)
    u, conv = _convolve(mixer.conv1d, u, conv)
    u = functional.silu(u) if mixer.activation == "silu" else u
    u, B, C = torch.split(u, [inner, groups * mixer.d_state, groups * mixer.d_state], dim=1)
    u = u.reshape(-1, mixer.nheads, mixer.headdim)
    B, C = (v.reshape(-1, groups, mixer.d_state) for v in (B, C))
    if mixer.norms is not None:
        dt, B, C = (_norm(v, norm) for v, norm in zip((dt, B, C), mixer.norms, strict=True))
    B, C = (v.repeat_interleave(mixer.nheads // groups, 1) for v in (B, C))
    dt = functional.softplus(dt + mixer.dt_bias).clamp(*mixer.dt_limit)
    ssm = ssm * torch.exp(dt * rates(mixer.A_log))[..., None, None] + (dt[..., None] * u)[..., None] * B[:, :, None]
    y = ((ssm * C[:, :, None]).sum(3) + mixer.D[:, None] * u).reshape(-1, inner)
    norm, gate = mixer.norm, functional.silu(z)
    if norm is None:
        return mixer.out_proj(y * gate), [conv, ssm]
    y = y if norm.norm_before_gate else y * gate
    grouped = y.reshape(-1, norm.groups, inner // norm.groups)
    y = functional.rms_norm(grouped, grouped.shape[2:], eps=norm.eps).flatten(1) * norm.weight
    return mixer.out_proj(y * gate if norm.norm_before_gate else y), [conv, ssm]


def _mamba_step(mixer: Mamba, x: Tensor, states: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    conv, ssm = states
    u, z = mixer.in_proj(x).chunk(2, dim=1)
    u, conv = _convolve(mixer.conv1d, u, conv)
    u = functional.silu(u) if mixer.activation == "silu" else u
    groups, each = mixer.ngroups, mixer.ngroups * mixer.d_state
    dt, B, C = torch.split(mixer.x_proj(u), [mixer.dt_rank, each, each], dim=1)
    B, C = (v.reshape(-1, groups, mixer.d_state) for v in (B, C))
    if mixer.norms is not None:
        dt, B, C = (_norm(v, norm) for v, norm in zip((dt, B, C), mixer.norms, strict=True))
    B, C = (v.repeat_interleave(mixer.d_inner // groups, 1) for v in (B, C))
    dt = functional.softplus(mixer.dt_proj(dt))
    ssm = ssm * torch.exp(dt[..., None] * rates(mixer.A_log)) + (dt * u)[..., None] * B
    y = (ssm * C).sum(2) + mixer.D * u
    return mixer.out_proj(y * functional.silu(z)), [conv, ssm]


def _attention_step(mixer: CausalAttention, x: Tensor, states: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    keys, values, lengths = states
    qkv = mixer.in_proj(x).unflatten(1, (3, mixer.num_heads, mixer.head_dim))
    if mixer.q_norm is not None and mixer.k_norm is not None:
        q, k, v = qkv.unbind(1)
        qkv = torch.stack([_norm(q, mixer.q_norm), _norm(k, mixer.k_norm), v], 1)
    q, k, v = rotated(qkv, lengths, mixer.rotary_emb_dim).unbind(1)
    place = torch.arange(keys.shape[1], device=x.device)
    here = (place == lengths[:, None])[:, :, None, None]
    keys, values = torch.where(here, k[:, None], keys), torch.where(here, v[:, None], values)
    seen = (place <= lengths[:, None])[:, None, None]
    y = functional.scaled_dot_product_attention(
        q[:, :, None], keys.transpose(1, 2), values.transpose(1, 2), attn_mask=seen
    )
    return cast(Tensor, mixer.out_proj(y[:, :, 0].flatten(1))), [keys, values, lengths + 1]
