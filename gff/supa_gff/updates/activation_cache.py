"""What the frozen lower layers give, computed once and kept while a layer trains, in memory or on disk."""

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal, Protocol

import torch
from torch import Tensor

from supa_gff.data import Batch, Graphs
from supa_gff.networks.hypotheses import Step, Streams
from supa_gff.networks.layer import Layer
from supa_gff.networks.network import Network
from supa_gff.topology import Topology

Keep = Literal["memory", "disk"]

_BLOCK_EDGES = 1_000_000
"""Edges of the graphs that pass a layer together when everything is passed on."""

_MOST_COPIED = 0.75
"""Share of the nodes up to which the rows of the predicted ones are copied; beyond, they save less time than memory."""


class Kept(Protocol):
    """The inputs of one layer, for training and for validation."""

    def prepare(self, layer: Layer) -> None:
        """Make what comes before the trained part of a layer, where that can be made once."""

    def update(self, layer: int, batch: Batch, candidates: Tensor | None) -> Step:
        """Update a layer on a training batch."""

    def scores(self, layer: int, batch: Batch) -> Tensor:
        """Give a layer's (units, outputs) scores of a batch."""

    def advance(self, layer: Layer) -> None:
        """Pass on through a layer that has finished training."""


class _Held:
    """Some streams before a layer, what the layer has prepared of them, and the share of it that scores need."""

    def __init__(self, streams: Streams) -> None:
        self.streams = streams
        self.prepared: Tensor | None = None
        self._narrow: list[tuple[Tensor, Batch, Streams]] = []

    def prepare(self, layer: Layer) -> None:
        if layer.prepares and self.prepared is None:
            streams = self.streams
            with torch.no_grad():
                self.prepared = layer.prepare(streams.x, streams.topology, streams.labels)
            # Nobody reads x any more, and the copy would cost as much as everything else that is kept.
            self.streams = Streams(self.prepared, streams.topology, streams.labels)

    def seen(self, layer: Layer, batch: Batch) -> tuple[Batch, Streams, Tensor | None]:
        """Give what a layer needs to see for the scores of a batch: of all nodes, or of the predicted ones alone."""
        if self.prepared is None or batch.units is None or batch.units.dim() == 2 or not layer.by_node:
            return batch, self.streams, self.prepared
        if len(batch.units) > _MOST_COPIED * batch.num_nodes:
            return batch, self.streams, self.prepared
        for units, narrow, streams in self._narrow:
            if units is batch.units:
                return narrow, streams, streams.x
        # There are two: that of training and that of validation.
        self._narrow.append((batch.units, *self._narrowed(batch, batch.units)))
        return self.seen(layer, batch)

    def activations(self, layer: Layer) -> Tensor:
        """Give the activations of all nodes."""
        return activations(layer, self.streams, self.prepared)

    def _narrowed(self, batch: Batch, units: Tensor) -> tuple[Batch, Streams]:
        streams, topology = self.streams, self.streams.topology
        assert self.prepared is not None
        virtual = torch.arange(topology.num_real, len(topology.graph), device=units.device)
        rows = torch.cat([units, virtual])
        narrow = Topology(
            topology.edge_index[:, :0], topology.graph[rows], topology.num_graphs, len(units), topology.streams
        )
        labels = None if streams.labels is None else streams.labels[:, rows]
        predicted = replace(batch, x=batch.x[units], units=None, context=None)
        return predicted, Streams(self.prepared[:, rows], narrow, labels)


def activations(layer: Layer, streams: Streams, prepared: Tensor | None) -> Tensor:
    """Give a layer's activations, without gradient.

    Args:
        layer: the layer.
        streams: what it sees.
        prepared: result of its `prepare`, where it has been made before.

    Returns:
        (streams, nodes, width) float32.
    """
    with torch.no_grad():
        if prepared is None:
            prepared = layer.prepare(streams.x, streams.topology, streams.labels)
        return layer.activate(prepared, streams.x, streams.topology, streams.labels)


class KeptWhole:
    """Kept inputs of training on one batch that stays the same: nodes or pairs of one graph.

    Args:
        network: the network.
        train: the training batch.
        valid: the validation batch, with the same nodes and edges.
        candidates: labels that the training compares; None without label injection.
    """

    def __init__(self, network: Network, train: Batch, valid: Batch, candidates: Tensor | None) -> None:
        self._network = network
        if network.method.conditioned and candidates is not None:
            every = torch.arange(network.outputs, device=valid.x.device).expand(valid.num_units, -1)
            self._train = _Held(network.streams(train, network.hypotheses(train, candidates)))
            self._valid = _Held(network.streams(valid, network.hypotheses(valid, every)))
        else:
            self._train = self._valid = _Held(network.streams(train, None))

    def prepare(self, layer: Layer) -> None:
        """Make what comes before the trained part of a layer; see `Kept`."""
        method = self._network.method
        # Streams that run in turn prepare their own.
        if not (method.conditioned and method.streams == "in turn"):
            self._train.prepare(layer)
        self._valid.prepare(layer)

    def update(self, layer: int, batch: Batch, candidates: Tensor | None) -> Step:
        """Update a layer on the training batch; see `Kept`."""
        seen, streams, prepared = self._train.seen(self._network.layer(layer), batch)
        return self._network.update(layer, streams, seen, candidates, prepared=prepared)[2]

    def scores(self, layer: int, batch: Batch) -> Tensor:
        """Score the validation batch; see `Kept`."""
        module = self._network.layer(layer)
        module.eval()
        seen, streams, prepared = self._valid.seen(module, batch)
        with torch.no_grad():
            return module.score(activations(module, streams, prepared), streams.topology, seen)

    def advance(self, layer: Layer) -> None:
        """Pass on through a layer that has finished training; see `Kept`."""
        shared = self._valid is self._train
        self._train = self._passed_on(self._train, layer, truth_first=True)
        self._valid = self._train if shared else self._passed_on(self._valid, layer, truth_first=False)

    def _passed_on(self, held: _Held, layer: Layer, *, truth_first: bool) -> _Held:
        return _Held(self._network.pass_on(held.streams, held.activations(layer), truth_first=truth_first))


