"""Sequences: each order compared with a simple loop, and packed batches."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
import torch

import supa
from supa import Ragged
from supa_datasets import SequenceDataset
from supa_datasets.loaders.ordering import by_depth


def _hits_along_tree(shower):
    """Return the hits in the order of a recursive walk. Hits are numbered in the order of the stopped particles."""
    parent, fate = shower.particles["parent"], shower.particles["fate"]
    number = np.cumsum(fate == 0) - 1
    children = [np.flatnonzero(parent == k) for k in range(len(parent))]
    order = []

    def walk(k):
        if fate[k] == 0:
            order.append(number[k])
        for child in children[k]:
            walk(child)

    for root in np.flatnonzero(parent < 0):
        walk(root)
    return order


def test_the_orders_equal_those_of_a_simple_walk(trees):
    depth = SequenceDataset(trees, order="depth", targets="primary")
    tree = SequenceDataset(trees, order="tree", targets="primary")
    for k in range(0, 300, 13):
        shower = trees[k]
        rows = sorted(range(shower.hits.num_rows), key=lambda h: (shower.slice[h], -shower.energy[h]))
        np.testing.assert_array_equal(depth[k]["points"][:, 3], shower.energy[rows].astype(np.float32))
        np.testing.assert_array_equal(depth[k]["primary"], shower.primary[rows])
        rows = _hits_along_tree(shower)
        np.testing.assert_array_equal(tree[k]["points"][:, 0], shower.x[rows].astype(np.float32))
        np.testing.assert_array_equal(tree[k]["primary"], shower.primary[rows])


def test_trajectories_lead_from_the_primary_to_each_hit(trees):
    dataset = SequenceDataset(trees, order="trajectories", targets=["primary", "num_primaries"])
    for k in (0, 11, 250):
        shower, item = trees[k], dataset[k]
        assert item["lengths"].tolist() == [s + 1 for s in shower.slice.tolist()]
        offset = np.concatenate([[0], np.cumsum(item["lengths"].numpy())])
        np.testing.assert_array_equal(item["primary"], shower.primary)
        for h in range(shower.hits.num_rows):
            path = item["points"][offset[h] : offset[h + 1]]
            np.testing.assert_array_equal(path[:, 2], 2.0 * np.arange(shower.slice[h] + 1))
            end = [shower.x[h], shower.y[h], shower.z[h], shower.energy[h]]
            np.testing.assert_array_equal(path[-1], np.array(end, dtype=np.float32))


@pytest.mark.parametrize("ordered", [True, False])
def test_equal_energies_keep_their_order_in_short_and_long_slices(ordered):
    rng = np.random.default_rng(1)
    offset = np.array([0, 0, 3, 703, 743])
    columns = {"x": rng.normal(size=743), "y": rng.normal(size=743), "energy": rng.integers(1, 6, 743).astype(float)}
    columns["slice"] = rng.choice(np.unique(supa.simulate(50).slice)[:4], 743)
    showers = supa.from_hits("standard", offset=offset, incident_energy=np.full(4, 1e4), **columns)
    if not ordered:  # a caller may build showers itself
        rows = np.concatenate([rng.permutation(np.arange(*span)) for span in pairwise(offset)])
        hits = Ragged({name: column[rows] for name, column in showers.hits.columns.items()}, showers.offset)
        showers = dataclasses.replace(showers, hits=hits)
    expected = np.lexsort((-showers.energy, showers.slice, showers.hits.group_of_row()))
    np.testing.assert_array_equal(by_depth(showers), expected)


@pytest.mark.parametrize("order", ["depth", "tree"])
def test_packed_batches(trees, order):
    dataset = SequenceDataset(trees, order=order, targets=["num_hits", "slice"])
    numbers = [3, 200, 3, 8]
    batch = dataset.collate(dataset.__getitems__(numbers))
    assert batch["cu_seqlens"].dtype == torch.int32
    assert batch["cu_seqlens"].diff().tolist() == batch["num_hits"].tolist() == trees.num_hits[numbers].tolist()
    assert batch["max_seqlen"] == max(trees.num_hits[numbers])
    assert torch.equal(batch["points"], torch.cat([dataset[k]["points"] for k in numbers]))
    assert torch.equal(batch["slice"], torch.cat([dataset[k]["slice"] for k in numbers]))


def test_packed_trajectories(trees):
    dataset = SequenceDataset(trees, order="trajectories", targets="primary", normalisation="fit")
    numbers = [3, 200, 8]
    batch = dataset.collate(dataset.__getitems__(numbers))
    items = [dataset[k] for k in numbers]
    assert batch["offset"].diff().tolist() == trees.num_hits[numbers].tolist()
    lengths = torch.cat([item["lengths"] for item in items])
    assert torch.equal(batch["cu_seqlens"].diff(), lengths.to(torch.int32))
    assert batch["max_seqlen"] == lengths.max()
    assert torch.equal(batch["points"], torch.cat([item["points"] for item in items]))


def test_batches_are_bounded_by_the_steps_of_all_paths(trees, folder):
    for source in (trees, folder / "trees.h5"):
        dataset = SequenceDataset(source, order="trajectories", split="test")
        assert dataset.num_points.tolist() == [len(dataset[k]["points"]) for k in range(len(dataset))]


def test_hits_without_known_slices_are_ordered_by_layer():
    config = supa.preset("standard").replace(readout_layers=[[5, 8], [9, 9], [10, 27]])
    showers = supa.from_hits(
        config, offset=[0, 4], incident_energy=[9.0], x=[0, 1, 2, 3], y=[0] * 4, energy=[1, 2, 3, 4], layer=[1, 0, 2, 0]
    )
    assert SequenceDataset(showers, features=["layer"])[0]["points"].flatten().tolist() == [0, 0, 1, 2]
    with pytest.raises(ValueError, match="have only the layers of their hits"):
        SequenceDataset(showers, features=["layer"], targets="slice")[0]


def test_showers_without_hits_are_empty_sequences():
    showers = supa.from_hits("standard", offset=[0, 0, 0], incident_energy=[1, 1], x=[], y=[], energy=[], slice=[])
    dataset = SequenceDataset(showers)
    batch = dataset.collate(dataset.__getitems__([0, 1]))
    assert batch["cu_seqlens"].tolist() == [0, 0, 0]
    assert batch["max_seqlen"] == 0


MISTAKES = {
    "order": (lambda t: SequenceDataset(t, order="random"), "'depth', 'tree' or 'trajectories'"),
    "not recorded": (lambda t: SequenceDataset(supa.simulate(3), order="tree"), "needs recorded particles"),
    "layer": (lambda t: SequenceDataset(t, order="trajectories", features="layer"), "use slice"),
}


@pytest.mark.parametrize(("make", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_clear_error(trees, make, message):
    with pytest.raises(ValueError, match=message):
        make(trees)
