"""Stack of a generator: Mamba, Mamba-2, a hybrid or a causal Transformer."""

from typing import Any

from torch import nn

from supa_mamba.generator.config import GeneratorConfig
from supa_mamba.modules.attention import CausalAttention
from supa_mamba.modules.conversion import converted_options
from supa_mamba.modules.hybrid import HybridStack
from supa_mamba.modules.initialisation import Device
from supa_mamba.modules.mamba2 import Mamba2
from supa_mamba.modules.parallel import parallel_pairs
from supa_mamba.modules.stack import BlockStack, MambaStack

_ATTENTION_EVERY = 4
_HEAD_WIDTH = 32
_ROUNDING = 16
"""The number of hidden features of an MLP is a multiple of this number."""


def new_stack(config: GeneratorConfig, *, device: Device = None) -> BlockStack:
    """Build the stack of a generator.

    Args:
        config: Sizes of the generator.
        device: Device of the parameters.

    Returns:
        The stack. Heads have 32 features. Every fourth layer of a hybrid is attention. Each layer of a Transformer is
        attention with rotary embeddings in half of the features of a head, or Mamba-2 or Mamba with the sizes of a
        converted layer; and a gated MLP; see `hidden_features`. Pairs of layers are one layer each.

    Raises:
        ValueError: If the layers of a pair differ in kind.
    """
    stack = _unpaired_stack(config, device)
    for number in sorted(config.paired_layers, reverse=True):
        stack = parallel_pairs(stack, number, number + 2)
    return stack


def _unpaired_stack(config: GeneratorConfig, device: Device) -> BlockStack:
    width, layers = config.d_model, config.n_layer
    if config.model == "mamba":
        return MambaStack(width, layers, block=config.block, d_state=config.d_state, device=device)
    if config.model == "transformer":
        heads = width // _HEAD_WIDTH
        return HybridStack(
            width,
            layers,
            set(range(layers)) - set(config.mamba_layers),
            heads,
            config.mamba_mixer,
            d_intermediate=hidden_features(width, config.d_state),
            rotary_emb_dim=_HEAD_WIDTH // 2,
            block=config.block,
            device=device,
            **(converted_options(width, heads, mixer=config.mamba_mixer) if config.mamba_layers else {}),
        )
    options: dict[str, Any] = {
        "d_state": config.d_state, "headdim": _HEAD_WIDTH, "block": config.block, "device": device,
    }  # fmt: skip
    if config.model == "hybrid":
        attention = range(_ATTENTION_EVERY - 1, layers, _ATTENTION_EVERY)
        return HybridStack(width, layers, attention, width // _HEAD_WIDTH, "mamba2", **options)
    return MambaStack(width, layers, "mamba2", **options)


def hidden_features(d_model: int, d_state: int) -> int:
    """Return the size of the MLPs of a Transformer that has as many parameters as Mamba-2 of the same width and depth.

    A layer of Mamba-2 has about 6 d² + 2 d N parameters for d features and N states, attention has 4 d², and a gated
    MLP with m hidden features has 3 d m. So m is about 2 (d + N) / 3.

    Args:
        d_model: Number of features of a row.
        d_state: Number of states per channel of Mamba-2.

    Returns:
        The multiple of 16, at least 16, with the closest number of parameters.

    Example:
        >>> from supa_mamba.generator.trunk import hidden_features
        >>> hidden_features(192, 16)
        144
    """
    heads = d_model // _HEAD_WIDTH
    mamba = _parameters(Mamba2(d_model, d_state=d_state, headdim=_HEAD_WIDTH, device="meta"))
    attention = _parameters(CausalAttention(d_model, heads, device="meta"))
    norm = d_model
    return max(1, round((mamba - attention - norm) / (3 * d_model * _ROUNDING))) * _ROUNDING


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
