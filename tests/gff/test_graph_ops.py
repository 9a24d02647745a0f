"""Tests of the sums over edges and over graphs, by operations of PyTorch and by Triton kernels."""

import pytest
import torch
from small_graphs import triangles_or_trees

from supa_gff import GraphSet
from supa_gff.graph_ops.function import edge_sum
from supa_gff.stacked.batches import PaddedBatches
from supa_gff.topology import Topology


@pytest.mark.parametrize(("nodes", "edges", "channels"), [(40, 100, 5), (7, 0, 64), (90, 333, 80)])
def test_sum_over_edges_equals_the_product_with_the_adjacency_matrix(kernel_device, nodes, edges, channels):
    random = torch.Generator().manual_seed(edges)
    x, slope = (torch.randn(nodes, channels, generator=random, dtype=torch.float64) for _ in range(2))
    source, goal = torch.randint(nodes, (2, edges), generator=random)
    adjacency = torch.zeros(nodes, nodes, dtype=torch.float64).index_put_(
        (goal, source), torch.ones(edges, dtype=torch.float64), accumulate=True
    )
    own = x.to(kernel_device).requires_grad_()
    total = edge_sum(own, source.to(kernel_device), goal.to(kernel_device))
    (grad,) = torch.autograd.grad(total, own, slope.to(kernel_device))
    torch.testing.assert_close(total.cpu(), adjacency @ x)
    torch.testing.assert_close(grad.cpu(), adjacency.t() @ slope)


def test_moments_of_a_padded_batch_are_those_of_its_graphs(kernel_device):
    """Few values are possible, so several nodes of a graph have the largest one.

    None is zero, because ``scatter_reduce`` counts its initial zero among them.
    """
    graphs = GraphSet.of(triangles_or_trees(40, 3)).to(kernel_device)
    batches = PaddedBatches(graphs, 2)
    members = [torch.arange(9), torch.arange(20, 27)]
    indices, shape = batches.pad([[own] for own in members])
    batch = batches.batch(indices[:, 0].to(kernel_device), shape)
    random = torch.Generator().manual_seed(0)
    nodes, units = batch.num_nodes, batch.num_graphs
    values = torch.randint(-3, 3, (1, nodes, 66), generator=random).to(kernel_device) + 0.5
    values = values.double().requires_grad_()
    slope = torch.randn(1, units, 3 * 66, generator=random, dtype=torch.float64).to(kernel_device)
    real = (batch.filled > 0)[None, :, None]
    slope = slope * real

    pooled = batch.topology(None).pool(values, "moments") * real
    (grad,) = torch.autograd.grad(pooled, values, slope)
    plain = Topology(batch.edge_index, batch.graph, units, nodes)
    expected = torch.cat([plain.pool(values, how) for how in ("sum", "mean", "max")], 2) * real
    (expected_grad,) = torch.autograd.grad(expected, values, slope)
    torch.testing.assert_close(pooled, expected)
    torch.testing.assert_close(grad, expected_grad)
    assert not grad[0, batch.graph == shape.units - 1].any()
    assert len(values[0, batch.graph == 0].unique()) < 7
