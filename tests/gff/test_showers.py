"""Tests of shower graphs: targets and features against the simulated showers."""

import math

import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed")
pytest.importorskip("torch_geometric", reason="PyTorch Geometric is not installed")

import torch
from small_graphs import make_trainer

import supa
import supa_datasets
from supa_datasets import PRESET_CLASSES, Tree, Within
from supa_datasets.loaders.splits import in_split
from supa_datasets.loaders.tasks import MOST_PRIMARIES
from supa_gff import Network, preset
from supa_gff import showers as module
from supa_gff.heads import Head
from supa_gff.losses import SquaredError
from supa_gff.showers import SHOWER_TASKS, accuracy_up_to_order, shower_graphs

PRESETS = ("critical", "two-primaries", "standard")


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def sources():
    poisson = supa.preset("two-primaries").replace(num_primaries="poisson:2")
    return {
        "num_primaries": supa.simulate(200, poisson, seed=3),
        "primary": supa.simulate(200, "two-primaries", seed=3),
        "preset": [supa.simulate(80, name, seed=3) for name in PRESETS],
        "incident_energy": supa.simulate(200, "critical", seed=3),
    }


@pytest.fixture(scope="module")
def made(sources):
    return {task: shower_graphs(sources[task], task) for task in SHOWER_TASKS}


def rows(made, k):
    return slice(int(made.graphs.node_offset[k]), int(made.graphs.node_offset[k + 1]))