class KeptRows:
    """Kept inputs of training on batches of many graphs.

    With label injection there is one stream for each class: all nodes of a graph hold the same hypothesis.

    Args:
        network: the network.
        graphs: the set.
        members: (count,) int64, the graphs that are needed.
        keep: where the rows lie.
    """

    def __init__(self, network: Network, graphs: Graphs, members: Tensor, keep: Keep) -> None:
        self._network, self._graphs, self._members, self._keep = network, graphs, members, keep
        self._rows = graphs.x[None]
        self._prepared: Tensor | None = None

    def prepare(self, layer: Layer) -> None:
        """Make what comes before the trained part of a layer; see `Kept`."""
        if layer.prepares and self._prepared is None:
            self._prepared = self._stored(self._prepared_blocks(layer))

    def update(self, layer: int, batch: Batch, candidates: Tensor | None) -> Step:
        """Update a layer on a batch; see `Kept`."""
        labelled = self._network.method.conditioned and candidates is not None
        labels = self._network.hypotheses(batch, candidates) if labelled and candidates is not None else None
        streams, prepared = self._input(batch, labels)
        return self._network.update(layer, streams, batch, candidates, prepared=prepared)[2]

    def scores(self, layer: int, batch: Batch) -> Tensor:
        """Score a batch; see `Kept`."""
        module = self._network.layer(layer)
        module.eval()
        streams, prepared = self._input(batch, self._every_label(batch))
        with torch.no_grad():
            return module.score(activations(module, streams, prepared), streams.topology, batch)

    def advance(self, layer: Layer) -> None:
        """Pass on through a layer that has finished training; see `Kept`."""
        self._rows, self._prepared = self._stored(self._passed_on_blocks(layer)), None

    def _input(self, batch: Batch, labels: Tensor | None) -> tuple[Streams, Tensor | None]:
        """Give what a layer sees of a batch."""
        streams = self._network.streams(batch, labels)
        if self._prepared is not None:
            prepared = self._taken(self._prepared, batch, labels)
            return Streams(prepared, streams.topology, labels), prepared
        return Streams(self._taken(self._rows, batch, labels), streams.topology, labels), None

    def _taken(self, store: Tensor, batch: Batch, labels: Tensor | None) -> Tensor:
        """Take the rows of a batch, of the streams of given labels where there are several."""
        assert batch.rows is not None
        rows = batch.rows.to(store.device)
        if labels is None or len(store) == 1:
            return store[:, rows].to(batch.x.device)
        return store[labels.to(store.device), rows[None]].to(batch.x.device)

    def _every_label(self, batch: Batch) -> Tensor | None:
        if not self._network.method.conditioned:
            return None
        every = torch.arange(self._network.outputs, device=batch.x.device)
        return every[:, None].expand(-1, batch.num_nodes)

    def _blocks(self) -> Iterator[Batch]:
        edges = self._graphs.edge_offset.diff()[self._members] * self._network.outputs
        _, counts = torch.unique_consecutive(edges.cumsum(0) // _BLOCK_EDGES, return_counts=True)
        for part in torch.split(self._members, counts.tolist()):
            yield self._graphs.batch(part)

    def _prepared_blocks(self, layer: Layer) -> Iterator[tuple[Batch, Tensor]]:
        # Before the first label comes in, all streams are the same, and one is kept.
        labelled = len(self._rows) > 1 or layer.labelled_input is not None
        for batch in self._blocks():
            labels = self._every_label(batch) if labelled else None
            streams, _ = self._input(batch, labels)
            with torch.no_grad():
                yield batch, layer.prepare(streams.x, streams.topology, labels)

    def _passed_on_blocks(self, layer: Layer) -> Iterator[tuple[Batch, Tensor]]:
        for batch in self._blocks():
            streams, prepared = self._input(batch, self._every_label(batch))
            yield batch, activations(layer, streams, prepared)

    def _stored(self, blocks: Iterator[tuple[Batch, Tensor]]) -> Tensor:
        store: Tensor | None = None
        for batch, values in blocks:
            assert batch.rows is not None
            if store is None:
                shape = (len(values), len(self._graphs.x), values.shape[2])
                store = values.new_zeros(shape) if self._keep == "memory" else _on_disk(shape)
            store[:, batch.rows.to(store.device)] = values.to(store.device)
        assert store is not None
        return store


def _on_disk(shape: tuple[int, int, int]) -> Tensor:
    # The file loses its name as soon as it is mapped, so that nothing is left behind, whatever happens.
    with tempfile.TemporaryDirectory() as folder:
        made = torch.from_file(
            str(Path(folder) / "kept"), shared=True, size=shape[0] * shape[1] * shape[2], dtype=torch.float32
        )
    return made.view(shape)
