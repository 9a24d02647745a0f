"""Launches of the Triton kernels of sums over edges and over graphs."""

import torch
import triton
from torch import Tensor

from supa_gff.graph_ops.backend import device_guard
from supa_gff.graph_ops.kernels import edge_sum_kernel, moments_backward_kernel, moments_kernel

EDGES = 32
"""Edges of a program."""
ROWS = 32
"""Nodes of a tile."""
MOST_CHANNELS = 64
"""Most channels of a program."""


def add_edges(x: Tensor, source: Tensor, goal: Tensor) -> Tensor:
    """Add the features of the source of each edge to its target.

    Args:
        x: (nodes, channels) contiguous node features.
        source: (edges,) int64 source nodes.
        goal: (edges,) int64 target nodes.

    Returns:
        (nodes, channels) sums.
    """
    total, count = torch.zeros_like(x), len(source)
    if count and x.numel():
        blocks, options = _of_channels(x.shape[1])
        with device_guard(x):
            edge_sum_kernel[triton.cdiv(count, EDGES), blocks](
                x, source.contiguous(), goal.contiguous(), total, count, len(x), EDGES=EDGES, **options
            )
    return total


def pool_moments(values: Tensor, begin: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the sum, mean and maximum over the nodes of each graph.

    Args:
        values: (nodes, channels) contiguous values.
        begin: (graphs,) int64 first node of each graph.
        sizes: (graphs,) int64 number of nodes of each graph; 0 for zeros.

    Returns:
        (graphs, 3 * channels) results, and the (graphs, channels) numbers of nodes with the largest value.
    """
    graphs, channels = len(sizes), values.shape[1]
    pooled, ties = values.new_empty(graphs, 3 * channels), values.new_empty(graphs, channels)
    blocks, options = _of_channels(channels)
    with device_guard(values):
        moments_kernel[graphs, blocks](values, begin, sizes, pooled, ties, ROWS=ROWS, **options)
    return pooled, ties


def pool_moments_backward(
    grad: Tensor, values: Tensor, graph: Tensor, sizes: Tensor, pooled: Tensor, ties: Tensor
) -> Tensor:
    """Compute the gradient of `pool_moments`.

    Args:
        grad: (graphs, 3 * channels) contiguous gradient of the results.
        values: (nodes, channels) contiguous values.
        graph: (nodes,) int64 graph of each node.
        sizes: (graphs,) int64 number of nodes of each graph; 0 for zeros.
        pooled: Results of `pool_moments`.
        ties: See there.

    Returns:
        (nodes, channels) gradient of the values.
    """
    found, (nodes, channels) = torch.empty_like(values), values.shape
    blocks, options = _of_channels(channels)
    with device_guard(values):
        moments_backward_kernel[triton.cdiv(nodes, ROWS), blocks](
            grad, values, graph, sizes, pooled, ties, found, nodes, ROWS=ROWS, **options
        )
    return found


def _of_channels(channels: int) -> tuple[int, dict[str, int]]:
    """Return the number of blocks of channels, and the constants of a launch."""
    block = min(MOST_CHANNELS, triton.next_power_of_2(channels))
    return triton.cdiv(channels, block), {"CHANNELS": channels, "BLOCK": block}
