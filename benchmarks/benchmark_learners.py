"""Learned models of the package for ``benchmark_tasks.py``: a Mamba encoder and graph networks.

The models are trained on the training range of a task. The epoch with the best result on the validation range predicts
for the test range. The models receive only what the task allows:

- ``energy-regression``: x, y and z of the hits. Within a slice, the encoder reads the hits by their distance from the
  axis, because their usual order is that of the energies.
- ``primary-labels``: x, y, z and energy of the hits.
- ``energy-graphs``: the tree, and of each particle x, y, slice, its number of children and the logarithm of its share
  of the incident energy, which `energy_shares` computes from the positions.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from supa import Ragged, Showers
from supa.arrays import Array, FloatArray, IntArray
from supa_datasets import BenchmarkTask, Nearest

if TYPE_CHECKING:
    from supa_gff import GraphSet, Method
    from supa_mamba.packed_showers import PackedShowers, TaskEncoding

TARGETS = {"regression": "incident_energy", "labelling": "primary"}
"""Targets of the learners by kind of task. The learners have no target for trees."""

TREE_FEATURES = ("x", "y", "slice", "children", "log share")
"""Features of a particle."""

PREDICTED_TOGETHER = 512  # showers


@dataclass(frozen=True)
class Training:
    """Sizes and device of a training.

    Args:
        showers: Number of training showers; a quarter as many validation showers choose the epoch.
        epochs: Number of epochs.
        device: Device of the training, such as ``"cuda"``.
    """

    showers: int = 20_000
    epochs: int = 8
    device: str = "cpu"

    def parts(self, task: BenchmarkTask) -> tuple[Showers, Showers, Showers]:
        """Simulate the training, validation and test showers of a task, with the inputs that it allows."""
        train = task.simulate("train", self.showers)
        valid = task.simulate("validation", self.showers // 4)
        test = task.simulate("test", task.num_showers)
        if task.kind == "labelling":
            return train, valid, test
        return _without_energies(train), _without_energies(valid), _without_energies(test)


def _without_energies(showers: Showers) -> Showers:
    """Replace the energies of hits and particles by NaN, so that a model that uses them fails."""
    tree = showers.particles
    assert tree is not None
    hits, particles = (
        Ragged({**rows.columns, "energy": np.full(rows.num_rows, np.nan)}, rows.offset) for rows in (showers.hits, tree)
    )
    return dataclasses.replace(showers, hits=hits, particles=particles)


# ---------------------------------------------------------------------- trees


def energy_shares(showers: Showers) -> FloatArray:
    """Return the share of the incident energy of each particle, from the positions and the tree alone.

    The children of a split have the angles theta1 and theta2 to the direction of their parent, and
    E1 theta1 = E2 theta2. The direction of a particle is its position relative to its parent.
    """
    assert showers.particles is not None
    tree = showers.particles
    child, parent = _links(tree)
    before = np.arange(tree.num_rows)
    before[child] = parent
    position = np.column_stack([tree["x"], tree["y"]])
    direction = np.column_stack([position - position[before], np.full(tree.num_rows, showers.config.slice_spacing)])
    other = direction[before]
    angle = np.arctan2(np.linalg.norm(np.cross(other, direction), axis=1), np.sum(other * direction, axis=1))
    both = np.bincount(parent, angle[child], tree.num_rows)[before]
    has_sibling = np.bincount(parent, minlength=tree.num_rows)[before] == 2
    local = np.divide(both - angle, both, out=np.ones(tree.num_rows), where=has_sibling)
    share = np.ones(tree.num_rows)
    for number in range(1, showers.config.num_slices):  # parents come before their children
        rows = child[tree["slice"][child] == number]
        share[rows] = share[before[rows]] * local[rows]
    return share


def tree_features(showers: Showers) -> FloatArray:
    """Return the (particles, 5) `TREE_FEATURES`."""
    assert showers.particles is not None
    tree = showers.particles
    children = np.bincount(_links(tree)[1], minlength=tree.num_rows)
    return np.column_stack([tree["x"], tree["y"], tree["slice"], children, np.log(energy_shares(showers))])


def _links(tree: Ragged) -> tuple[IntArray, IntArray]:
    """Return the rows of the particles that have a parent, and the rows of their parents."""
    parent = tree["parent"].astype(np.int64)
    child = np.flatnonzero(parent >= 0)
    return child, (parent + tree.offset[:-1][tree.group_of_row()])[child]


# ---------------------------------------------------------------------- Mamba encoder


def mamba_encoder(task: BenchmarkTask, training: Training) -> Array:
    """Train the encoder of ``supa_mamba`` with its default sizes, and predict for the first test showers."""
    import torch

    from supa_learning import Processes, Trainer
    from supa_mamba import TrainingConfig
    from supa_mamba.prediction import predict
    from supa_mamba.training import EncoderTask

    parts = training.parts(task)
    encoding, (train, valid, test) = _tree_sequences(task, parts) if task.form == "graphs" else _hits(task, parts)
    config = TrainingConfig(target=encoding.name, epochs=training.epochs, patience=training.epochs)
    learner = EncoderTask(config, encoding, train, valid, processes=Processes(device=torch.device(training.device)))
    Trainer(learner).run()
    outputs = predict(learner.encoder.eval(), test.to(training.device))
    if not encoding.classes:
        return np.exp(outputs[:, 0] * encoding.std + encoding.mean)
    predicted = outputs.argmax(axis=1)
    return predicted if task.form == "graphs" else _in_file_order(parts[-1], predicted)


def _hits(task: BenchmarkTask, parts: tuple[Showers, ...]) -> "tuple[TaskEncoding, list[PackedShowers]]":
    from supa_mamba.packed_showers import packed_showers, training_showers

    encoding, _ = training_showers(parts[0], TARGETS[task.kind])
    packed = [packed_showers(showers, "all", encoding) for showers in parts]
    if task.kind == "regression":
        packed = [_by_radius(showers) for showers in packed]
    return encoding, packed


def _by_radius(showers: "PackedShowers") -> "PackedShowers":
    """Order the hits of a slice by their distance from the axis."""
    import torch

    from supa_mamba.packed_showers import PackedShowers

    x, y, z = showers.points.numpy().T
    order = np.lexsort((np.hypot(x, y), z, np.arange(len(showers)).repeat(showers.counts)))
    points = showers.points[torch.from_numpy(order)]
    return PackedShowers(points, showers.counts, showers.target, showers.number, by_hit=False)


def _in_file_order(showers: Showers, values: IntArray) -> IntArray:
    """Undo the order by depth and energy, in which the encoder reads the hits."""
    from supa_datasets.loaders.ordering import by_depth

    result = np.empty_like(values)
    result[by_depth(showers)] = values
    return result


def _tree_sequences(task: BenchmarkTask, parts: tuple[Showers, ...]) -> "tuple[TaskEncoding, list[PackedShowers]]":
    """Return the particles of each shower as a sequence by depth."""
    import torch

    from supa_datasets import Normalisation
    from supa_datasets.loaders.tasks import ShowerTask
    from supa_mamba.packed_showers import PackedShowers, TaskEncoding

    class TreeEncoding(TaskEncoding):
        @property
        def task(self) -> ShowerTask:
            return ShowerTask(self.name, "shower", ("incident_energy",), TREE_FEATURES)

    features = [tree_features(showers) for showers in parts]
    normalisation = Normalisation.fit(TREE_FEATURES, features[0], logarithm=(False,) * len(TREE_FEATURES))
    packed = []
    for showers, values in zip(parts, features, strict=True):
        assert showers.particles is not None
        points = torch.from_numpy(normalisation.apply(values).astype(np.float32))
        target = torch.from_numpy(task.targets(showers))
        packed.append(PackedShowers(points, showers.particles.counts, target, showers.index, by_hit=False))
    return TreeEncoding("incident_energy", task.classes, normalisation), packed


# ---------------------------------------------------------------------- graph networks


def graph_network(task: BenchmarkTask, training: Training, *, preset: str) -> Array:
    """Train a graph network of ``supa_gff``, and predict for the first test showers.

    The preset is ``"best"``, which trains each layer by a local loss, or ``"backprop"``.
    """
    import torch

    from supa_gff import Network, train
    from supa_gff.shower_encoding import joined

    parts = training.parts(task)
    sets = _tree_graphs(task, parts) if task.form == "graphs" else _hit_graphs(task, parts)
    known, test = joined(sets[:2]).to(training.device), sets[2].to(training.device)
    network = Network.for_graphs(_method(task, training, preset), known)
    first, last = np.cumsum([len(part) for part in sets[:2]]).tolist()
    train(network, known, torch.arange(first), torch.arange(first, last))
    batches = test.batches(torch.arange(len(test), device=training.device), PREDICTED_TOGETHER)
    predicted: Array = torch.cat([network.predict(batch) for batch in batches]).cpu().numpy()
    return np.exp(predicted.astype(np.float64)) if task.kind == "regression" else predicted


def _method(task: BenchmarkTask, training: Training, name: str) -> "Method":
    """Return a method with the sizes of ``gff_showers.py``."""
    from supa_gff import heads, losses, preset

    method = preset(name).replace(
        layers=3,
        learning_rate=2e-3,
        lr_step_size=max(1, training.epochs // 3),
        epochs=training.epochs,
        patience=training.epochs,
        batch_size=128,
    )
    if task.kind == "regression":
        return method.replace(score=heads.Head("mlp"), loss=losses.SquaredError())
    if task.kind == "labelling":
        # SAGE separates a hit from the mean of its neighbours. GIN adds all nine, which hides the hit itself.
        return method.replace(score=heads.Head("mlp"), conv="sage")
    return method


def _hit_graphs(task: BenchmarkTask, parts: tuple[Showers, ...]) -> "list[GraphSet]":
    """Return the hits of each shower, each connected to its nearest neighbours."""
    from supa_gff import encoded_showers
    from supa_gff.showers import fitted_encoding

    encoding = fitted_encoding(parts[0], TARGETS[task.kind], Nearest(8))
    return [encoded_showers(showers, encoding) for showers in parts]


def _tree_graphs(task: BenchmarkTask, parts: tuple[Showers, ...]) -> "list[GraphSet]":
    """Return the particles of each shower, each connected to its parent and its children in both directions."""
    import torch

    from supa_gff import GraphSet

    features = [tree_features(showers) for showers in parts]
    mean, std = features[0].mean(axis=0), features[0].std(axis=0)
    sets = []
    for showers, values in zip(parts, features, strict=True):
        assert showers.particles is not None
        tree = showers.particles
        child, parent = _links(tree)
        # The two edges of a child follow each other, so that edges are ordered by shower.
        edges = np.stack([np.column_stack([parent, child]).ravel(), np.column_stack([child, parent]).ravel()])
        sets.append(
            GraphSet(
                x=torch.from_numpy(((values - mean) / std).astype(np.float32)),
                edge_index=torch.from_numpy(edges),
                node_offset=torch.from_numpy(tree.offset),
                edge_offset=torch.from_numpy(2 * (tree.offset - np.arange(len(tree.offset)))),  # one root per tree
                target=torch.from_numpy(task.targets(showers)),
                level="graph",
                num_outputs=len(task.classes),
            )
        )
    return sets


LEARNERS: dict[str, dict[str, Callable[[BenchmarkTask, Training], Any]]] = {
    "encoder": {"Mamba encoder": mamba_encoder},
    "graph-network": {
        "graph network, forward only": partial(graph_network, preset="best"),
        "graph network, backpropagation": partial(graph_network, preset="backprop"),
    },
}
"""Functions that train and predict for the first test showers, by model and by label."""
