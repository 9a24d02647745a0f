"""Message passing by name or of the user's own, and the linear part of it that can be computed once."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from supa.checks import did_you_mean, format_value
from supa_gff.names import CONVOLUTIONS

MakeConvolution = Callable[[int, int], nn.Module]
"""Makes a convolution from its numbers of input and output features; called with (x, edge_index)."""

_HEADS = 4


def make_convolution(
    conv: str | MakeConvolution,
    in_features: int,
    out_features: int,
    *,
    norm: Callable[[int], nn.Module] | None = None,
    degrees: Tensor | None = None,
) -> nn.Module:
    """Make a convolution.

    Args:
        conv: one of ``CONVOLUTIONS``, or a function of input and output features.
        in_features: features of a node that come in.
        out_features: features that go out; a multiple of 4 for the convolutions with heads.
        norm: normalisation inside the two-layer perceptron of GIN.
        degrees: histogram of the nodes' degrees, which PNA needs.

    Returns:
        A module called with (x, edge_index).

    Raises:
        ValueError: there is no such convolution, or something that it needs is missing.
    """
    if not isinstance(conv, str):
        return conv(in_features, out_features)
    if conv not in CONVOLUTIONS:
        raise ValueError(
            f"{format_value(conv)} was given, but a convolution is one of {', '.join(CONVOLUTIONS)}, or a function."
            f"{did_you_mean(conv, CONVOLUTIONS)}"
        )
    from torch_geometric import nn as pyg

    if conv in ("gat", "gatv2", "transformer") and out_features % _HEADS:
        raise ValueError(f"The width is {out_features}, but for {conv} it must be a multiple of {_HEADS}.")
    if conv == "pna" and degrees is None:
        raise ValueError("PNA needs the histogram of the nodes' degrees; make the network with Network.for_graphs.")
    if conv == "pna" and degrees is not None and not degrees[1:].any():
        raise ValueError("PNA scales by the nodes' degrees, but there are no edges; choose another convolution.")
    heads = {"heads": _HEADS}
    makers: dict[str, Callable[[], Any]] = {
        "gcn": lambda: pyg.GCNConv(in_features, out_features),
        "gin": lambda: pyg.GINConv(_perceptron(in_features, out_features, norm)),
        "sage": lambda: pyg.SAGEConv(in_features, out_features),
        "gat": lambda: pyg.GATConv(in_features, out_features // _HEADS, **heads),
        "gatv2": lambda: pyg.GATv2Conv(in_features, out_features // _HEADS, **heads),
        "graph": lambda: pyg.GraphConv(in_features, out_features),
        "pna": lambda: pyg.PNAConv(
            in_features,
            out_features,
            aggregators=["mean", "min", "max", "std"],
            scalers=["identity", "amplification", "attenuation"],
            deg=degrees,
        ),
        "transformer": lambda: pyg.TransformerConv(in_features, out_features // _HEADS, **heads),
    }
    made = makers[conv]()
    assert isinstance(made, nn.Module)
    return made


def _perceptron(in_features: int, out_features: int, norm: Callable[[int], nn.Module] | None) -> nn.Sequential:
    middle = [] if norm is None else [norm(out_features)]
    return nn.Sequential(
        nn.Linear(in_features, out_features), *middle, nn.ReLU(), nn.Linear(out_features, out_features)
    )


def aggregates(conv: nn.Module) -> bool:
    """Tell whether a convolution is a fixed linear sum over neighbours followed by a trained part.

    Args:
        conv: the convolution.

    Returns:
        Whether `aggregate` and `transform` do together what the convolution does.
    """
    kind = type(conv).__name__
    # A user's own convolution may bear the same name, or run against the edges' direction.
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
    """Do the fixed part of a convolution: GCN's normalised sum, GIN's sum, SAGE's mean and GraphConv's sum beside x.

    Args:
        conv: a convolution for which `aggregates` holds.
        x: (nodes, features) float32.
        edge_index: (2, edges) int64.

    Returns:
        (nodes, features) float32; for SAGE and GraphConv (nodes, 2 * features), the sum first.
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
    """Do the trained part of a convolution.

    Args:
        conv: a convolution for which `aggregates` holds.
        aggregated: result of `aggregate`.

    Returns:
        (nodes, out features) float32.
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
