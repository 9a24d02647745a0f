"""Sums over edges and over graphs."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from supa_gff.graph_ops import backend


def edge_sum(x: Tensor, source: Tensor, goal: Tensor) -> Tensor:
    """Add the features of the source of each edge to its target.

    On a GPU one Triton kernel does it, without storing the features of edges. The order of its additions is random, as
    in ``index_add_``, and an edge with a node that does not exist makes the results NaN.

    Args:
        x: (nodes, channels) float32 or float64 node features.
        source: (edges,) int64 source nodes.
        goal: (edges,) int64 target nodes.

    Returns:
        (nodes, channels) sums.
    """
    if backend.uses_kernels(x):
        total: Tensor = _EdgeSum.apply(x, source, goal)  # type: ignore[no-untyped-call]
        return total
    # The gradient of `index_select` is a sum without the sort that the gradient of indexing needs on a GPU.
    return torch.zeros_like(x).index_add_(0, goal, x.index_select(0, source))


def moments_of_graphs(values: Tensor, graph: Tensor, begin: Tensor, sizes: Tensor) -> Tensor:
    """Compute the sum, mean and maximum over the nodes of each graph by Triton kernels.

    Equal maxima share the gradient.

    Args:
        values: (nodes, channels) float32 or float64 values on a CUDA device.
        graph: (nodes,) int64 graph of each node, in ascending order.
        begin: (graphs,) int64 first node of each graph.
        sizes: (graphs,) int64 number of nodes of each graph, or 0 for a graph whose results are zero.

    Returns:
        (graphs, 3 * channels) sums, means and maxima.
    """
    pooled: Tensor = _Moments.apply(values, graph, begin, sizes)  # type: ignore[no-untyped-call]
    return pooled


class _EdgeSum(torch.autograd.Function):
    """`edge_sum` by a kernel. The gradient is the sum over the reversed edges, so any derivative exists."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, source: Tensor, goal: Tensor) -> Tensor:
        from supa_gff.graph_ops.launch import add_edges

        ctx.save_for_backward(source, goal)
        return add_edges(x.contiguous(), source, goal)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        source, goal = ctx.saved_tensors
        return edge_sum(slopes[0], goal, source), None, None


class _Moments(torch.autograd.Function):
    """`moments_of_graphs`."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, graph: Tensor, begin: Tensor, sizes: Tensor) -> Tensor:
        from supa_gff.graph_ops.launch import pool_moments

        values = values.contiguous()
        pooled, ties = pool_moments(values, begin, sizes)
        ctx.save_for_backward(values, graph, sizes, pooled, ties)
        return pooled

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        from supa_gff.graph_ops.launch import pool_moments_backward

        return pool_moments_backward(slopes[0].contiguous(), *ctx.saved_tensors), None, None, None
