"""Cache of the inputs of the trained layer, in memory or on disk.

The frozen layers below compute these inputs once instead of once per epoch.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal, Protocol

import torch
from torch import Tensor

from supa.checks import did_you_mean, format_value
from supa_gff.batch import Batch
from supa_gff.graph_set import GraphSet
from supa_gff.networks.hypotheses import HypothesisBatch
from supa_gff.networks.layer import Layer
from supa_gff.topology import Topology
from supa_gff.updates.loss_stats import LayerStats
from supa_gff.updates.rule import UpdateRule

CacheLocation = Literal["memory", "disk"] | Path
"""Where the inputs are kept. A folder is for a graph on disk only, and keeps them if the process is killed."""

_BLOCK_EDGES = 1_000_000
"""Approximate number of edges per block when a layer processes the whole set."""

_MOST_COPIED = 0.75
"""Largest fraction of nodes whose rows are copied. Above it, the copy is not worth its memory."""


def check_location(cache: object) -> None:
    """Check where inputs are kept.

    Args:
        cache: ``"memory"``, ``"disk"`` or a folder, which may be new.

    Raises:
        ValueError: If it is something else, such as the name of a folder that is not a ``Path``.
        FileNotFoundError: If the folder that would contain a new folder does not exist.
        FileExistsError: If the path is a file.
    """
    if not isinstance(cache, Path):
        if cache not in ("memory", "disk"):
            raise ValueError(
                f"cache must be 'memory', 'disk', or Path(...) of a folder, got {format_value(cache)}."
                f"{did_you_mean(cache, ('memory', 'disk'))}"
            )
    elif cache.exists() and not cache.is_dir():
        raise FileExistsError(f"{cache}: it is a file, but cache must be a folder; choose another name.")
    elif not cache.parent.is_dir():
        raise FileNotFoundError(f"{cache}: the folder {cache.parent} does not exist; make it first.")


class ActivationCache(Protocol):
    """Inputs of one layer, for training and validation."""

    def prepare(self, layer: Layer) -> None:
        """Compute the untrained part of a layer, if it is the same in every step."""

    def update(self, layer: int, batch: Batch, candidates: Tensor | None) -> LayerStats:
        """Update a layer on a training batch."""

    def scores(self, layer: int, batch: Batch) -> Tensor:
        """Return the (units, out_channels) scores of a layer for a batch."""

    def advance(self, layer: Layer) -> None:
        """Replace the inputs of a layer that has finished training by the inputs of the next layer."""


class CachedInput:
    """Input of a layer, with the result of the layer's `prepare`.

    Args:
        inputs: Input of the layer.
    """

    def __init__(self, inputs: HypothesisBatch) -> None:
        self.inputs = inputs
        self.prepared: Tensor | None = None
        self._narrow: list[tuple[Tensor, Batch, HypothesisBatch]] = []

    def prepare(self, layer: Layer) -> None:
        """Compute the untrained part of a layer; see `ActivationCache.prepare`."""
        if layer.prepares and self.prepared is None:
            inputs = self.inputs
            with torch.no_grad():
                self.prepared = layer.prepare(inputs.x, inputs.topology, inputs.labels)
            # x is no longer used, and would take as much memory as the rest of the cache.
            self.inputs = HypothesisBatch(self.prepared, inputs.topology, inputs.labels)

    def for_batch(self, layer: Layer, batch: Batch) -> tuple[Batch, HypothesisBatch, Tensor | None]:
        """Return the part of the input on which the scores of a batch depend.

        If each node is scored by its own row, this part is the predicted nodes. Otherwise it is all nodes.

        Args:
            layer: Layer that computes the scores.
            batch: Batch to score.

        Returns:
            The batch, the input and the result of `prepare` for these nodes.
        """
        if self.prepared is None or batch.units is None or batch.units.dim() == 2 or not layer.by_node:
            return batch, self.inputs, self.prepared
        if len(batch.units) > _MOST_COPIED * batch.num_nodes:
            return batch, self.inputs, self.prepared
        for units, narrow, inputs in self._narrow:
            if units is batch.units:
                return narrow, inputs, inputs.x
        # The list has two entries: training and validation.
        self._narrow.append((batch.units, *self._of_units(batch, batch.units)))
        return self.for_batch(layer, batch)

    def activations(self, layer: Layer) -> Tensor:
        """Return the activations of all nodes without gradients."""
        return _activations(layer, self.inputs, self.prepared)

    def _of_units(self, batch: Batch, units: Tensor) -> tuple[Batch, HypothesisBatch]:
        inputs, topology = self.inputs, self.inputs.topology
        assert self.prepared is not None
        virtual = torch.arange(topology.num_real, len(topology.graph), device=units.device)
        rows = torch.cat([units, virtual])
        narrow = Topology(
            topology.edge_index[:, :0], topology.graph[rows], topology.num_graphs, len(units), topology.hypotheses
        )
        labels = None if inputs.labels is None else inputs.labels[:, rows]
        predicted = replace(batch, x=batch.x[units], units=None, known_labels=None)
        return predicted, HypothesisBatch(self.prepared[:, rows], narrow, labels)


class SingleGraphCache:
    """Cache for training on one constant batch: the nodes or links of one graph.

    Args:
        rule: Update rule of the network.
        train: Training batch.
        valid: Validation batch with the same nodes and edges.
        candidates: (units, candidates) int64 candidate labels of the training batch. None without label injection.
    """

    def __init__(self, rule: UpdateRule, train: Batch, valid: Batch, candidates: Tensor | None) -> None:
        self._rule, self._network = rule, rule.network
        network = rule.network
        if network.method.label_conditioned and candidates is not None:
            every = torch.arange(network.out_channels, device=valid.x.device).expand(valid.num_units, -1)
            self._train = CachedInput(network.inputs(train, network.node_labels(train, candidates)))
            self._valid = CachedInput(network.inputs(valid, network.node_labels(valid, every)))
        else:
            self._train = self._valid = CachedInput(network.inputs(train, None))

    def prepare(self, layer: Layer) -> None:
        """Compute the untrained part of a layer; see `ActivationCache`."""
        method = self._network.method
        # Sequential hypotheses are prepared one at a time, when they are used.
        if not (method.label_conditioned and method.hypotheses == "sequential"):
            self._train.prepare(layer)
        self._valid.prepare(layer)

    def update(self, layer: int, batch: Batch, candidates: Tensor | None) -> LayerStats:
        """Update a layer on the training batch; see `ActivationCache`."""
        narrow, inputs, prepared = self._train.for_batch(self._network.layer(layer), batch)
        return self._rule.update_layer(layer, inputs, narrow, candidates, prepared=prepared).stats

    def scores(self, layer: int, batch: Batch) -> Tensor:
        """Return the scores of the validation batch; see `ActivationCache`."""
        module = self._network.layer(layer)
        narrow, inputs, prepared = self._valid.for_batch(module, batch)
        return _scores(module, inputs, prepared, narrow)

    def advance(self, layer: Layer) -> None:
        """Replace the inputs by those of the next layer; see `ActivationCache`."""
        shared = self._valid is self._train
        self._train = self._next(self._train, layer, positive_first=True)
        self._valid = self._train if shared else self._next(self._valid, layer, positive_first=False)

    def _next(self, cached: CachedInput, layer: Layer, *, positive_first: bool) -> CachedInput:
        h = cached.activations(layer)
        return CachedInput(self._network.detach_to_next(cached.inputs, h, positive_first=positive_first))


class GraphSetCache:
    """Cache for training on batches of several graphs.

    With label injection there is one hypothesis for each class. All nodes of a graph have the same candidate label.

    Args:
        rule: Update rule of the network.
        graphs: Set of graphs.
        indices: (count,) int64 indices of the graphs to cache.
        location: ``"memory"`` or ``"disk"``.
    """

    def __init__(self, rule: UpdateRule, graphs: GraphSet, indices: Tensor, location: CacheLocation) -> None:
        self._rule, self._network = rule, rule.network
        self._graphs, self._indices, self._location = graphs, indices, location
        self._rows = graphs.x[None]
        self._prepared: Tensor | None = None

    def prepare(self, layer: Layer) -> None:
        """Compute the untrained part of a layer; see `ActivationCache`."""
        if layer.prepares and self._prepared is None:
            self._prepared = self._stored(self._prepared_blocks(layer))

    def update(self, layer: int, batch: Batch, candidates: Tensor | None) -> LayerStats:
        """Update a layer on a batch; see `ActivationCache`."""
        labels = None
        if self._network.method.label_conditioned and candidates is not None:
            labels = self._network.node_labels(batch, candidates)
        inputs, prepared = self._inputs(batch, labels)
        return self._rule.update_layer(layer, inputs, batch, candidates, prepared=prepared).stats

    def scores(self, layer: int, batch: Batch) -> Tensor:
        """Return the scores of a batch; see `ActivationCache`."""
        inputs, prepared = self._inputs(batch, self._every_label(batch))
        return _scores(self._network.layer(layer), inputs, prepared, batch)

    def advance(self, layer: Layer) -> None:
        """Replace the inputs by those of the next layer; see `ActivationCache`."""
        self._rows, self._prepared = self._stored(self._next_blocks(layer)), None

    def _inputs(self, batch: Batch, labels: Tensor | None) -> tuple[HypothesisBatch, Tensor | None]:
        """Return the input of the layer for a batch, and the result of `prepare`."""
        topology = self._network.inputs(batch, labels).topology
        if self._prepared is not None:
            prepared = self._rows_of(self._prepared, batch, labels)
            return HypothesisBatch(prepared, topology, labels), prepared
        return HypothesisBatch(self._rows_of(self._rows, batch, labels), topology, labels), None

    def _rows_of(self, store: Tensor, batch: Batch, labels: Tensor | None) -> Tensor:
        """Return the rows of a batch, for the hypotheses of its labels if there are several."""
        assert batch.node_indices is not None
        rows = batch.node_indices.to(store.device)
        if labels is None or len(store) == 1:
            return store[:, rows].to(batch.x.device)
        return store[labels.to(store.device), rows[None]].to(batch.x.device)

    def _every_label(self, batch: Batch) -> Tensor | None:
        if not self._network.method.label_conditioned:
            return None
        every = torch.arange(self._network.out_channels, device=batch.x.device)
        return every[:, None].expand(-1, batch.num_nodes)

    def _blocks(self) -> Iterator[Batch]:
        edges = self._graphs.edge_offset.diff()[self._indices] * self._network.out_channels
        _, counts = torch.unique_consecutive(edges.cumsum(0) // _BLOCK_EDGES, return_counts=True)
        for part in torch.split(self._indices, counts.tolist()):
            yield self._graphs.batch(part)

    def _prepared_blocks(self, layer: Layer) -> Iterator[tuple[Batch, Tensor]]:
        # Before the first label injection all hypotheses are equal, and only one is stored.
        labelled = len(self._rows) > 1 or layer.labelled_input is not None
        for batch in self._blocks():
            labels = self._every_label(batch) if labelled else None
            inputs, _ = self._inputs(batch, labels)
            with torch.no_grad():
                yield batch, layer.prepare(inputs.x, inputs.topology, labels)

    def _next_blocks(self, layer: Layer) -> Iterator[tuple[Batch, Tensor]]:
        for batch in self._blocks():
            inputs, prepared = self._inputs(batch, self._every_label(batch))
            yield batch, _activations(layer, inputs, prepared)

    def _stored(self, blocks: Iterator[tuple[Batch, Tensor]]) -> Tensor:
        store: Tensor | None = None
        for batch, values in blocks:
            assert batch.node_indices is not None
            if store is None:
                shape = (len(values), len(self._graphs.x), values.shape[2])
                store = values.new_zeros(shape) if self._location == "memory" else _on_disk(shape)
            store[:, batch.node_indices.to(store.device)] = values.to(store.device)
        assert store is not None
        return store


def _activations(layer: Layer, inputs: HypothesisBatch, prepared: Tensor | None) -> Tensor:
    with torch.no_grad():
        h: Tensor = layer(inputs.x, inputs.topology, inputs.labels, prepared)
    return h


def _scores(layer: Layer, inputs: HypothesisBatch, prepared: Tensor | None, batch: Batch) -> Tensor:
    layer.eval()
    with torch.no_grad():
        return layer.score(_activations(layer, inputs, prepared), inputs.topology, batch)


def _on_disk(shape: tuple[int, int, int]) -> Tensor:
    # The file is unlinked as soon as it is mapped, so it never outlives the process.
    with tempfile.TemporaryDirectory() as folder:
        values = torch.from_file(
            str(Path(folder) / "activations"), shared=True, size=shape[0] * shape[1] * shape[2], dtype=torch.float32
        )
    return values.view(shape)
