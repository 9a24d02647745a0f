"""Conversion of showers to sets of graphs with a prediction target.

The nodes of a graph are the hits of a shower. `supa_datasets.GraphDataset` builds the graphs in blocks.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from supa.arrays import Array, FloatArray, IntArray
from supa.checks import counted
from supa.observables.principal_axis import group_means, principal_axis_frame
from supa_datasets import GraphDataset, Nearest, Tree, Within
from supa_datasets.loaders import tasks
from supa_datasets.offsets import counts_to_offsets
from supa_gff.data import GraphSet

_BLOCK_HITS = 500_000
"""Number of hits per block."""

_SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class ShowerGraphs:
    """Showers as a set of graphs with a target and a split. `shower_graphs` builds it.

    Args:
        graphs: Graphs with normalised features, in the order training, validation, test.
        train: (count,) int64 training indices.
        valid: (count,) int64 validation indices.
        test: (count,) int64 test indices.
        features: Names of the features of a hit.
        classes: Names of the classes. Empty for regression.
        position: (nodes, 3) float32 coordinates x, y and z of each hit, in length units.
        number: (graphs,) int64 index of the shower of each graph, among the given showers.

    Example:
        >>> import supa
        >>> from supa_gff import shower_graphs
        >>> data = shower_graphs(supa.simulate(100, "critical", seed=1), "incident_energy")
        >>> data.features, data.classes, data.graphs.level
        (('x', 'y', 'z'), (), 'graph')
        >>> len(data.train) + len(data.valid) + len(data.test)
        100
    """

    graphs: GraphSet
    train: Tensor
    valid: Tensor
    test: Tensor
    features: tuple[str, ...]
    classes: tuple[str, ...]
    position: Tensor
    number: IntArray


@dataclass
class _Columns:
    """Flat tensors of all graphs, with the training graphs first."""

    x: Tensor
    position: Tensor
    energy: Tensor
    graph: Tensor
    num_graphs: int
    num_train: int
    features: tuple[str, ...]


def shower_graphs(showers: Any, task: str, *, edges: Nearest | Within | Tree = Nearest(8)) -> ShowerGraphs:  # noqa: B008  (frozen)
    """Convert showers to a set of graphs with a prediction target.

    ======================  =======  =====================================================  ======================
    task                    level    target                                                 features of a hit
    ======================  =======  =====================================================  ======================
    ``"num_primaries"``     graph    class: 1, 2, 3, 4, 5 or more primaries                 x, y, z, energy
    ``"primary"``           node     class: its primary, ordered along the shower's u axis  u, v, z, energy, means
    ``"preset"``            graph    class: the preset, one of those in the sample          x, y, z, energy
    ``"incident_energy"``   graph    regression: natural logarithm of the energy in GeV     x, y, z
    ======================  =======  =====================================================  ======================

    Features are normalised by their mean and standard deviation over the training showers; energies are normalised
    after a logarithm. For ``"incident_energy"`` hits have no energies, since their sum would be the target. This
    corresponds to a digital calorimeter.

    Primaries have no natural order. For ``"primary"`` they are ordered along u, the principal axis of the hits in the
    transverse plane with the larger variance, weighted by energy and centred. The axis v is perpendicular to u, and u
    increases with x. The primary whose hits have the lower energy-weighted mean u is class 0. The classes are therefore
    defined by the hits alone. Size and distance of the two primaries are properties of the whole shower, which a few
    layers of message passing cannot reach. Each hit therefore has seven means over its shower as additional features.

    Args:
        showers: `supa.Showers`, a `supa_datasets.ShowerFile`, a path, or a list of these. For ``"preset"``: a list with
            several presets.
        task: Name of the task, one of ``SHOWER_TASKS``.
        edges: Rule for the edges between hits: ``Nearest(k)`` or ``Within(radius)``.

    Returns:
        The graphs with the splits of the loaders, which depend on the index of a shower only.

    Raises:
        FileNotFoundError: If a file does not exist.
        ValueError: If the task does not exist, the showers do not support it, or a split is empty.

    Example:
        >>> import supa
        >>> from supa_gff import shower_graphs
        >>> showers = [supa.simulate(60, name, seed=1) for name in ("standard", "critical")]
        >>> data = shower_graphs(showers, "preset")
        >>> data.classes, data.features, len(data.graphs)
        (('standard', 'critical'), ('x', 'y', 'z', 'energy'), 120)
    """
    definition = tasks.shower_task(task)
    if isinstance(edges, Tree):
        raise ValueError("edges must not be Tree(), which contains the answer; use Nearest(k) or Within(radius).")
    parts: list[dict[str, Tensor]] = []
    counts, numbers = [], []
    normalisation: Any = "fit"
    for split in _SPLITS:
        dataset = GraphDataset(
            showers,
            edges=edges,
            features=definition.features,
            normalisation=normalisation,
            split=split,
            targets=(*definition.targets, "energy"),
        )
        normalisation = dataset.normalisation
        if len(dataset) == 0:
            raise ValueError(
                f"The {split} split is empty for {counted(len(dataset.source), 'shower')}; provide more showers."
            )
        parts += _blocks(dataset)
        counts.append(len(dataset))
        numbers.append(dataset.numbers)
    joined = {name: torch.cat([part[name] for part in parts], -1 if name == "edge_index" else 0) for name in parts[0]}
    node_offset, edge_offset = counts_to_offsets(joined["nodes"]), counts_to_offsets(joined["edges"])
    graph = torch.repeat_interleave(torch.arange(sum(counts)), joined["nodes"])
    columns = _Columns(
        x=joined["x"],
        position=joined["pos"],
        energy=joined["energy"].double(),
        graph=graph,
        num_graphs=sum(counts),
        num_train=counts[0],
        features=definition.features,
    )
    given = {name: joined[name].numpy() for name in definition.targets}
    classes = tasks.task_classes(definition, given)
    truth = tasks.task_target(definition, given, classes)
    target = torch.from_numpy(truth)
    if task == "primary":
        target, classes = _along_axis(columns, truth)
    # Nodes are numbered within each graph.
    edge_index = joined["edge_index"] + node_offset[:-1].repeat_interleave(joined["edges"])
    first, second = counts[0], counts[0] + counts[1]
    return ShowerGraphs(
        graphs=GraphSet(
            x=columns.x,
            edge_index=edge_index,
            node_offset=node_offset,
            edge_offset=edge_offset,
            target=target,
            level="node" if definition.level == "hit" else "graph",
            num_outputs=max(1, len(classes)),
        ),
        train=torch.arange(first),
        valid=torch.arange(first, second),
        test=torch.arange(second, sum(counts)),
        features=columns.features,
        classes=classes,
        position=columns.position,
        number=np.concatenate(numbers),
    )


def accuracy_up_to_order(predicted: Tensor, target: Tensor, graph: Tensor) -> float:
    """Compute the accuracy of hit classes, up to an exchange of the two classes in each shower.

    Args:
        predicted: (nodes,) int64 predicted classes, 0 or 1.
        target: (nodes,) int64 true classes, 0 or 1.
        graph: (nodes,) int64 index of the shower of each hit.

    Returns:
        Accuracy between 0.5 and 1; NaN without hits.
    """
    hits = torch.bincount(graph)
    right = torch.bincount(graph[predicted == target], minlength=len(hits))
    return float(torch.maximum(right, hits - right).sum() / hits.sum())


def _blocks(dataset: GraphDataset) -> list[dict[str, Tensor]]:
    """Read all graphs in blocks. Nodes are numbered within their graph."""
    ends = np.cumsum(dataset.num_points)
    cuts = np.flatnonzero(np.diff(ends // _BLOCK_HITS)) + 1
    parts = []
    for numbers in np.split(np.arange(len(dataset)), cuts):
        batch = dataset.collate(dataset.__getitems__(numbers.tolist()))
        edges = batch._slice_dict["edge_index"].diff()
        names = ["x", "pos", *(target.name for target in dataset.targets)]
        parts.append(
            {name: batch[name] for name in names}
            | {
                "edge_index": batch.edge_index - batch.ptr[:-1].repeat_interleave(edges),
                "edges": edges,
                "nodes": batch.ptr.diff(),
            }
        )
    return parts


def _along_axis(columns: _Columns, primary: Array) -> tuple[Tensor, tuple[str, ...]]:
    """Order the primaries along u and express the hits in the frame of their shower; see `shower_graphs`."""
    graph, energy = columns.graph.numpy(), columns.energy.numpy()
    position = columns.position.numpy().astype(np.float64)
    own = np.column_stack(principal_axis_frame(position[:, 0], position[:, 1], energy, graph, columns.num_graphs))
    of_primary = 2 * graph + primary
    size = 2 * columns.num_graphs
    with np.errstate(invalid="ignore"):
        mean = np.bincount(of_primary, energy * own[:, 0], size) / np.bincount(of_primary, energy, size)
    swapped = mean[0::2] > mean[1::2]
    columns.features = ("u", "v", "z", "energy", *_CONTEXT)
    # Both coordinates have the same scale, which preserves angles.
    spread = own[graph < columns.num_train].std()
    columns.x = torch.cat([torch.from_numpy((own / spread).astype(np.float32)), columns.x[:, 2:]], 1)
    columns.x = torch.cat([columns.x, _context(columns)[columns.graph]], 1)
    return torch.from_numpy(np.where(swapped[graph], 1 - primary, primary)), ("lower u", "higher u")


def _context(columns: _Columns) -> Tensor:
    """Compute features of the whole shower, which a few layers of message passing cannot reach.

    Returns:
        (graphs, features) float32, normalised on the training showers.
    """
    graph, energy = columns.graph.numpy(), columns.energy.numpy()
    u, v, _, log_energy = columns.x.numpy().astype(np.float64).T
    hits = np.bincount(graph, minlength=columns.num_graphs)

    def mean(values: FloatArray, weights: FloatArray | None = None) -> FloatArray:
        return group_means(values, np.ones(len(graph)) if weights is None else weights, graph, columns.num_graphs)

    mean_log_energy = mean(log_energy)
    moments = np.column_stack(
        [
            mean(u),
            mean(v),
            np.sqrt(mean(u * u, energy)),
            np.sqrt(mean(v * v, energy)),
            mean_log_energy,
            mean(u * (log_energy - mean_log_energy[graph])),
            np.log(np.maximum(hits, 1)),
        ]
    )
    train = moments[: columns.num_train]
    normalised = (moments - train.mean(axis=0)) / np.maximum(train.std(axis=0), 1e-12)
    return torch.from_numpy(normalised.astype(np.float32))


_CONTEXT = ("mean u", "mean v", "spread u", "spread v", "mean energy", "energy along u", "hits")
"""Names of the means over the hits of a shower. The spreads are weighted by energy."""

SHOWER_TASKS = tuple(tasks.SHOWER_TASKS)
