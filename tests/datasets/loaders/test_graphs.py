"""Graphs: edges compared with all pairs, the true tree, and the loader and transforms of PyG."""

import numpy as np
import pytest
import torch

import supa
from supa_datasets import Nearest, Tree, Within

pytest.importorskip("torch_geometric", reason="PyTorch Geometric is not installed")

from torch_geometric.data import Batch
from torch_geometric.loader import DataLoader
from torch_geometric.transforms import Compose, ToUndirected

from supa_datasets import GraphDataset


def _distances(graph):
    position = graph.pos.double().numpy()
    squares = np.square(position[:, None] - position[None]).sum(axis=2)
    np.fill_diagonal(squares, np.inf)
    return squares


@pytest.mark.parametrize("k", [1, 4, 16, 200])
def test_nearest_neighbours_are_those_of_all_pairs(trees, k):
    dataset = GraphDataset(trees[:60], edges=Nearest(k))
    for number in range(60):
        graph = dataset[number]
        squares, n = _distances(graph), graph.num_nodes
        # Nearest first, with ties ordered by number as in a stable sort.
        expected = np.argsort(squares, axis=1, kind="stable")[:, : max(0, min(k, n - 1))]
        source = graph.edge_index[0].reshape(n, -1).numpy() if n > 1 else np.empty((n, 0))
        np.testing.assert_array_equal(source, expected)
        np.testing.assert_array_equal(graph.edge_index[1], np.repeat(np.arange(n), expected.shape[1]))


def test_equal_distances_are_ordered_by_number():
    """Points on a lattice have many equal distances."""
    x, y = (axis.ravel() for axis in np.meshgrid(np.arange(4.0), np.arange(4.0)))
    showers = supa.from_hits(
        "standard", offset=[0, 48], incident_energy=[1.0], x=np.tile(x, 3), y=np.tile(y, 3), energy=np.ones(48),
        slice=np.repeat([7, 8, 9], 16),
    )  # fmt: skip
    graph = GraphDataset(showers, edges=Nearest(6))[0]
    expected = np.argsort(_distances(graph), axis=1, kind="stable")[:, :6]
    np.testing.assert_array_equal(graph.edge_index[0].reshape(48, 6), expected)


@pytest.mark.parametrize("radius", [0.1, 1.5, 4.0, 100.0])
def test_radius_edges_are_those_of_all_pairs(trees, radius):
    dataset = GraphDataset(trees[:20], edges=Within(radius))
    for number in range(20):
        graph = dataset[number]
        target, source = np.nonzero(_distances(graph) <= radius**2)
        np.testing.assert_array_equal(graph.edge_index[1], target)
        np.testing.assert_array_equal(np.sort(graph.edge_index.numpy(), axis=1)[0], np.sort(source))
        found = set(map(tuple, graph.edge_index.T.tolist()))
        assert found == set(zip(source.tolist(), target.tolist(), strict=True))


def test_edge_features_are_steps_and_distances(trees):
    graph = GraphDataset(trees, edges=Nearest(5))[1]
    step = graph.pos[graph.edge_index[1]] - graph.pos[graph.edge_index[0]]
    torch.testing.assert_close(graph.edge_attr[:, :3], step)
    torch.testing.assert_close(graph.edge_attr[:, 3], step.norm(dim=1))


def test_the_tree_is_the_recorded_one(trees):
    dataset = GraphDataset(
        trees, edges=Tree(), targets=["fate", "primary", "num_primaries"], features=["slice", "energy"]
    )
    for number in (0, 7, 33):
        graph, particles = dataset[number], trees[number].particles
        assert graph.num_nodes == particles.num_rows
        child = np.flatnonzero(particles["parent"] >= 0)
        np.testing.assert_array_equal(graph.edge_index[1], child)
        np.testing.assert_array_equal(graph.edge_index[0], particles["parent"][child])
        np.testing.assert_array_equal(graph.fate, particles["fate"])
        np.testing.assert_array_equal(graph.primary, particles["primary"])
        np.testing.assert_array_equal(graph.x[:, 0], particles["slice"])
        np.testing.assert_array_equal(graph.edge_attr[:, 2], np.full(len(child), 2.0))


