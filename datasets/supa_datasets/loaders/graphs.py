"""Showers as graphs for PyTorch Geometric."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch_geometric.data import Batch, Data

from supa import Ragged
from supa.arrays import IntArray
from supa.checks import format_value
from supa_datasets.loaders.column_batch import ColumnBatch, RaggedColumn
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
        normalisation: a Normalisation; ``"fit"`` to fit one on up to 10,000 showers of the split ``train``, with
            the logarithm of energies; None to leave the features as they are.
        split: ``"train"``, ``"validation"``, ``"test"`` or ``"all"``; the shower's index decides.
        fractions: name and fraction of each split.
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
        fractions: Mapping[str, float] = SPLITS,
        targets: Iterable[str] = (),
        transform: Callable[[Data], Any] | None = None,
    ) -> None:
        if not isinstance(edges, Nearest | Within | Tree):
            raise ValueError(
                f"edges: {format_value(edges)} was given, but it must be Nearest(k), Within(radius) or Tree()."
            )
        self.edges = edges
        self.transform = transform
        tree = isinstance(edges, Tree)
        super().__init__(
            showers,
            features=features,
            normalisation=normalisation,
            split=split,
            fractions=fractions,
            targets=targets,
            columns=("x", "y", "energy", "slice", "fate" if tree else "layer", "primary"),
        )
        if tree and not self.source.has_particles:
            raise ValueError("edges: Tree() needs the recorded particles; generate with --record particles.")

    def _sizes(self) -> IntArray:
        return self.source.num_particles if isinstance(self.edges, Tree) else self.source.num_hits

    def _points(self, sample: Sample) -> Ragged:
        particles = sample.showers.particles
        if isinstance(self.edges, Tree) and particles is not None:
            return particles
        return sample.showers.hits

    def __getitems__(self, numbers: Sequence[int]) -> Sequence[Any]:
        """Return some graphs, made at once; a DataLoader calls this."""
        columns = self._column_batch(self.source.take(self.numbers[np.asarray(numbers, dtype=np.int64)]))
        return columns if self.transform is None else [self.transform(graph) for graph in columns]

    def _column_batch(self, sample: Sample) -> "_GraphBatch":
        nodes = self._points(sample)
        position = feature_matrix(("x", "y", "z"), sample.showers, nodes)
        edges, steps, offset = edges_of(self.edges, nodes, position)
        each, rows = self._target_columns(sample, nodes)
        columns = {
            "x": RaggedColumn(self._features(sample, nodes), nodes.offset),
            "pos": RaggedColumn(torch.from_numpy(position), nodes.offset),
            "edge_index": RaggedColumn(torch.from_numpy(edges), offset),
            "edge_attr": RaggedColumn(torch.from_numpy(steps), offset),
        }
        return _GraphBatch(len(nodes), each, columns | rows)

    def collate(self, items: Sequence[Any]) -> Any:
        """Make a batch, as PyG's own collation does, but of all graphs at once where no transform has touched them.

        Args:
            items: some graphs.

        Returns:
            A ``torch_geometric.data.Batch``.
        """
        return items.batch() if isinstance(items, _GraphBatch) else Batch.from_data_list(list(items))


class _GraphBatch(ColumnBatch):
    """A batch of graphs as flat columns."""

    def __getitem__(self, k: Any) -> Any:
        item = super().__getitem__(k)
        item["edge_index"] = item["edge_index"].T.contiguous()
        for name in self.each:
            item[name] = item[name][None]
        return Data(**item)

    def batch(self) -> Any:
        begins = {name: torch.from_numpy(rows.offset) for name, rows in self.rows.items()}
        begins |= {name: torch.arange(self.num_items + 1) for name in self.each}
        nodes, edges = begins["x"], begins["edge_index"]
        columns = {name: rows.values for name, rows in self.rows.items()} | self.each
        # PyG numbers the nodes of all graphs through.
        first = torch.repeat_interleave(nodes[:-1], edges.diff())
        columns["edge_index"] = (columns["edge_index"].T + first).contiguous()
        graph = torch.repeat_interleave(torch.arange(self.num_items), nodes.diff())
        batch = Batch(**columns, batch=graph, ptr=nodes)
        # What Batch.from_data_list leaves for taking the batch apart.
        batch._num_graphs = self.num_items
        batch._slice_dict = begins
        zero = torch.zeros(self.num_items, dtype=torch.int64)
        batch._inc_dict = {name: nodes[:-1] if name == "edge_index" else zero for name in columns}
        return batch
