"""Tests of the sums over edges and over graphs, by operations of PyTorch and by Triton kernels."""

import pytest
import torch
from small_graphs import triangles_or_trees

from supa_gff import GraphSet
from supa_gff.graph_ops import backend
from supa_gff.graph_ops.function import edge_sum, moments_of_graphs
from supa_gff.stacked import batches
from supa_gff.stacked.batches import PaddedBatches


def random_edges(nodes, edges):
    return torch.randint(nodes, (2, edges), generator=torch.Generator().manual_seed(edges))


def strided(*shape):
    """Return values whose rows are not contiguous."""
    return torch.randn(*reversed(shape), generator=torch.Generator().manual_seed(shape[0]), dtype=torch.float64).t()


@pytest.mark.parametrize(("nodes", "edges", "channels"), [(40, 100, 5), (7, 0, 64), (90, 333, 80)])
def test_sum_over_edges_equals_the_product_with_the_adjacency_matrix(kernel_device, nodes, edges, channels):
    x, slope = strided(nodes, channels), strided(nodes + 1, channels)[1:]
    source, goal = random_edges(nodes, edges)
    adjacency = torch.zeros(nodes, nodes, dtype=torch.float64).index_put_(
        (goal, source), torch.ones(edges, dtype=torch.float64), accumulate=True
    )
    own = x.to(kernel_device).requires_grad_()
    total = edge_sum(own, source.to(kernel_device), goal.to(kernel_device))
    (grad,) = torch.autograd.grad(total, own, slope.to(kernel_device))
    torch.testing.assert_close(total.cpu(), adjacency @ x)
    torch.testing.assert_close(grad.cpu(), adjacency.t() @ slope)


def test_sum_over_edges_has_all_derivatives(kernel_device):
    x = strided(3, 2).to(kernel_device).requires_grad_()
    edges = random_edges(3, 5).to(kernel_device)

    def function(x):
        return (edge_sum(x, *edges) + x).pow(3)

    # The gradient of a sum expands a single number.
    (grad,) = torch.autograd.grad(edge_sum(x, *edges).sum(), x)
    torch.testing.assert_close(grad[:, 0], torch.bincount(edges[0], minlength=3).double())
    assert torch.autograd.gradgradcheck(function, (x,))


@pytest.mark.parametrize("edge", [(0, 4), (4, 0), (-1, 0), (0, -1)])
def test_the_kernel_notices_nodes_that_do_not_exist(only_kernel_device, edge):
    """Operations of PyTorch raise an error on a CPU."""
    source, goal = torch.tensor([[1, edge[0]], [2, edge[1]]], device=only_kernel_device)
    assert edge_sum(torch.ones(4, 3, device=only_kernel_device), source, goal).isnan().any()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_kernels_are_not_used_where_pytorch_must_see_the_operations():
    x = torch.ones(4, 3, device="cuda")
    edges = random_edges(4, 9).cuda()
    assert backend.uses_kernels(x)
    expected = edge_sum(x, *edges)
    torch.use_deterministic_algorithms(True)
    try:
        assert not backend.uses_kernels(x)
    finally:
        torch.use_deterministic_algorithms(False)
    compiled = torch.compile(edge_sum, fullgraph=True, backend="eager")
    assert torch.equal(compiled(x, *edges), expected)
    slopes = torch.func.grad(lambda x: edge_sum(x, *edges).sum())(x)
    torch.testing.assert_close(slopes[:, 0], torch.bincount(edges[0], minlength=4).float())


def test_moments_equal_those_of_each_graph(only_kernel_device):
    """Values are small integers that grow, so that several nodes in the last tile have the largest value."""
    sizes, padding = (100, 0, 33, 1), 7
    random = torch.Generator().manual_seed(0)
    x = torch.randint(-2, 3, (66, sum(sizes) + padding), generator=random)
    x = (x + torch.arange(len(x[0])) // 40).double().t()
    slope = strided(1, 3 * 66).expand(len(sizes) + 1, -1)
    parts = x.requires_grad_()[: sum(sizes)].split(sizes)
    rows = [torch.cat([p.sum(0), p.mean(0), p.amax(0)]) if len(p) else x.new_zeros(3 * 66) for p in parts]
    assert ((parts[0] == parts[0].amax(0)).sum(0) > 1).any()
    expected = torch.stack([*rows, x.new_zeros(3 * 66)])
    (expected_grad,) = torch.autograd.grad(expected, x, slope)

    counts = torch.tensor([*sizes, padding])
    graph = torch.arange(len(counts)).repeat_interleave(counts)
    begin, used = counts.cumsum(0) - counts, torch.tensor([*sizes, 0])
    own = x.detach().to(only_kernel_device).requires_grad_()
    pooled = moments_of_graphs(own, *(v.to(only_kernel_device) for v in (graph, begin, used)))
    (grad,) = torch.autograd.grad(pooled, own, slope.to(only_kernel_device))
    torch.testing.assert_close(pooled.cpu(), expected)
    torch.testing.assert_close(grad.cpu(), expected_grad)


def test_padded_batches_are_pooled_by_the_kernel(only_kernel_device, monkeypatch):
    calls = []
    monkeypatch.setattr(batches, "moments_of_graphs", lambda *a: calls.append(a) or moments_of_graphs(*a))
    graphs = GraphSet.of(triangles_or_trees(40, 3)).to(only_kernel_device)
    padded = PaddedBatches(graphs, 2)
    members = [torch.arange(9), torch.arange(20, 27)]
    indices, shape = padded.pad([[own] for own in members])
    batch = padded.batch(indices[:, 0].to(only_kernel_device), shape)
    values = torch.randn(1, batch.num_nodes, 5, device=only_kernel_device)
    pooled = batch.topology(None).pool(values, "moments").view(2, shape.units, 15)
    assert len(calls) == 1
    for member, own in enumerate(members):
        nodes = values[0].view(2, shape.nodes, 5)[member]
        sizes = (graphs.node_offset[own + 1] - graphs.node_offset[own]).tolist()
        for found, part in zip(pooled[member], nodes[: sum(sizes)].split(sizes), strict=False):
            torch.testing.assert_close(found, torch.cat([part.sum(0), part.mean(0), part.amax(0)]))
        assert not pooled[member, len(own) :].any()
