"""Training and validation batches: graphs, nodes of one graph, or pairs of nodes."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from supa_gff.batch import Batch
from supa_gff.checks import check_indices
from supa_gff.graph_set import GraphSet
from supa_learning.randomness import epoch_order

VALIDATION_FACTOR = 4
"""Ratio of the validation to the training batch size. Validation has no backward pass and requires less memory."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """Training and validation pairs of nodes of one graph, for link prediction.

    Args:
        train: Batch at link level. The number of unlinked pairs must be a multiple of the number of linked pairs.
        valid: Batch at link level with the same nodes and edges.

    Example:
        >>> import torch
        >>> from torch_geometric.data import Data
        >>> from supa_gff import GraphSet, Network, Pairs, preset, split_links, train
        >>> edges = torch.stack([torch.arange(30), (torch.arange(30) + 1) % 30])
        >>> graphs = GraphSet.of([Data(x=torch.eye(30), edge_index=edges, y=torch.zeros(1))], level="link")
        >>> split = split_links(graphs)
        >>> network = Network.for_graphs(preset("best", "link").replace(epochs=2), graphs)
        >>> trainer = train(network, Pairs(split.train, split.valid))
        >>> network.predict(split.test).shape
        torch.Size([12])
    """

    train: Batch
    valid: Batch


class TrainingData:
    """Training and validation batches of a set of graphs, or of pairs of nodes.

    Args:
        graphs: Set of graphs, or pairs of nodes.
        train: (count,) int64 training indices: of graphs, or of the nodes of a single graph. None for pairs.
        valid: (count,) int64 validation indices. None for pairs.
        batch_size: Number of graphs per training batch.

    Raises:
        ValueError: If indices are missing, are not integers, or are out of range.
    """

    def __init__(self, graphs: GraphSet | Pairs, train: Tensor | None, valid: Tensor | None, batch_size: int) -> None:
        self.graphs, self._size = graphs, batch_size
        self._train_batch: Batch | None = None
        if isinstance(graphs, Pairs):
            self.device = graphs.train.x.device
            return
        if graphs.level == "link":
            raise ValueError(
                "A network at link level is trained on Pairs(train, valid); use split_links to build them."
            )
        self.device = graphs.device
        self.train = check_indices("train", train, graphs.num_items).to(graphs.device)
        self.valid = check_indices("valid", valid, graphs.num_items).to(graphs.device)

    @property
    def is_single_batch(self) -> bool:
        """Whether every epoch consists of the same single batch."""
        return isinstance(self.graphs, Pairs) or self.graphs.transductive

    @property
    def units(self) -> int:
        """Number of training graphs, nodes or pairs."""
        return self.graphs.train.num_units if isinstance(self.graphs, Pairs) else len(self.train)

    @property
    def num_batches(self) -> int:
        """Number of training batches per epoch."""
        return 1 if self.is_single_batch else len(self._sizes)

    def batches(self, first: int, *key: int) -> Iterator[Batch]:
        """Iterate over the training batches of an epoch.

        Args:
            first: Index of the first batch to return.
            *key: Integers that determine the order of the graphs.

        Yields:
            The batches.
        """
        if self.is_single_batch:
            yield from [self.train_batch()][first:]
            return
        assert isinstance(self.graphs, GraphSet)
        for indices in self.batch_indices(*key)[first:]:
            yield self.graphs.batch(indices)

    def batch_indices(self, *key: int) -> tuple[Tensor, ...]:
        """Return the graphs of the training batches of an epoch.

        Args:
            *key: Integers that determine the order of the graphs.

        Returns:
            (count,) int64 indices of the graphs of each batch.
        """
        order = torch.from_numpy(epoch_order(len(self.train), *key)).to(self.device)
        return torch.split(self.train[order], self._sizes)

    def validation_batches(self) -> Iterator[Batch]:
        """Iterate over the validation batches."""
        if isinstance(self.graphs, Pairs):
            yield self.graphs.valid
        else:
            yield from self.graphs.batches(self.valid, VALIDATION_FACTOR * self._size, known=self.train)

    def train_batch(self) -> Batch:
        """Return the single training batch of nodes or pairs. Each call returns the same object."""
        if isinstance(self.graphs, Pairs):
            return self.graphs.train
        if self._train_batch is None:
            self._train_batch = self.graphs.batch(self.train, self.train)
        return self._train_batch

    @property
    def _sizes(self) -> list[int]:
        return batch_sizes(len(self.train), self._size)


def batch_sizes(count: int, size: int) -> list[int]:
    """Return the numbers of graphs of the training batches of an epoch.

    Args:
        count: Number of training graphs.
        size: Number of graphs per batch.

    Returns:
        The number of graphs of each batch. The last one is never a single graph, unless it is the only one.
    """
    full, rest = divmod(count, size)
    if rest == 1 and full:
        return [*[size] * (full - 1), size + 1]  # batch normalisation requires two graphs
    return [*[size] * full, *([rest] if rest else [])]