def test_target_of_graph_equals_shower(sources, made):
    for k, number in enumerate(made["num_primaries"].number):
        shower = sources["num_primaries"][number]
        assert made["num_primaries"].graphs.target[k] == min(len(shower.primaries["x"]), MOST_PRIMARIES) - 1
    for k, number in enumerate(made["incident_energy"].number):
        energy = sources["incident_energy"].incident_energy[number]
        assert float(made["incident_energy"].graphs.target[k]) == pytest.approx(math.log(energy), abs=1e-6)
    recognised = made["preset"]
    assert recognised.classes == tuple(name for name in PRESET_CLASSES if name in PRESETS)
    for k, number in enumerate(recognised.number):
        assert recognised.classes[int(recognised.graphs.target[k])] == PRESETS[number // 80]


def test_nodes_of_graph_are_hits_of_shower(sources, made):
    for task in ("num_primaries", "primary", "incident_energy"):
        for k, number in enumerate(made[task].number):
            shower = sources[task][number]
            expected = np.column_stack([shower.x, shower.y, shower.z]).astype(np.float32)
            np.testing.assert_array_equal(made[task].position[rows(made[task], k)].numpy(), expected)


def test_primaries_are_ordered_along_the_axis_of_the_shower(sources, made):
    task = made["primary"]
    unit = None
    for k, number in enumerate(task.number):
        shower = sources["primary"][number]
        weight = shower.energy / shower.energy.sum()
        x, y = (column - np.sum(weight * column) for column in (shower.x, shower.y))
        values, vectors = np.linalg.eigh(np.cov(x, y, aweights=weight))
        axis = vectors[:, values.argmax()]
        axis = axis if axis[0] > 0 else -axis
        u = axis[0] * x + axis[1] * y
        means = [np.average(u[shower.primary == p], weights=weight[shower.primary == p]) for p in (0, 1)]
        expected = shower.primary if means[0] < means[1] else 1 - shower.primary
        np.testing.assert_array_equal(task.graphs.target[rows(task, k)].numpy(), expected)
        shown = task.graphs.x[rows(task, k)].numpy()
        unit = unit or float(np.abs(u).max() / np.abs(shown[:, 0]).max())
        np.testing.assert_allclose(shown[:, 0] * unit, u, atol=1e-4)
        np.testing.assert_allclose(shown[:, 1] * unit, axis[0] * y - axis[1] * x, atol=1e-4)
        np.testing.assert_allclose(shown[:, 4:] - shown[:1, 4:], 0)
        assert len(task.features) == shown.shape[1]


def test_context_features_are_means_over_the_shower(sources, made):
    task = made["primary"]
    moments = []
    for k, number in enumerate(task.number):
        u, v, _, energy = task.graphs.x[rows(task, k), :4].double().numpy().T
        weight = sources["primary"][number].energy
        widths = [np.sqrt(np.average(a * a, weights=weight)) for a in (u, v)]
        covariance = np.mean(u * (energy - energy.mean()))
        moments.append([u.mean(), v.mean(), *widths, energy.mean(), covariance, np.log(len(u))])
    train = np.array(moments)[: len(task.train)]
    expected = (np.array(moments) - train.mean(0)) / train.std(0)
    shown = task.graphs.x[task.graphs.node_offset[:-1], 4:].numpy()
    np.testing.assert_allclose(shown, expected, atol=1e-4)


@pytest.mark.parametrize("task", SHOWER_TASKS)
def test_features_are_finite_and_normalised_and_edges_are_within_showers(made, task):
    graphs = made[task].graphs
    assert torch.isfinite(graphs.x).all()
    trained_on = graphs.x[: graphs.node_offset[len(made[task].train)]]
    if task != "primary":
        assert trained_on.mean(0).abs().max() < 1e-3
        assert (trained_on.std(0) - 1).abs().max() < 1e-2
    shower = torch.repeat_interleave(torch.arange(len(graphs)), graphs.node_offset.diff())
    of_edge = torch.repeat_interleave(torch.arange(len(graphs)), graphs.edge_offset.diff())
    for end in graphs.edge_index:
        assert (shower[end] == of_edge).all()
    assert (torch.bincount(graphs.edge_index[1], minlength=len(shower)) <= 8).all()


@pytest.mark.parametrize("task", SHOWER_TASKS)
def test_splits_equal_splits_of_loaders(sources, made, task):
    parts = [made[task].train, made[task].valid, made[task].test]
    assert torch.cat(parts).tolist() == list(range(len(made[task].graphs)))
    source = sources[task]
    index = np.concatenate([one.index for one in (source if isinstance(source, list) else [source])])
    for members, split in zip(parts, ("train", "validation", "test"), strict=True):
        np.testing.assert_array_equal(made[task].number[members.numpy()], np.flatnonzero(in_split(index, split)))


def test_blocks_and_files_give_equal_graphs(sources, made, tmp_path, monkeypatch):
    supa_datasets.save(sources["num_primaries"], tmp_path / "showers.h5")
    monkeypatch.setattr(module, "_BLOCK_HITS", 3000)
    again = shower_graphs(tmp_path / "showers.h5", "num_primaries").graphs
    for name in ("edge_index", "node_offset", "edge_offset", "target"):
        assert torch.equal(getattr(again, name), getattr(made["num_primaries"].graphs, name)), name
    torch.testing.assert_close(again.x, made["num_primaries"].graphs.x, atol=1e-4, rtol=1e-4)


def test_unsupported_showers_raise(sources):
    with pytest.raises(ValueError, match="it must be one of num_primaries, primary, preset, incident_energy"):
        shower_graphs(sources["primary"], "mass")
    with pytest.raises(ValueError, match="the task primary needs two primaries in each shower"):
        shower_graphs(sources["num_primaries"], "primary")
    with pytest.raises(ValueError, match="All showers have the preset two-primaries"):
        shower_graphs(sources["primary"], "preset")
    with pytest.raises(ValueError, match="which contains the answer"):
        shower_graphs(sources["primary"], "primary", edges=Tree())
    with pytest.raises(ValueError, match=r"The test split is empty for 2 showers"):
        shower_graphs(sources["primary"][:2], "primary", edges=Within(2.0))


def test_accuracy_up_to_order_exchanges_classes_per_shower():
    random = torch.Generator().manual_seed(0)
    graph = torch.randint(0, 7, (60,), generator=random).sort().values
    predicted, target = torch.randint(0, 2, (2, 60), generator=random)
    right = 0
    for shower in range(7):
        same = [int(p == t) for p, t, g in zip(predicted, target, graph, strict=True) if g == shower]
        right += max(sum(same), len(same) - sum(same))
    assert accuracy_up_to_order(predicted, target, graph) == pytest.approx(right / 60)


def test_best_exceeds_trivial_baselines_on_few_showers(made):
    for task, learned in (("primary", lambda m: m > 0.65), ("incident_energy", lambda m: m > -1.0)):
        method = preset("best").replace(layers=2, hidden_channels=32, epochs=8, batch_size=16, learning_rate=5e-3)
        if task == "primary":
            method = method.replace(conv="sage", epochs=3, score=Head("mlp"))
            assert made[task].graphs.target.double().mean() == pytest.approx(0.5, abs=0.1)
        else:
            method = method.replace(score=Head("mlp"), loss=SquaredError())
            assert made[task].graphs.target[made[task].valid].std(correction=0) > 1.1
        torch.manual_seed(0)
        network = Network.for_graphs(method, made[task].graphs)
        state = make_trainer(network, made[task].graphs, made[task].train, made[task].valid).run()
        assert learned(state.best_score[0]), (task, state.best_score)
