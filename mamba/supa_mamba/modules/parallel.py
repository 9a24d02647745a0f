"""Pairs of layers that are evaluated side by side, as one layer of twice the width."""

import copy
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from supa.checks import counted
from supa_mamba.modules.block import MambaBlock
from supa_mamba.modules.initialisation import mark_no_weight_decay
from supa_mamba.modules.mamba import Mamba
from supa_mamba.modules.mamba2 import Mamba2
from supa_mamba.modules.mixer_sizes import OPTIONS, WIDTHS, has_inner_norms, input_sizes, mixer_options
from supa_mamba.modules.mlp import GatedMLP
from supa_mamba.modules.norm import RMSNorm
from supa_mamba.modules.options import check_at_least
from supa_mamba.modules.stack import BlockStack

S = TypeVar("S", bound=BlockStack)
Weights = dict[str, Tensor]


@torch.no_grad()
def parallel_pairs(stack: S, first: int, last: int) -> S:
    """Replace pairs of consecutive layers by layers of twice the width, which evaluate both layers of a pair at once.

    Two layers compute y = x + M₁(N₁(x)) and then y + M₂(N₂(y)), with norms N and mixers M. Side by side, both read the
    same rows::

        y = x + M₁(N₁(x)) + M₂(N₂(x))
        z = y + F₁(N'₁(y)) + F₂(N'₂(y))         (if the layers have MLPs F)

    This is not the same function, but close to it where each layer changes the residual little. It is exactly one
    ordinary layer: its norm has no weights, because those of both norms are factors of its input projection; attention
    has the heads of both layers, Mamba-2 their heads and groups, Mamba their channels in two groups, and the MLP their
    hidden features; its output projection adds both results. Half of the kernels then do the work of the pair.

    The projection to the step sizes, B and C of a wide layer of Mamba, and the one of its step sizes, have a block for
    each half, and zeros elsewhere, which a training may change.

    Args:
        stack: Stack of `Mamba`, `Mamba2` or `CausalAttention`. It is not modified.
        first: Index of the first layer, from 0.
        last: Index after the last layer. Layers ``first`` and ``first + 1`` form the first pair, and so on.

    Returns:
        A copy of the stack with a layer in place of each pair. It shares no parameters with the given one.

    Raises:
        ValueError: If a layer does not exist, the number of layers is odd, or the layers of a pair differ in kind or in
            their sizes.

    Example:
        >>> import torch
        >>> from supa_mamba import HybridStack, parallel_pairs
        >>> stack = HybridStack(16, 6, range(6), num_heads=2, d_intermediate=32)
        >>> wide = parallel_pairs(stack, 2, 6)  # layers 2 and 3, and layers 4 and 5
        >>> [block.mixer.num_heads for block in wide.blocks()]
        [2, 2, 4, 4]
        >>> wide(torch.randn(8, 16), torch.tensor([0, 3, 8])).shape  # packed sequences of 3 and 5 rows
        torch.Size([8, 16])

    Source:
        Leveraging the true depth of LLMs (arXiv 2502.02790), section 4.
    """
    check_at_least(0, first=first, last=last)
    if not isinstance(stack, BlockStack):
        raise ValueError(
            f"stack: a {type(stack).__name__} was given, but it must be a MambaStack or HybridStack, such as the stack "
            "of a generator."
        )
    blocks = list(stack.blocks())
    if not first < last <= len(blocks):
        raise ValueError(
            f"first, last: {first} and {last} were given, but the stack has {counted(len(blocks), 'layer')}; they must "
            "name at least one pair of these."
        )
    if (last - first) % 2:
        raise ValueError(f"first, last: {counted(last - first, 'layer')} cannot be divided into pairs.")
    paired = copy.deepcopy(stack)
    layers = list(paired.layers)
    wide = [_side_by_side(number, *blocks[number : number + 2]) for number in range(first, last, 2)]
    paired.layers = nn.ModuleList([*layers[:first], *wide, *layers[last:]])
    return paired.train(stack.training)


def _side_by_side(number: int, one: Any, other: Any) -> MambaBlock:
    """Return a layer in place of two, the first of which has the given index."""
    mixers: list[Any] = [one.mixer, other.mixer]
    options = _options(number, one, other)
    weight = mixers[0].in_proj.weight
    wide = MambaBlock(
        mixers[0].d_model,
        type(mixers[0]),
        norm_epsilon=one.norm.eps,
        d_intermediate=sum(block.mlp.fc2.in_features for block in (one, other) if block.mlp is not None),
        device="meta",
        dtype=weight.dtype,
        **options,
    )
    further = _mamba2 if isinstance(mixers[0], Mamba2) else _mamba if isinstance(mixers[0], Mamba) else _projections
    weights = {f"mixer.{name}": value for name, value in further(*mixers).items()}
    weights["mixer.in_proj.weight"] = _rows(
        [_after_norm(block.norm, block.mixer.in_proj) for block in (one, other)],
        input_sizes(mixers[0]),
    )
    weights["norm.weight"] = torch.ones_like(one.norm.weight)
    if one.mlp is not None:
        weights["norm2.weight"] = torch.ones_like(one.norm2.weight)
        weights |= {f"mlp.{name}": value for name, value in _mlp(one.norm2, one.mlp, other.norm2, other.mlp).items()}
    wide.load_state_dict(weights, assign=True)
    mark_no_weight_decay(wide.mixer, getattr(wide.mixer, "no_weight_decay", ()))  # type: ignore[arg-type]
    return wide.requires_grad_()