def test_pyg_batches_and_transforms(trees):
    targets = ["num_primaries", "primary", "attempt", "incident_energy"]
    dataset = GraphDataset(trees, targets=targets, transform=Compose([ToUndirected()]))
    assert dataset[2].is_undirected()
    batch = next(iter(DataLoader(dataset, batch_size=32)))
    assert batch.num_graphs == 32
    assert batch.num_primaries.tolist() == trees.num_primaries[:32].tolist()
    assert batch.attempt.tolist() == list(range(32))
    np.testing.assert_array_equal(batch.primary, trees[:32].primary)
    np.testing.assert_array_equal(batch.ptr, trees.offset[:33])
    assert (batch.batch[batch.edge_index[0]] == batch.batch[batch.edge_index[1]]).all()


def _same(one, other):
    names = set(one.keys())  # the order of the names in PyG is not deterministic
    assert names == set(other.keys())
    assert all(torch.equal(one[name], other[name]) for name in names)


@pytest.mark.parametrize("edges", [Nearest(3), Within(2.0), Tree()])
def test_a_batch_equals_that_of_pyg(trees, edges):
    dataset = GraphDataset(trees, edges=edges, targets=["num_primaries", "primary", "incident_energy"])
    graphs = dataset.__getitems__([4, 100, 4, 7])
    batch = dataset.collate(graphs)
    _same(batch, Batch.from_data_list(list(graphs)))
    _same(batch, dataset.collate([dataset[k] for k in (4, 100, 4, 7)]))
    assert batch.num_graphs == 4
    for one, other in zip(batch.to_data_list(), graphs, strict=True):
        _same(one, other)
    _same(batch.get_example(2), dataset[4])


def test_batches_of_trees_are_bounded_by_the_number_of_particles(trees):
    dataset = GraphDataset(trees, edges=Tree())
    assert dataset.num_points.tolist() == trees.particles.counts.tolist()
    for batch in dataset.batches(max_points=3000):
        assert sum(dataset[k].num_nodes for k in batch) <= 3000
    assert dataset.collate(dataset.__getitems__([0, 1])).edge_index.is_contiguous()


def test_a_transform_is_applied_before_batching(trees):
    dataset = GraphDataset(trees, transform=ToUndirected())
    assert dataset.collate(dataset.__getitems__([4, 5])).is_undirected()


def test_showers_with_at_most_one_hit_are_graphs():
    showers = supa.from_hits(
        "standard", offset=[0, 0, 1, 3], incident_energy=[1.0] * 3, x=[0, 1, 2], y=[0, 0, 0], energy=[1, 1, 1],
        slice=[7, 7, 8],
    )  # fmt: skip
    for edges, counts in ((Nearest(2), [0, 0, 2]), (Within(9.0), [0, 0, 2])):
        dataset = GraphDataset(showers, edges=edges)
        assert [dataset[k].num_edges for k in range(3)] == counts
        assert [dataset[k].num_nodes for k in range(3)] == [0, 1, 2]


MISTAKES = {
    "edges": (lambda t: GraphDataset(t, edges="knn"), "Nearest[(]k[)], Within[(]radius[)] or Tree"),
    "k": (lambda t: GraphDataset(t, edges=Nearest(0)), "from 1 to 1000"),
    "radius": (lambda t: GraphDataset(t, edges=Within(-1)), "above 0"),
    "tree": (lambda t: GraphDataset(supa.simulate(3), edges=Tree()), "needs recorded particles"),
    "fate of hits": (lambda t: GraphDataset(t, targets="fate"), "only have"),
    "layer of particles": (
        lambda t: GraphDataset(t, edges=Tree(), features="layer"),
        "distinct names out of x, y, z, slice",
    ),
}


@pytest.mark.parametrize(("make", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_clear_error(trees, make, message):
    with pytest.raises(ValueError, match=message):
        make(trees)
