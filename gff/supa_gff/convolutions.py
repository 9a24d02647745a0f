"""Graph convolutions, by name or from a function, and their split into aggregation and transformation."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from supa.checks import did_you_mean, format_value
from supa_gff.graph_ops.function import edge_sum
from supa_gff.names import CONVOLUTIONS, EDGE_CONVOLUTIONS
from supa_gff.topology import Topology

MakeConvolution = Callable[[int, int], nn.Module]
"""Function that takes in_channels and out_channels and returns a module to call with (x, edge_index)."""

_HEADS = 4


def make_convolution(
    conv: str | MakeConvolution,
    in_channels: int,
    out_channels: int,
    *,
    norm: Callable[[int], nn.Module] | None = None,
    deg: Tensor | None = None,
    edge_channels: int = 0,
) -> nn.Module:
    """Return a new convolution.

    Args:
        conv: One of ``CONVOLUTIONS``, or a function that builds the module.
        in_channels: Number of input channels.
        out_channels: Number of output channels. It must be a multiple of 4 for convolutions with attention heads.
        norm: Function that takes a number of channels and returns the normalisation inside the perceptron of GIN.
            None: no normalisation.
        deg: (largest degree + 1,) int64 histogram of the in-degrees. Required by PNA only.
        edge_channels: Number of features per edge, which the convolution uses. 0: it uses none.

    Returns:
        A module to call with (x, edge_index), and with (x, edge_index, edge_attr) if it uses features of edges.

    Raises:
        ValueError: If the convolution does not exist or cannot use features of edges, the number of channels is not a
            multiple of 4 where required, or PNA has no degrees.
    """
    if edge_channels and conv not in EDGE_CONVOLUTIONS:
        raise ValueError(
            f"The graphs have features of edges, but the convolution {format_value(conv)} cannot use them; choose "
            f"from {', '.join(EDGE_CONVOLUTIONS)}, or omit edge_features=True (--edge-features)."
        )
    if not isinstance(conv, str):
        return conv(in_channels, out_channels)
    if conv not in CONVOLUTIONS:
        raise ValueError(
            f"conv must be one of {', '.join(CONVOLUTIONS)}, or a function, got {format_value(conv)}."
            f"{did_you_mean(conv, CONVOLUTIONS)}"
        )
    from torch_geometric import nn as pyg

    if conv in ("gat", "gatv2", "transformer") and out_channels % _HEADS:
        raise ValueError(f"hidden_channels must be a multiple of {_HEADS} for {conv}, got {out_channels}.")
    if conv == "pna" and deg is None:
        raise ValueError("PNA requires deg=, the histogram of the in-degrees. Network.for_graphs computes it.")
    if conv == "pna" and deg is not None and not deg[1:].any():
        raise ValueError("PNA scales by the degrees of the nodes, but there are no edges; choose another convolution.")
    heads = {"heads": _HEADS}
    edge = {"edge_dim": edge_channels or None}
    makers: dict[str, Callable[[], Any]] = {
        "gcn": lambda: pyg.GCNConv(in_channels, out_channels),
        "gin": lambda: (
            pyg.GINEConv(_perceptron(in_channels, out_channels, norm), **edge)
            if edge_channels
            else pyg.GINConv(_perceptron(in_channels, out_channels, norm))
        ),
        "sage": lambda: pyg.SAGEConv(in_channels, out_channels),
        "gat": lambda: pyg.GATConv(in_channels, out_channels // _HEADS, **heads),
        "gatv2": lambda: pyg.GATv2Conv(in_channels, out_channels // _HEADS, **heads, **edge),
        "graph": lambda: pyg.GraphConv(in_channels, out_channels),
        "pna": lambda: pyg.PNAConv(
            in_channels,
            out_channels,
            aggregators=["mean", "min", "max", "std"],
            scalers=["identity", "amplification", "attenuation"],
            deg=deg,
            **edge,
        ),
        "transformer": lambda: pyg.TransformerConv(in_channels, out_channels // _HEADS, **heads, **edge),
    }
    convolution = makers[conv]()
    assert isinstance(convolution, nn.Module)
    return convolution


def _perceptron(in_channels: int, out_channels: int, norm: Callable[[int], nn.Module] | None) -> nn.Sequential:
    middle = [] if norm is None else [norm(out_channels)]
    return nn.Sequential(
        nn.Linear(in_channels, out_channels), *middle, nn.ReLU(), nn.Linear(out_channels, out_channels)
    )


def convolve(conv: nn.Module, x: Tensor, topology: Topology, hypotheses: int) -> Tensor:
    """Apply a convolution to the nodes of all hypotheses, with the features of the edges if the topology has them.

    Args:
        conv: Convolution from `make_convolution`.
        x: (hypotheses * nodes, channels) float32 node features.
        topology: Edges of the nodes.
        hypotheses: Number of hypotheses.

    Returns:
        (hypotheses * nodes, out_channels) float32 output of the convolution.
    """
    edges, features = topology.edges(hypotheses), topology.edge_features(hypotheses)
    out: Tensor = conv(x, edges) if features is None else conv(x, edges, features)
    return out


def aggregates(conv: nn.Module) -> bool:
    """Return whether a convolution aggregates over neighbours without trained weights before it transforms.

    Args:
        conv: Convolution to check.

    Returns:
        True if ``transform(conv, aggregate(conv, x, edge_index))`` equals ``conv(x, edge_index)``.
    """
    kind = type(conv).__name__
    # A custom convolution may have the same class name. A convolution may also pass messages from target to source.
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
    """Compute the part of a convolution that has no trained weights: the aggregation over neighbours.

    Args:
        conv: Convolution for which `aggregates` returns True.
        x: (nodes, channels) float32 node features.
        edge_index: (2, edges) int64 source and target nodes.

    Returns:
        (nodes, channels) float32: the normalised sum for GCN, the sum for GIN. For SAGE and GraphConv
        (nodes, 2 * channels): the mean or sum over the neighbours, then ``x``.
    """
    kind = type(conv).__name__
    source, goal = edge_index
    if kind == "GCNConv":
        # Kipf and Welling (arXiv 1609.02907), eq. 2: D^-1/2 (A + I) D^-1/2, where D includes the self-loops.
        loop = source == goal
        source, goal = source[~loop], goal[~loop]
        scale = (torch.bincount(goal, minlength=len(x)) + 1).to(x.dtype).rsqrt()
        weighted = x * scale[:, None]
        return (weighted + edge_sum(weighted, source, goal)) * scale[:, None]
    total = edge_sum(x, source, goal)
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
        conv: Convolution for which `aggregates` returns True.
        aggregated: Result of `aggregate`.

    Returns:
        (nodes, out_channels) float32 output of the convolution.
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
