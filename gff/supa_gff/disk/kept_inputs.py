"""Inputs of one layer after another for all nodes of a graph on disk, computed block by block."""

import hashlib
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from supa.arrays import IntArray
from supa_gff.disk.compiled_kernels import add_neighbours, count_other_sources
from supa_gff.disk.graph import DiskGraph
from supa_gff.disk.rows import FloatRows, RowStore, remove
from supa_gff.networks.layer import Layer
from supa_gff.networks.network import Network
from supa_gff.topology import Topology
from supa_gff.updates.activation_cache import CacheLocation, check_location

_BLOCK_BYTES = 1 << 28
"""Size of the rows that are in memory at a time."""

_PASS_ROWS = 1 << 16
"""Number of rows in a forward pass."""

_STRIPE_BYTES = 1 << 30
"""Size of the rows of sources that are read at random at a time, so that larger files are read in order."""

_NAME = re.compile("(rows|prepared)-([0-9]+)-([0-9]+)")
"""Name of what is kept: the kind, the layer, and the pass over the layers."""


class KeptInputs:
    """Inputs of the layers of a network for all nodes of a graph on disk.

    The input of a layer is the result of its `prepare`: the activations of the layer below, aggregated over neighbours.
    What is kept is recognised by the graph and the weights of the layers below. In a folder it outlives the process.

    Args:
        network: Network whose layers compute each row of their activations from one row of their prepared input.
        graph: The graph.
        location: ``"memory"``, ``"disk"`` or a folder.
    """

    def __init__(self, network: Network, graph: DiskGraph, location: CacheLocation) -> None:
        check_location(location)
        self._network, self._graph, self.location = network, graph, location
        if isinstance(location, Path):
            location.mkdir(exist_ok=True)
        self._stores: dict[str, RowStore] = {}
        self._scale: FloatRows | None = None

    def prepared(self, layer: int, turn: int = 0) -> FloatRows:
        """Compute the prepared input of a layer, unless it is kept.

        Args:
            layer: Index of the layer. The layers below must have their final weights of this turn.
            turn: Number of the pass over the layers, from 0.

        Returns:
            (nodes, channels) float32 input of ``Layer.activate``.
        """
        module, turn = self._network.layer(layer), turn if layer else 0
        store = self._store("prepared", layer, turn, self._prepared_channels(layer))
        if not store.complete:
            x = self.rows(layer, turn)
            for start, end in store.missing():
                store.write(start, self._aggregated(module, x, start, end))
        self._remove("rows", layer, turn)
        return store.values

    def rows(self, layer: int, turn: int = 0) -> FloatRows:
        """Compute the input of a layer before its aggregation, unless it is kept.

        Args:
            layer: Index of the layer; see `prepared`.
            turn: Number of the pass over the layers.

        Returns:
            (nodes, channels) float32 features or activations.
        """
        turn = turn if layer else 0
        if layer == 0 and not self._network.layer(layer).length:
            return self._graph.features
        channels = self._graph.num_features if layer == 0 else self._network.method.hidden_channels
        store = self._store("rows", layer, turn, channels)
        if store.complete:
            return store.values
        below = self._graph.features if layer == 0 else self.prepared(layer - 1, turn)
        for start, end in store.missing():
            block = torch.from_numpy(below[start:end])
            parts = [self._input_rows(layer, part) for part in torch.split(block, _PASS_ROWS)]
            store.write(start, torch.cat(parts).numpy())
        return store.values

    def pass_on(self, layer: int, turn: int) -> None:
        """Compute the `rows` of a layer in the folder, for another process."""
        self.rows(layer, turn)
        self._stores.pop(f"rows-{layer}-{turn}")

    @torch.no_grad()
    def _input_rows(self, layer: int, below: Tensor) -> Tensor:
        """Return rows of the input of a layer from rows of the features, or of the input of the layer below."""
        if layer > 0:
            below = activations(self._network.layer(layer - 1), below.to(self.device)[None])[0]
        return self._network.layer(layer).scaled(below).cpu()

    @property
    def device(self) -> torch.device:
        """Device of the network."""
        return next(self._network.parameters()).device

    def remove_except(self, layers: range, kept: set[tuple[str, int, int]]) -> None:
        """Remove what is kept for some layers.

        Args:
            layers: Indices of the layers.
            kept: Kind (``"rows"`` or ``"prepared"``), layer and turn of what is not removed.
        """
        # The first layer has the same inputs in every turn.
        kept = {(kind, layer, turn if layer else 0) for kind, layer, turn in kept}
        names = set(self._stores)
        if isinstance(self.location, Path):
            names |= {path.stem for path in self.location.glob("*.journal")}
        # The folder may contain files of the user.
        for found in filter(None, map(_NAME.fullmatch, names)):
            kind, layer, turn = found[1], int(found[2]), int(found[3])
            if layer in layers and (kind, layer, turn) not in kept:
                self._remove(kind, layer, turn)

    def _remove(self, kind: str, layer: int, turn: int) -> None:
        name = f"{kind}-{layer}-{turn}"
        self._stores.pop(name, None)
        if isinstance(self.location, Path):
            remove(self.location, name)

    def _store(self, kind: str, layer: int, turn: int, channels: int) -> RowStore:
        name, content = f"{kind}-{layer}-{turn}", self._content(kind, layer)
        if name not in self._stores or self._stores[name].content != content:
            block_rows = max(1, _BLOCK_BYTES // (4 * channels))
            shape = self._graph.num_nodes, channels
            self._stores[name] = RowStore(self.location, name, shape, content, block_rows)
        return self._stores[name]

    def _content(self, kind: str, layer: int) -> str:
        """Return the checksum of everything on which a kept input depends."""
        conv: Any = self._network.layer(layer).conv
        normalisation = self._network.method.normalisation
        eps = float(getattr(conv, "eps", 0))
        text = f"{kind} {layer} {self._graph.checksum} {type(conv).__name__} {eps} {normalisation}"
        digest = hashlib.sha256(text.encode())
        for index in range(layer):
            for name, value in self._network.layer(index).state_dict().items():
                digest.update(name.encode() + value.cpu().numpy().tobytes())
        return digest.hexdigest()

    def _prepared_channels(self, layer: int) -> int:
        channels = self._graph.num_features if layer == 0 else self._network.method.hidden_channels
        doubled = type(self._network.layer(layer).conv).__name__ in ("SAGEConv", "GraphConv")
        return channels * (2 if doubled else 1)

    def _aggregated(self, module: Layer, x: FloatRows, start: int, end: int) -> FloatRows:
        """Compute the rows ``start:end`` of ``convolutions.aggregate``."""
        kind, own = type(module.conv).__name__, x[start:end]
        is_gcn = kind == "GCNConv"
        scale = self._degree_scale() if is_gcn else np.zeros(0, np.float32)
        total = self._summed(x, start, end, scale, skip_loops=is_gcn)
        eps: Any = getattr(module.conv, "eps", 0)
        factor = np.float32(1 + float(eps))

        def finish(first: int, last: int) -> None:
            part, nodes = total[first:last], slice(start + first, start + last)
            if is_gcn:
                part += own[first:last] * scale[nodes, None]
                part *= scale[nodes, None]
            elif kind == "GINConv":
                part += factor * own[first:last]
            elif kind == "SAGEConv":
                degrees = np.diff(self._graph.offset[start + first : start + last + 1])
                part /= np.maximum(degrees, 1).astype(np.float32)[:, None]

        self._in_threads(start, end, finish)
        return total if kind in ("GCNConv", "GINConv") else np.concatenate([total, own], axis=1)

    def _summed(self, x: FloatRows, start: int, end: int, scale: FloatRows, *, skip_loops: bool) -> FloatRows:
        """Return the sums over the neighbours of the nodes ``start:end``."""
        graph, nodes = self._graph, len(x)
        total = np.zeros((end - start, x.shape[1]), np.float32)
        position = graph.offset[start:end].copy()
        stripe = max(1, _STRIPE_BYTES // (4 * x.shape[1]))
        for source_end in range(stripe, nodes + stripe, stripe):

            def add(first: int, last: int, source_end: int = source_end) -> None:
                add_neighbours(
                    x, graph.sources, graph.offset, position, scale, skip_loops, first, last, start, source_end, total
                )

            self._in_threads(start, end, add)
        return total

    def _degree_scale(self) -> FloatRows:
        """Return (nodes,) float32 one over the root of the number of neighbours with the node itself."""
        if self._scale is None:
            graph = self._graph
            self._scale = np.empty(graph.num_nodes, np.float32)
            step = _BLOCK_BYTES // 64
            for start in range(0, graph.num_nodes, step):
                end = min(start + step, graph.num_nodes)
                counts = np.zeros(end - start, np.int64)

                def count(first: int, last: int, start: int = start, counts: IntArray = counts) -> None:
                    count_other_sources(graph.sources, graph.offset, start + first, start + last, counts[first:last])

                self._in_threads(start, end, count)
                self._scale[start:end] = (torch.from_numpy(counts) + 1).float().rsqrt().numpy()
        return self._scale

    def _in_threads(self, start: int, end: int, work: Callable[[int, int], None]) -> None:
        """Call a function for ranges of the rows ``start:end`` with nearly equal numbers of edges."""
        threads = torch.get_num_threads()
        if threads == 1:
            work(0, end - start)
            return
        # Rows cost time, too. The most frequent nodes are often next to each other, so there are more parts than
        # threads.
        effort = self._graph.offset[start : end + 1] + np.arange(end - start + 1)
        ends = np.searchsorted(effort, np.linspace(effort[0], effort[-1], 8 * threads + 1))
        ends[0], ends[-1] = 0, end - start
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, ends[:-1].tolist(), ends[1:].tolist()))


