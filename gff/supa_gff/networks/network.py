"""Graph networks in which each layer computes its own scores."""

import copy
from collections.abc import Callable, Mapping
from typing import Any, Self

from torch import Tensor

from supa.checks import format_value
from supa_gff.networks.score_network import ScoreNetwork
from supa_gff.updates.incremental import IncrementalTraining
from supa_gff.updates.loss_stats import LayerStats


class Network(ScoreNetwork):
    """Graph network in which each layer computes its own scores.

    The network is a ``torch.nn.Module`` that predicts. `train` trains it on a set of graphs, `partial_fit` on a stream
    of batches, and an update rule in your own training loop (see `update_rule`).

    Args:
        method: How the network is built, scored and trained.
        in_channels: Number of features per node.
        out_channels: Number of classes, of labels or of regression targets; 1 for links.
        level: What is predicted: ``"graph"``, ``"node"`` or ``"link"``.
        deg: (largest degree + 1,) int64 histogram of the in-degrees of the nodes, as in PyTorch Geometric's
            ``PNAConv``. Required by PNA only.
        edge_channels: Number of features per edge that the convolutions use. 0: they use none.
        seed: Random seed of the initial weights, and of the dropout and negative labels of `partial_fit`. The global
            random state of PyTorch is neither used nor changed.

    Raises:
        ValueError: If the method does not support the level or the number of outputs, or a number is out of range.

    Example:
        >>> import torch
        >>> from torch_geometric.data import Data
        >>> from supa_gff import GraphSet, Network, preset
        >>> edges = torch.tensor([[0, 1], [1, 0]])
        >>> graphs = [Data(x=torch.ones(2, 3), edge_index=edges, y=torch.tensor([k % 2])) for k in range(10)]
        >>> dataset = GraphSet.of(graphs)
        >>> network = Network.for_graphs(preset("best").replace(layers=2), dataset, seed=0)
        >>> batch = dataset.batch(torch.arange(10))
        >>> network.layer_scores(batch).shape  # layers, graphs, classes
        torch.Size([2, 10, 2])
        >>> network.predict(batch).shape
        torch.Size([10])
    """

    _incremental: IncrementalTraining | None = None

    def partial_fit(self, data: Any, layer: int | None = None) -> list[LayerStats]:
        """Update the weights by one training step on a batch of a stream.

        A call is one step of the network's update rule. The learning rate is that of the method and does not change.
        The optimisers and the random generators persist from call to call. They are separate from those of `train`, and
        are not part of ``state_dict``; see `training_state_dict`.

        Args:
            data: A `supa_gff.Batch`, or a ``Data`` or ``Batch`` of PyTorch Geometric with targets (see ``Batch.of``).
            layer: Index of the only layer to update by its own loss, with frozen layers below. None: all layers are
                updated.

        Returns:
            The statistics of each loss on this batch, computed before its update: one for each updated layer, or one
            for backpropagation. (The ``partial_fit`` of scikit-learn returns the estimator itself.)

        Raises:
            ValueError: If the batch does not fit the network, has no targets or values that are not finite; if the
                layer does not exist; or if the method cannot be trained on a stream. It cannot if its schedule is
                greedy and ``layer`` is None, if it draws negative labels only once, or if it is top-down.

        Example:
            >>> from supa_gff import Network, ShowerGraphStream, preset
            >>> graphs = ShowerGraphStream("critical", "num_primaries", validation_showers=20)
            >>> network = Network.for_graphs(preset("best").replace(layers=2), graphs.validation, seed=0)
            >>> stream = graphs.stream(batch_size=16)
            >>> for number, batch in zip(range(3), map(graphs.convert, stream)):
            ...     predicted = network.predict(batch)  # before the network has seen the targets
            ...     stats = network.partial_fit(batch)
            >>> [step.layer for step in stats]
            [0, 1]
            >>> [step.layer for step in network.partial_fit(batch, layer=1)]
            [1]
        """
        if self._incremental is None:
            self._incremental = IncrementalTraining(self)
        return self._incremental.step(data, layer)

    def training_state_dict(self) -> dict[str, Any]:
        """Return all that is required to continue with `partial_fit` to the same bits.

        Returns:
            The weights and, after the first call of `partial_fit`, the states of the optimisers and of the random
            generators: plain values and copies of tensors, for ``torch.save``. The position of a stream is not part of
            it.
        """
        incremental = None if self._incremental is None else self._incremental.state_dict()
        return copy.deepcopy({"weights": self.state_dict(), "incremental": incremental})

    def load_training_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the weights and the state of `partial_fit`.

        Args:
            state: Result of `training_state_dict`, of a network with the same method.

        Raises:
            ValueError: If it is another dictionary, for example that of ``state_dict``.
            RuntimeError: If the weights have other names or shapes.
        """
        if not isinstance(state, Mapping) or state.keys() != {"weights", "incremental"}:
            raise ValueError(
                f"state: {format_value(state)} was given, but it must be a result of Network.training_state_dict."
            )
        self.load_state_dict(state["weights"])
        self._restore(copy.deepcopy(state["incremental"]))

    def _restore(self, state: Mapping[str, Any] | None) -> None:
        self._incremental = None if state is None else IncrementalTraining(self)
        if self._incremental is not None and state is not None:
            self._incremental.load_state_dict(state)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # PyTorch calls this for every change of device or type, which the states of the optimisers must follow.
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self._incremental is not None:
            self._restore(self._incremental.state_dict())
        return self
