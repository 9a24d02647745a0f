"""Showers as graphs for PyTorch Geometric."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch_geometric.data import Data

from supa import Ragged
from supa.checks import shown
from supa_datasets.loaders.dataset import NormalisedDataset
from supa_datasets.loaders.edges import Edges, Nearest, Tree, Within, edges_of
from supa_datasets.loaders.normalisation import Normalisation
from supa_datasets.loaders.source import Sample, SourceLike
from supa_datasets.loaders.splits import SPLITS
from supa_datasets.loaders.targets import feature_matrix


class GraphDataset(NormalisedDataset):
    """Showers as graphs: an item is a ``torch_geometric.data.Data``, for PyG's own ``DataLoader`` and transforms.

    A graph has ``x`` (nodes, features) float32, ``pos`` (nodes, 3) float32 (x, y, z, length unit, never normalised),
    ``edge_index`` (2, edges) int64 from source to target, ``edge_attr`` (edges, 4) float32 (the target's position minus
    the source's, and their distance, length unit), and each target by its name: (1,) for a shower, (nodes,) for nodes.

    Args:
        showers: Showers, a ShowerFile, a path, or a list of these.
        edges: ``Nearest(k)``, ``Within(radius)``, or ``Tree()``, whose nodes are all recorded particles.
        features: what a node is made of: x, y, z, slice, layer, energy, energy_fraction.
        normalisation: a Normalisation; ``"fit"`` to fit one on the first 10,000 showers of the split ``train``, with
            the logarithm of energies; None to leave the features as they are.
        split: ``"train"``, ``"validation"``, ``"test"`` or ``"all"``; the shower's index decides.
        shares: name and share of each split.
        targets: names of targets; see ``TARGETS``.
        transform: called with each graph, as PyG's transforms are.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a name is unknown, the normalisation is for other features, the tree was not recorded, or a file is
            damaged.
    """

    def __init__(
        self,
        showers: SourceLike,
        *,
        edges: Edges = Nearest(8),  # noqa: B008  (frozen)
        features: Iterable[str] = ("x", "y", "z", "energy"),
        normalisation: Normalisation | Literal["fit"] | None = None,
        split: str = "all",
        shares: Mapping[str, float] = SPLITS,
        targets: Iterable[str] = (),
        transform: Callable[[Data], Any] | None = None,
    ) -> None:
        if not isinstance(edges, Nearest | Within | Tree):
            raise ValueError(f"edges: {shown(edges)} was given, but it must be Nearest(k), Within(radius) or Tree().")
        self.edges = edges
        self.transform = transform
        tree = isinstance(edges, Tree)
        super().__init__(
            showers,
            features=features,
            normalisation=normalisation,
            split=split,
            shares=shares,
            targets=targets,
            columns=("x", "y", "energy", "slice", "fate" if tree else "layer", "primary"),
        )
        if tree and not self.source.recorded:
            raise ValueError("edges: Tree() needs the recorded particles; generate with --record particles.")

    def _points(self, sample: Sample) -> Ragged:
        particles = sample.showers.particles
        if isinstance(self.edges, Tree) and particles is not None:
            return particles
        return sample.showers.hits

    def _items(self, sample: Sample) -> list[Any]:
        nodes = self._points(sample)
        position = feature_matrix(("x", "y", "z"), sample.showers, nodes)
        edges, offset = edges_of(self.edges, nodes, position.astype(np.float64))
        first = np.repeat(nodes.offset[:-1], np.diff(offset))
        step = position[edges[1] + first] - position[edges[0] + first]
        attributes = torch.from_numpy(np.column_stack([step, np.sqrt(np.square(step).sum(axis=1))]))
        features, positions, edge_index = (
            self._features(sample, nodes),
            torch.from_numpy(position),
            torch.from_numpy(edges),
        )
        of_shower, of_node = self._target_columns(sample, nodes)
        graphs = []
        for k, (a, b) in enumerate(zip(nodes.offset[:-1], nodes.offset[1:], strict=True)):
            e, f = offset[k], offset[k + 1]
            graph = Data(
                x=features[a:b], pos=positions[a:b], edge_index=edge_index[:, e:f], edge_attr=attributes[e:f],
                **{name: values[k : k + 1] for name, values in of_shower.items()},
                **{name: values[a:b] for name, values in of_node.items()},
            )  # fmt: skip
            graphs.append(graph if self.transform is None else self.transform(graph))
        return graphs
