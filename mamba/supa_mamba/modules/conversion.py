"""Conversion of attention layers into layers of Mamba-2 with the same projections."""

import copy
import math
from collections.abc import Collection
from typing import Any, TypeVar

import torch

from supa.checks import counted
from supa_mamba.modules.attention import CausalAttention
from supa_mamba.modules.mamba2 import Mamba2
from supa_mamba.modules.stack import BlockStack

S = TypeVar("S", bound=BlockStack)

OPEN_GATE = 1.2784645427610738
"""Argument at which SiLU is 1."""
UNIT_STEP = math.log(math.e - 1)
"""Argument at which softplus is 1."""
SLOW_RATE = 2.0**-10
"""Decay rate of a converted layer. A state keeps 90 % over about 100 rows."""


def converted_options(d_model: int, num_heads: int, head_dim: int | None = None) -> dict[str, Any]:
    """Return the options of `Mamba2` for a layer that replaces attention.

    Args:
        d_model: Number of features per row.
        num_heads: Number of attention heads.
        head_dim: Number of features of each head, by default ``d_model / num_heads``.

    Returns:
        Options in which the channels are those of the heads: each head has its own B and C and a state of (features of
        a head)² numbers. There is no norm after the gate and no activation after the convolution, and the projections
        have biases.
    """
    width = head_dim or d_model // num_heads
    return {
        "d_state": width, "headdim": width, "ngroups": num_heads, "expand": num_heads * width / d_model, "bias": True,
        "rmsnorm": False, "activation": "identity",
    }  # fmt: skip


def convert_attention(stack: S, layers: Collection[int]) -> S:
    """Replace attention layers of a stack by layers of Mamba-2 with the same projections.

    Without softmax, attention is the recurrence of Mamba-2 with decay 1: its values become x, its keys B, and its
    queries C, which also take the factor 1 / sqrt(head_dim). Norms and MLPs are copied. The other parameters begin such
    that the new layer is linear attention: the convolution returns its input (weight 1 for the present row, 0 for
    earlier ones), the gate and all step sizes are 1, D is 0, and the decay rates are 2^-10, which is slow for showers.
    All of them can be trained.

    Mamba has no counterpart of rotary embeddings and of the normalisation of softmax. The queries and keys are copied
    without rotation, so that the order of the rows enters through decay, step sizes and convolution.

    Args:
        stack: Stack with attention in these layers, such as a `HybridStack`. It is not modified.
        layers: Indices, from 0, of the layers to replace.

    Returns:
        A copy of the stack with the new layers. It shares no parameters with the given one.

    Raises:
        ValueError: If one of the layers does not exist, or has no attention.

    Example:
        >>> import torch
        >>> from supa_mamba import HybridStack, convert_attention
        >>> teacher = HybridStack(16, 4, range(4), num_heads=2, d_intermediate=32)
        >>> student = convert_attention(teacher, [0, 1, 2])  # attention remains in the last layer
        >>> [type(block.mixer).__name__ for block in student.blocks()]
        ['Mamba2', 'Mamba2', 'Mamba2', 'CausalAttention']
        >>> student(torch.randn(8, 16), torch.tensor([0, 3, 8])).shape  # packed sequences of 3 and 5 rows
        torch.Size([8, 16])

    Source:
        The Mamba in the Llama (arXiv 2408.15237), section 2. The start of convolution and gate is that of MOHAWK (arXiv
        2408.10189), section 4.
    """
    mixers = [block.mixer for block in stack.blocks()]
    for number in layers:
        if number not in range(len(mixers)):
            raise ValueError(f"layers: {number} was given, but the stack has {counted(len(mixers), 'layer')}.")
        if not isinstance(mixers[number], CausalAttention):
            raise ValueError(
                f"layers: {number} was given, but layer {number} is {type(mixers[number]).__name__}; only attention "
                "can be converted."
            )
        if getattr(mixers[number], "q_norm", None) is not None:
            raise ValueError(
                f"layers: {number} was given, but the queries and keys of layer {number} are normalised, which Mamba-2 "
                "cannot copy."
            )
    converted = copy.deepcopy(stack)
    for number, block in enumerate(converted.blocks()):
        if number in layers and isinstance(block.mixer, CausalAttention):
            block.mixer = _converted(block.mixer)
    return converted.train(stack.training)


@torch.no_grad()
def _converted(attention: CausalAttention) -> Mamba2:
    weight, heads = attention.in_proj.weight, attention.num_heads
    options = converted_options(attention.d_model, heads, attention.head_dim)
    mixer = Mamba2(attention.d_model, **options, device=weight.device, dtype=weight.dtype)
    width = mixer.d_inner
    assert mixer.conv1d.bias is not None
    for parameter in (mixer.in_proj.weight, mixer.in_proj.bias, mixer.conv1d.weight, mixer.conv1d.bias, mixer.D):
        parameter.zero_()
    columns = slice(width, 4 * width)  # x, B and C, after the gate
    mixer.in_proj.weight[columns] = _reordered(weight, heads)
    mixer.in_proj.bias[:width] = OPEN_GATE
    mixer.conv1d.weight[:, :, -1] = 1
    mixer.dt_bias.fill_(UNIT_STEP)
    mixer.A_log.fill_(math.log(SLOW_RATE))
    mixer.out_proj.weight.copy_(attention.out_proj.weight)
    mixer.out_proj.bias.zero_()
    if attention.in_proj.bias is not None:
        mixer.in_proj.bias[columns] = _reordered(attention.in_proj.bias, heads)
        mixer.out_proj.bias.copy_(attention.out_proj.bias)
    return mixer


def _reordered(of_attention: torch.Tensor, heads: int) -> torch.Tensor:
    """Return the rows of values, keys and scaled queries, given those of queries, keys and values."""
    q, k, v = of_attention.chunk(3)
    return torch.cat([v, k, q * (len(q) // heads) ** -0.5])