def _options(number: int, one: Any, other: Any) -> dict[str, Any]:
    """Return the options of the mixer of a wide layer. The layers must have the same ones."""
    kinds = [type(block.mixer) for block in (one, other)]
    if kinds[0] is not kinds[1] or kinds[0] not in OPTIONS:
        raise ValueError(
            f"Layers {number} and {number + 1} are {kinds[0].__name__} and {kinds[1].__name__}, but a pair needs two "
            f"layers of the same kind: {', '.join(kind.__name__ for kind in OPTIONS)}."
        )
    for block in (one, other):
        if block.gain is not None or has_inner_norms(block.mixer):
            raise ValueError(
                f"Layers {number} and {number + 1} cannot form a pair, because they are outlier-protected or have "
                "norms of queries and keys, or of B, C and step sizes."
            )
    described = [_description(block) for block in (one, other)]
    differing = [name for name, value in described[0].items() if value != described[1][name]]
    if differing:
        raise ValueError(
            f"Layers {number} and {number + 1} cannot form a pair, because they differ in {', '.join(differing)}."
        )
    options = described[0]
    for name in ("norm_epsilon", "d_intermediate"):
        del options[name]
    return options | {name: 2 * options[name] for name in WIDTHS if name in options}


def _description(block: Any) -> dict[str, Any]:
    further = {"norm_epsilon": block.norm.eps, "d_intermediate": 0 if block.mlp is None else block.mlp.fc2.in_features}
    return mixer_options(block.mixer) | further


def _after_norm(norm: RMSNorm, projection: nn.Linear) -> Tensor:
    """Return the weights of a projection with those of the norm before it as factors."""
    return projection.weight * norm.weight


def _rows(weights: Sequence[Tensor], sizes: list[int]) -> Tensor:
    """Join rows such that each part has the rows of the first layer, then those of the second."""
    parts = zip(*(torch.split(x, sizes) for x in weights), strict=True)
    return torch.cat([part for of_both in parts for part in of_both])


def _block_diagonal(one: Tensor, other: Tensor) -> list[Tensor]:
    """Return weights that read the inputs of two layers, and have zeros for those of the other layer."""
    return [
        torch.cat([one, one.new_zeros(len(one), other.shape[1])], 1),
        torch.cat([other.new_zeros(len(other), one.shape[1]), other], 1),
    ]


def _projections(one: Any, other: Any) -> Weights:
    """Return the output projection, which adds, and the biases of both projections."""
    found = {"out_proj.weight": torch.cat([one.out_proj.weight, other.out_proj.weight], 1)}
    if one.in_proj.bias is not None:
        found["in_proj.bias"] = _rows([one.in_proj.bias, other.in_proj.bias], input_sizes(one))
        found["out_proj.bias"] = one.out_proj.bias + other.out_proj.bias
    return found


def _mamba(one: Mamba, other: Mamba) -> Weights:
    selected = one.ngroups * one.d_state
    pairs = _pairs(one, other, "conv1d.weight", "conv1d.bias", "dt_proj.bias", "A_log", "D")
    return {
        **_projections(one, other),
        **{name: torch.cat(values) for name, values in pairs},
        "x_proj.weight": _rows(
            _block_diagonal(one.x_proj.weight, other.x_proj.weight), [one.dt_rank, selected, selected]
        ),
        "dt_proj.weight": torch.cat(_block_diagonal(one.dt_proj.weight, other.dt_proj.weight)),
    }


def _mamba2(one: Mamba2, other: Mamba2) -> Weights:
    of_heads = _pairs(one, other, "A_log", "D", "dt_bias", "norm.weight")
    convolved = input_sizes(one)[1:4]
    return {
        **_projections(one, other),
        **{name: torch.cat(values) for name, values in of_heads},
        **{name: _rows(values, convolved) for name, values in _pairs(one, other, "conv1d.weight", "conv1d.bias")},
    }


def _mlp(norm: RMSNorm, one: GatedMLP, of_other: RMSNorm, other: GatedMLP) -> Weights:
    hidden = one.fc2.in_features
    return {
        "fc1.weight": _rows([_after_norm(norm, one.fc1), _after_norm(of_other, other.fc1)], [hidden, hidden]),
        "fc2.weight": torch.cat([one.fc2.weight, other.fc2.weight], 1),
    }


def _pairs(one: nn.Module, other: nn.Module, *names: str) -> Iterator[tuple[str, list[Tensor]]]:
    """Return the parameters of both modules by name, without those that they lack."""
    of_one, of_other = (dict(module.named_parameters()) for module in (one, other))
    for name in names:
        if name in of_one:
            yield name, [of_one[name], of_other[name]]
