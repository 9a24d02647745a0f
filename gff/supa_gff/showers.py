"""Conversion of showers to sets of graphs with a prediction target.

The nodes of a graph are the hits of a shower. `supa_datasets.GraphDataset` builds the graphs in blocks.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from supa.arrays import IntArray
from supa.checks import counted
from supa_datasets import GraphDataset, Nearest, Tree, Within
from supa_datasets.loaders import tasks
from supa_gff.graph_set import GraphSet
from supa_gff.shower_encoding import ShowerEncoding, encoded_graphs, graph_targets, joined, node_columns

_BLOCK_HITS = 500_000
"""Number of hits per block."""


@dataclass(frozen=True, eq=False)
class ShowerGraphs:
    """Showers as a set of graphs with a target and a split. `shower_graphs` builds it.

    Args:
        graphs: Graphs with normalised features, in the order training, validation, test.
        train: (count,) int64 training indices.
        valid: (count,) int64 validation indices.
        test: (count,) int64 test indices.
        encoding: Conversion of hits into node features and targets, fitted to the training showers.
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
    encoding: ShowerEncoding
    position: Tensor
    number: IntArray

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features of a hit."""
        return self.encoding.features

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes. Empty for regression."""
        return self.encoding.classes


def shower_graphs(
    showers: Any,
    task: str,
    *,
    edges: Nearest | Within | Tree = Nearest(8),  # noqa: B008  (frozen)
) -> ShowerGraphs:
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
    train = _dataset(showers, definition, edges, "fit", "train")
    blocks = _blocks(train)
    assert train.normalisation is not None
    encoding = ShowerEncoding.fit(task, train.normalisation, edges, blocks)
    datasets = [train]
    parts, positions = [encoded_graphs(encoding, blocks)], [blocks["pos"]]
    for split in ("validation", "test"):
        datasets.append(_dataset(showers, definition, edges, encoding.normalisation, split))
        blocks = _blocks(datasets[-1])
        parts.append(encoded_graphs(encoding, blocks))
        positions.append(blocks["pos"])
    first, second, last = np.cumsum([len(part) for part in parts]).tolist()
    return ShowerGraphs(
        graphs=joined(parts),
        train=torch.arange(first),
        valid=torch.arange(first, second),
        test=torch.arange(second, last),
        encoding=encoding,
        position=torch.cat(positions),
        number=np.concatenate([dataset.numbers for dataset in datasets]),
    )


def fitted_encoding(showers: Any, task: str, edges: Nearest | Within) -> ShowerEncoding:
    """Fit the conversion of hits to the training split of showers.

    Args:
        showers: `supa.Showers`, a `supa_datasets.ShowerFile`, a path, or a list of these.
        task: Name of the task.
        edges: Rule for the edges between hits.

    Returns:
        The encoding.

    Raises:
        ValueError: If the task does not exist, the showers do not support it, or there are no training showers.
    """
    dataset = _dataset(showers, tasks.shower_task(task), edges, "fit", "train")
    assert dataset.normalisation is not None
    return ShowerEncoding.fit(task, dataset.normalisation, edges, _blocks(dataset))


def encoded_showers(showers: Any, encoding: ShowerEncoding) -> GraphSet:
    """Convert all showers to graphs with a fitted encoding, such as that of a `Checkpoint`.

    Args:
        showers: `supa.Showers`, a `supa_datasets.ShowerFile`, a path, or a list of these.
        encoding: Conversion of hits into node features and targets.

    Returns:
        The graphs, on the CPU.

    Raises:
        FileNotFoundError: If a file does not exist.
        ValueError: If the showers do not support the task of the encoding.

    Example:
        >>> import supa
        >>> from supa_gff import encoded_showers, shower_graphs
        >>> encoding = shower_graphs(supa.simulate(100, "critical", seed=1), "incident_energy").encoding
        >>> len(encoded_showers(supa.simulate(20, "critical", seed=2), encoding))
        20
    """
    dataset = _dataset(showers, encoding.definition, encoding.edges, encoding.normalisation, "all")
    return encoded_graphs(encoding, _blocks(dataset))


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


def _dataset(
    showers: Any, definition: tasks.ShowerTask, edges: Nearest | Within, normalisation: Any, split: str
) -> GraphDataset:
    dataset = GraphDataset(
        showers,
        edges=edges,
        features=definition.features,
        normalisation=normalisation,
        split=split,
        targets=graph_targets(definition),
    )
    if len(dataset) == 0:
        raise ValueError(
            f"The {split} split is empty for {counted(len(dataset.source), 'shower')}; provide more showers."
        )
    return dataset


def _blocks(dataset: GraphDataset) -> dict[str, Tensor]:
    """Read all graphs in blocks, and join their columns. Nodes are numbered within their graph."""
    ends = np.cumsum(dataset.num_points)
    cuts = np.flatnonzero(np.diff(ends // _BLOCK_HITS)) + 1
    parts = []
    for numbers in np.split(np.arange(len(dataset)), cuts):
        batch = dataset.collate(dataset.__getitems__(numbers.tolist()))
        edges = batch._slice_dict["edge_index"].diff()
        parts.append(
            node_columns(batch, [target.name for target in dataset.targets])
            | {"edge_index": batch.edge_index - batch.ptr[:-1].repeat_interleave(edges), "edges": edges}
        )
    return {name: torch.cat([part[name] for part in parts], -1 if name == "edge_index" else 0) for name in parts[0]}


SHOWER_TASKS = tuple(tasks.SHOWER_TASKS)
