"""Training and validation rows of a graph on disk, in an order in which files are read nearly in sequence."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from supa.arrays import IntArray
from supa.checks import counted
from supa_gff.batch import Batch
from supa_gff.checks import check_indices
from supa_gff.disk.graph import DiskGraph
from supa_gff.disk.kept_inputs import gathered, row_topology
from supa_gff.disk.rows import FloatRows
from supa_gff.training.data import VALIDATION_FACTOR

_RUN = 4096
"""Number of training rows that are read one after another."""

_RUNS = 32
"""Number of runs from random places whose rows are shuffled together."""

T = TypeVar("T")
U = TypeVar("U")


class DiskData:
    """Training and validation batches of the nodes of a graph on disk.

    Args:
        graph: The graph.
        train: (count,) int64 training nodes.
        valid: (count,) int64 validation nodes.
        batch_size: Number of nodes per training batch.
        device: Device of the batches.

    Raises:
        ValueError: If indices are missing, are not integers, are repeated or are out of range.
    """

    def __init__(
        self, graph: DiskGraph, train: Tensor | None, valid: Tensor | None, batch_size: int, device: torch.device
    ) -> None:
        self.graphs, self.device, self._size = graph, device, batch_size
        self.inputs: FloatRows | None = None
        """(nodes, channels) float32 prepared inputs of the trained layer. None before the first layer."""
        self.train, self.valid = sorted_nodes("train", train, graph), sorted_nodes("valid", valid, graph)

    @property
    def units(self) -> int:
        """Number of training nodes."""
        return len(self.train)

    @property
    def num_batches(self) -> int:
        """Number of training batches per epoch."""
        return -(-len(self.train) // self._size)

    def batches(self, first: int, *key: int) -> Iterator[Batch]:
        """Iterate over the training batches of an epoch. Each batch is read while the previous one is used.

        Args:
            first: Index of the first batch to return.
            *key: Integers that determine the order of the rows.

        Yields:
            The batches, whose ``x`` has the inputs.
        """
        yield from self._read(_row_batches(self.train, self._size, first, key))

    def validation_batches(self) -> Iterator[Batch]:
        """Iterate over the validation batches, in the order of the nodes."""
        size = VALIDATION_FACTOR * self._size
        yield from self._read(self.valid[start : start + size] for start in range(0, len(self.valid), size))

    def _read(self, rows: Iterable[IntArray]) -> Iterator[Batch]:
        assert self.inputs is not None
        inputs = self.inputs
        return _ahead(lambda part: row_batch(self.graphs, inputs, part, self.device), rows)


def sorted_nodes(name: str, nodes: Tensor | None, graph: DiskGraph) -> IntArray:
    """Check the indices of nodes of a graph.

    Args:
        name: Name of the argument, for the error message.
        nodes: (count,) int64 indices.
        graph: The graph.

    Returns:
        (count,) int64 indices in ascending order.

    Raises:
        ValueError: If indices are missing, are not integers, are repeated or are out of range.
    """
    ordered: IntArray = np.sort(check_indices(name, nodes, graph.num_nodes).cpu().numpy())
    repeated = int((np.diff(ordered) == 0).sum())
    if repeated:
        raise ValueError(
            f"{name} has {counted(repeated, 'repeated index', 'repeated indices')}, but each node may occur once; use "
            f"torch.unique({name})."
        )
    return ordered


def row_batch(graph: DiskGraph, inputs: FloatRows, nodes: IntArray, device: torch.device) -> Batch:
    """Return a batch of nodes that depend on no others.

    Args:
        graph: The graph.
        inputs: (nodes, channels) float32 prepared inputs of a layer.
        nodes: (count,) int64 indices of the nodes of the batch.
        device: Device of the batch.

    Returns:
        The batch. Its ``x`` has the prepared inputs, and it has no edges.
    """
    topology = row_topology(len(nodes), device)
    return Batch(
        x=gathered(inputs, nodes, device),
        edge_index=topology.edge_index,
        graph=topology.graph,
        num_graphs=1,
        target=torch.from_numpy(graph.target[nodes]).to(device),
        node_indices=torch.from_numpy(nodes),
    )


def _row_batches(rows: IntArray, size: int, first: int, key: tuple[int, ...]) -> Iterator[IntArray]:
    """Yield the rows of the batches of an epoch, from the given batch on: shuffled runs, and shuffled rows in them."""
    random = np.random.default_rng(key)
    runs = random.permutation(-(-len(rows) // _RUN))
    rest, number = rows[:0], 0
    for start in range(0, len(runs), _RUNS):
        parts = [rows[run * _RUN : (run + 1) * _RUN] for run in runs[start : start + _RUNS]]
        rest = np.concatenate([rest, random.permutation(np.concatenate(parts))])
        final = start + _RUNS >= len(runs)
        while len(rest) >= size or (final and len(rest)):
            if number >= first:
                yield rest[:size]
            rest, number = rest[size:], number + 1


def _ahead(function: Callable[[T], U], items: Iterable[T]) -> Iterator[U]:
    """Yield the results of a function, each of which a thread computes while the previous one is used."""
    with ThreadPoolExecutor(1) as pool:
        waiting = None
        for item in items:
            following = pool.submit(function, item)
            if waiting is not None:
                yield waiting.result()
            waiting = following
        if waiting is not None:
            yield waiting.result()
