"""Showers as graphs for PyTorch Geometric."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

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
    """Showers as graphs for PyTorch Geometric.

    An item is a ``torch_geometric.data.Data`` object with

    - ``x`` (nodes, features) float32;
    - ``pos`` (nodes, 3) float32: x, y and z (length unit), never normalised;
    - ``edge_index`` (2, edges) int64: source and target of each edge;
    - ``edge_attr`` (edges, 4) float32: position of the target minus position of the source, and their distance
      (length unit);
    - one attribute per target: (1,) for a target of the shower, (nodes,) for a target of the nodes.

    The ``DataLoader`` and the transforms of PyTorch Geometric can be used. PyTorch's ``DataLoader`` with
    ``collate_fn=dataset.collate`` returns the same batches faster.

    Args:
        showers: A `supa.Showers` object, a `ShowerFile`, a path, or a list of these.
        edges: ``Nearest(k)`` or ``Within(radius)`` with the hits as nodes, or ``Tree()`` with all recorded particles as
            nodes; see `Nearest`, `Within` and `Tree`.
        features: Features of a node, out of ``"x"``, ``"y"``, ``"z"`` (length unit), ``"slice"``,
            ``"layer"``, ``"energy"`` (GeV) and ``"energy_fraction"`` (fraction of the incident energy).
        normalisation: A `Normalisation`; ``"fit"`` to fit one to up to 10,000 showers of the split ``"train"``, using
            the logarithm of energies; None for unchanged features.
        split: Name of a split in ``fractions``, or ``"all"``. The index of a shower selects its split, see `in_split`.
        fractions: Fraction of each split by name; the default is 0.8 for ``"train"``, 0.1 for ``"validation"`` and 0.1
            for ``"test"``.
        targets: Names of targets out of ``TARGETS``. Their tensors are float32, or int64 for whole numbers.
        transform: Function or transform of PyTorch Geometric that is applied to each graph; None for unchanged graphs.

    Raises:
        FileNotFoundError: If a file does not exist.
        ValueError: If a name is unknown, the normalisation is for other features, the tree was not recorded, or a file
            is damaged.

    Example:
        >>> import supa
        >>> from supa_datasets import GraphDataset, Nearest
        >>> showers = supa.simulate(20, "standard", seed=1)
        >>> dataset = GraphDataset(showers, edges=Nearest(3), targets=["incident_energy"])
        >>> dataset[0]
        Data(x=[57, 4], edge_index=[2, 171], edge_attr=[171, 4], pos=[57, 3], incident_energy=[1])
        >>> dataset.collate([dataset[0], dataset[1]]).num_graphs
        2
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
            raise ValueError("edges: Tree() needs recorded particles; simulate with record='particles'.")

    def _sizes(self) -> IntArray:
        return self.source.num_particles if isinstance(self.edges, Tree) else self.source.num_hits

    def _points(self, sample: Sample) -> Ragged:
        particles = sample.showers.particles
        if isinstance(self.edges, Tree) and particles is not None:
            return particles
        return sample.showers.hits

    def items_of(self, sample: Sample) -> Sequence[Any]:
        """Return the graphs of showers, which need not belong to the source.

        Args:
            sample: Showers of the same configs as those of the source.

        Returns:
            The graphs, which ``collate`` combines into a batch.
        """
        columns = self._column_batch(sample)
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
        """Combine graphs into a batch, as the argument ``collate_fn`` of PyTorch's ``DataLoader``.

        The result is that of PyTorch Geometric's own collation. Without a transform it is computed for all graphs at
        once.

        Args:
            items: Graphs of this dataset.

        Returns:
            A ``torch_geometric.data.Batch`` object.
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
        # PyG numbers the nodes of all graphs consecutively.
        first = torch.repeat_interleave(nodes[:-1], edges.diff())
        columns["edge_index"] = (columns["edge_index"].T + first).contiguous()
        graph = torch.repeat_interleave(torch.arange(self.num_items), nodes.diff())
        batch = Batch(**columns, batch=graph, ptr=nodes)
        # Attributes that Batch.to_data_list needs.
        batch._num_graphs = self.num_items
        batch._slice_dict = begins
        zero = torch.zeros(self.num_items, dtype=torch.int64)
        batch._inc_dict = {name: nodes[:-1] if name == "edge_index" else zero for name in columns}
        return batch