def row_topology(rows: int, device: torch.device) -> Topology:
    """Return the topology of rows that depend on no others: nodes of one graph without edges."""
    nothing = torch.zeros(2, 0, dtype=torch.int64, device=device)
    return Topology(nothing, torch.zeros(rows, dtype=torch.int64, device=device), 1, rows)


def activations(layer: Layer, prepared: Tensor) -> Tensor:
    """Compute the activations of a frozen layer.

    Args:
        layer: The layer.
        prepared: (1, rows, channels) float32 rows of its prepared input, on the device of the layer.

    Returns:
        (1, rows, hidden_channels) float32 activations.
    """
    layer.eval()
    return layer.activate(prepared, prepared, row_topology(prepared.shape[1], prepared.device), None)


def gathered(values: FloatRows, rows: IntArray, device: torch.device) -> Tensor:
    """Copy some rows to a device.

    Args:
        values: (nodes, channels) float32 values.
        rows: (count,) int64 indices of rows.
        device: Target device. The copy to a GPU runs beside the program.

    Returns:
        (count, channels) float32 values.
    """
    on_gpu = device.type == "cuda"
    out = torch.empty(len(rows), values.shape[1], pin_memory=on_gpu)
    torch.index_select(torch.from_numpy(values), 0, torch.from_numpy(rows), out=out)
    return out.to(device, non_blocking=on_gpu)
