"""Convolutions by name or from the user, and their untrained linear part, which a cache computes once."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from supa.checks import did_you_mean, format_value
from supa_gff.names import CONVOLUTIONS

MakeConvolution = Callable[[int, int], nn.Module]
"""A function from in_channels and out_channels to a module that is called with (x, edge_index)."""

_HEADS = 4


def make_convolution(
    conv: str | MakeConvolution,
    in_channels: int,
    out_channels: int,
    *,
    norm: Callable[[int], nn.Module] | None = None,
    deg: Tensor | None = None,
) -> nn.Module:
    """Make a convolution.

    Args:
        conv: one of ``CONVOLUTIONS``, or a function.
        in_channels: number of input channels.
        out_channels: number of output channels; a multiple of 4 for the convolutions with heads.
        norm: normalisation inside the two-layer perceptron of GIN; a function of the number of channels.
        deg: (largest degree + 1,) int64 histogram of in-degrees; PNA needs it.

    Returns:
        A module that is called with (x, edge_index).

    Raises:
        ValueError: there is no such convolution, or the channels or degrees do not fit.
    """
    if not isinstance(conv, str):
        return conv(in_channels, out_channels)
    if conv not in CONVOLUTIONS:
        raise ValueError(
            f"{format_value(conv)} was given, but a convolution is one of {', '.join(CONVOLUTIONS)}, or a function."
            f"{did_you_mean(conv, CONVOLUTIONS)}"
        )
    from torch_geometric import nn as pyg

    if conv in ("gat", "gatv2", "transformer") and out_channels % _HEADS:
        raise ValueError(f"hidden_channels is {out_channels}, but for {conv} it must be a multiple of {_HEADS}.")
    if conv == "pna" and deg is None:
        raise ValueError("PNA needs deg=, the histogram of the nodes' degrees; Network.for_graphs computes it.")
    if conv == "pna" and deg is not None and not deg[1:].any():
        raise ValueError("PNA scales by the nodes' degrees, but there are no edges; choose another convolution.")
    heads = {"heads": _HEADS}
    makers: dict[str, Callable[[], Any]] = {
        "gcn": lambda: pyg.GCNConv(in_channels, out_channels),
        "gin": lambda: pyg.GINConv(_perceptron(in_channels, out_channels, norm)),
        "sage": lambda: pyg.SAGEConv(in_channels, out_channels),
        "gat": lambda: pyg.GATConv(in_channels, out_channels // _HEADS, **heads),
        "gatv2": lambda: pyg.GATv2Conv(in_channels, out_channels // _HEADS, **heads),
        "graph": lambda: pyg.GraphConv(in_channels, out_channels),
        "pna": lambda: pyg.PNAConv(
            in_channels,
            out_channels,
            aggregators=["mean", "min", "max", "std"],
            scalers=["identity", "amplification", "attenuation"],
            deg=deg,
        ),
        "transformer": lambda: pyg.TransformerConv(in_channels, out_channels // _HEADS, **heads),
    }
    made = makers[conv]()
    assert isinstance(made, nn.Module)
    return made


def _perceptron(in_channels: int, out_channels: int, norm: Callable[[int], nn.Module] | None) -> nn.Sequential:
    middle = [] if norm is None else [norm(out_channels)]
    return nn.Sequential(
        nn.Linear(in_channels, out_channels), *middle, nn.ReLU(), nn.Linear(out_channels, out_channels)
    )


def aggregates(conv: nn.Module) -> bool:
    """Return whether a convolution is an untrained linear sum over neighbours, followed by a trained part.

    Args:
        conv: the convolution.

    Returns:
        Whether `transform` of `aggregate` computes the convolution.
    """
    kind = type(conv).__name__
    # A convolution of the user's may have the same name, or pass messages against the edges' direction.
    if not type(conv).__module__.startswith("torch_geometric.") or getattr(conv, "flow", None) != "source_to_target":
        return False
    module: Any = conv
    if kind == "GCNConv":
        return bool(module.aggr == "add" and module.normalize and module.add_self_loops and not module.improved)
    if kind == "GINConv":
        return module.aggr == "add" and not isinstance(module.eps, nn.Parameter)
    if kind == "SAGEConv":
        return bool(module.aggr == "mean" and not module.normalize and not module.project and module.root_weight)
    return kind == "GraphConv" and module.aggr == "add"


def aggregate(conv: nn.Module, x: Tensor, edge_index: Tensor) -> Tensor:
    """Compute the untrained part: GCN's normalised sum, GIN's sum, SAGE's mean beside x, GraphConv's sum beside x.

    Args:
        conv: a convolution for which `aggregates` holds.
        x: (nodes, channels) float32.
        edge_index: (2, edges) int64.

    Returns:
        (nodes, channels) float32; for SAGE and GraphConv (nodes, 2 * channels), the sum first.
    """
    kind = type(conv).__name__
    source, goal = edge_index
    if kind == "GCNConv":
        # Kipf and Welling (arXiv 1609.02907), eq. 2: D^-1/2 (A + I) D^-1/2, D counted with the loops.
        loop = source == goal
        source, goal = source[~loop], goal[~loop]
        scale = (torch.bincount(goal, minlength=len(x)) + 1).to(x.dtype).rsqrt()
        weighted = x * scale[:, None]
        return (weighted + _sum(weighted, source, goal)) * scale[:, None]
    total = _sum(x, source, goal)
    if kind == "GINConv":
        eps: Any = conv.eps
        summed: Tensor = total + (1 + eps) * x
        return summed
    if kind == "SAGEConv":
        total = total / torch.bincount(goal, minlength=len(x)).clamp(min=1)[:, None]
    return torch.cat([total, x], 1)


def transform(conv: nn.Module, aggregated: Tensor) -> Tensor:
    """Compute the trained part of a convolution.

    Args:
        conv: a convolution for which `aggregates` holds.
        aggregated: result of `aggregate`.

    Returns:
        (nodes, out_channels) float32.
    """
    kind = type(conv).__name__
    module: Any = conv
    out: Tensor
    if kind == "GCNConv":
        out = module.lin(aggregated)
        return out if module.bias is None else out + module.bias
    if kind == "GINConv":
        out = module.nn(aggregated)
        return out
    total, x = aggregated.chunk(2, 1)
    left, right = (module.lin_l, module.lin_r) if kind == "SAGEConv" else (module.lin_rel, module.lin_root)
    out = left(total) + right(x)
    return out


def _sum(x: Tensor, source: Tensor, goal: Tensor) -> Tensor:
    return torch.zeros_like(x).index_add_(0, goal, x[source])
