"""Training tasks for networks: joint and greedy training."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from supa_gff.batch import Batch
from supa_gff.disk.graph import DiskGraph
from supa_gff.graph_set import GraphSet
from supa_gff.label_injection import VirtualNodes
from supa_gff.networks.network import Network
from supa_gff.networks.score_network import check_fits
from supa_gff.shower_stream import ShowerGraphStream
from supa_gff.training.data import Pairs, TrainingData
from supa_gff.training.disk_task import DiskTask, FolderWriter
from supa_gff.training.graph_task import GraphTask, layer_part
from supa_gff.training.scoring import (
    all_metrics,
    scores_and_targets,
    validation_score,
)
from supa_gff.training.stream_data import StreamData
from supa_gff.updates.activation_cache import (
    ActivationCache,
    CacheLocation,
    GraphSetCache,
    SingleGraphCache,
    check_location,
)
from supa_gff.updates.loss_stats import mean_figures, sum_stats
from supa_learning.processes import Processes
from supa_learning.task import Figures, Validation
from supa_learning.trainer import Callback, Trainer


class GreedyTask(GraphTask):
    """Task that trains the layers of a network one after another, on cached activations of the layers below.

    Validation combines the scores of the trained layer and of the layers below.

    Args:
        network: Network to train, on the device of the graphs.
        data: Training data.
        seed: Random seed of the training.
        cache: Location of the activation cache: ``"memory"`` or ``"disk"``.
    """

    data: TrainingData | StreamData

    def __init__(self, network: Network, data: TrainingData | StreamData, *, seed: int, cache: CacheLocation) -> None:
        super().__init__(network, data, seed=seed)
        self.stages = network.method.layers
        self._location = cache
        self._cache: ActivationCache | None = None
        self._below: list[Tensor] = []
        self._layer = -1

    def module(self, stage: int) -> nn.Module:
        """Return the layer that is trained in a stage."""
        return self.network.layer(stage)

    def start_stage(self, stage: int) -> None:
        """Compute the inputs of a layer from the inputs of the layers below."""
        if self._layer < 0:
            self._cache = self._make_cache()
            self._enter(0)
        while self._layer < stage:
            below = self.network.layer(self._layer)
            below.eval()
            self._below.append(self._scores(self.validation_batches())[0])
            if self._cache is not None:
                self._cache.advance(below)
            self._enter(self._layer + 1)

    def update(self, batch: Batch, learning_rate: float) -> Tensor:
        """Update one layer; see `GraphTask.update`."""
        layer, cache = self._layer, self._cache
        self.rule.optimisers.set_learning_rate([layer], learning_rate)
        if cache is None:
            return sum_stats(self.rule.step(batch, layer, self.candidates.draw(batch, layer)))
        candidates = self.candidates.draw(batch, layer, lambda: cache.scores(layer, batch))
        return sum_stats([cache.update(layer, batch, candidates)])

    def figures(self, totals: Tensor) -> Figures:
        """Return the mean statistics of the layer; see `TrainingTask.figures`."""
        return {layer_part(self._layer): mean_figures(totals)[0]}

    def validate(self, batches: Iterable[Batch]) -> Validation:
        """Evaluate the layer combined with those below; see `TrainingTask.validate`."""
        network = self.network
        network.layer(self._layer).eval()
        scores, target = self._scores(batches)
        together = network.aggregate(torch.stack([*self._below, scores]))
        figures = {layer_part(self._layer): all_metrics(network, together, target)}
        return Validation(validation_score(network, together, target), figures)

    def end_stage(self, stage: int) -> None:
        """Release the optimiser of the layer."""
        self.rule.optimisers.release(stage)

    def end(self) -> None:
        """Release the cache and select the layers to use for prediction."""
        self._cache, self._below, self._layer = None, [], -1
        super().end()

    def _enter(self, layer: int) -> None:
        self._layer = layer
        if self._cache is not None:
            self._cache.prepare(self.network.layer(layer))

    def _scores(self, batches: Iterable[Batch]) -> tuple[Tensor, Tensor]:
        """Return the (units, out_channels) scores of the current layer, and the targets."""
        layer, cache = self._layer, self._cache

        def scores(batch: Batch) -> Tensor:
            return self.network.layer_scores(batch)[layer] if cache is None else cache.scores(layer, batch)

        return scores_and_targets([(scores(batch), batch.target) for batch in batches])

    def _make_cache(self) -> ActivationCache | None:
        """Return the cache, or None if the inputs of a layer change from step to step."""
        method, data = self.network.method, self.data
        if method.collaboration or isinstance(data, StreamData):
            return None
        graphs = data.graphs
        if isinstance(graphs, Pairs):
            return SingleGraphCache(self.rule, graphs.train, graphs.valid, None)
        if graphs.transductive:
            if method.label_conditioned and (method.negatives is None or method.negatives.redraw):
                return None
            train = data.train_batch()
            candidates = self.candidates.draw(train) if method.label_conditioned else None
            return SingleGraphCache(self.rule, train, next(data.validation_batches()), candidates)
        if method.label_conditioned and (graphs.level == "node" or isinstance(method.label, VirtualNodes)):
            return None
        return GraphSetCache(self.rule, graphs, torch.cat([data.train, data.valid]), self._location)


def training_task(
    network: Network,
    graphs: GraphSet | Pairs | ShowerGraphStream | DiskGraph,
    train: Tensor | None = None,
    valid: Tensor | None = None,
    *,
    seed: int = 0,
    cache: CacheLocation = "memory",
    turns: int = 1,
    processes: Processes | None = None,
) -> GraphTask:
    """Return the training task of a network, for `supa_learning.Trainer`.

    Use `train` unless you need the trainer before training starts, for example to resume from a checkpoint.

    Args:
        network: Network to train, on the device of the graphs.
        graphs: Set of graphs, `Pairs` at link level, a `ShowerGraphStream`, or a `DiskGraph`. On a stream, greedy
            training computes the layers below in each step. On a graph on disk, the device is that of the network.
        train: (count,) int64 training indices: of graphs, or of the nodes of a single graph. None for `Pairs` and
            streams.
        valid: (count,) int64 validation indices, by which epochs and layers are selected. None for `Pairs` and streams.
        seed: Random seed of the training. The seed of `Network` determines the initial weights.
        cache: Location of the activation cache of greedy training; see `train`.
        turns: Number of passes over the layers of a graph on disk; see `train`.
        processes: Processes that train a graph on disk in a pipeline; see `train`.

    Returns:
        The task.

    Raises:
        ValueError: If the network does not fit the graphs, indices are missing or out of range, or the method needs all
            graphs of a stream.

    Example:
        >>> import torch
        >>> from torch_geometric.data import Data
        >>> from supa_gff import GraphSet, Network, preset, training_task
        >>> from supa_learning import Trainer
        >>> edges = torch.tensor([[0, 1], [1, 0]])
        >>> graphs = [Data(x=torch.full((2, 3), k % 2), edge_index=edges, y=torch.tensor([k % 2])) for k in range(12)]
        >>> dataset = GraphSet.of(graphs)
        >>> network = Network.for_graphs(preset("mono-forward").replace(layers=2, epochs=3), dataset)
        >>> trainer = Trainer(training_task(network, dataset, torch.arange(8), torch.arange(8, 12)))
        >>> state = trainer.run()
        >>> len(state.history)
        3
    """
    check_location(cache)
    if isinstance(graphs, DiskGraph):
        return DiskTask(network, graphs, train, valid, seed=seed, cache=cache, turns=turns, processes=processes)
    if isinstance(cache, Path) or turns != 1 or processes is not None:
        raise ValueError("A folder for cache, turns and processes require a DiskGraph; write_disk_graph writes one.")
    method = network.method
    data: TrainingData | StreamData
    if isinstance(graphs, ShowerGraphStream):
        data = StreamData(graphs, method)
        check_fits(network, graphs.validation)
    else:
        if not isinstance(graphs, Pairs):
            check_fits(network, graphs)
        data = TrainingData(graphs, train, valid, method.batch_size)
    if method.schedule == "greedy":
        return GreedyTask(network, data, seed=seed, cache=cache)
    return GraphTask(network, data, seed=seed)


def train(
    network: Network,
    graphs: GraphSet | Pairs | ShowerGraphStream | DiskGraph,
    train: Tensor | None = None,
    valid: Tensor | None = None,
    *,
    seed: int = 0,
    cache: CacheLocation = "memory",
    turns: int = 1,
    processes: Processes | None = None,
    callbacks: Sequence[Callback] = (),
) -> Trainer[GraphTask]:
    """Train a network.

    After training the network has the weights of the best validation score.

    Args:
        network: Network to train, on the device of the graphs.
        graphs: Set of graphs, `Pairs` at link level, a `ShowerGraphStream`, or a `DiskGraph`. On a stream, greedy
            training computes the layers below in each step. On a graph on disk, the device is that of the network.
        train: (count,) int64 training indices: of graphs, or of the nodes of a single graph. None for `Pairs` and
            streams.
        valid: (count,) int64 validation indices, by which epochs and layers are selected. None for `Pairs` and streams.
        seed: Random seed of the training. The seed of `Network` determines the initial weights.
        cache: Location of the activation cache of greedy training: ``"memory"``, or ``"disk"`` for temporary files. For
            a graph on disk also a folder (a ``Path``), which is created: a call with the same arguments then continues
            after an interruption, and returns at once after the end.
        turns: For a graph on disk: number of passes over the layers. In each pass a layer is trained for its share of
            the epochs, and the inputs of the layers above are computed again. One pass is usual greedy training.
        processes: For a graph on disk: processes that train the layers in a pipeline, from
            `supa_learning.torchrun_processes`. Each trains some consecutive layers in each pass, while the others train
            theirs in earlier or later passes. The result is the same as that of one process with as many turns.
        callbacks: Callbacks of the trainer; see `supa_learning.Callback`.

    Returns:
        The trainer. ``trainer.state.history`` has the statistics of each epoch.

    Raises:
        ValueError: If the network does not fit the graphs, indices are missing or out of range, or training diverged.

    Example:
        >>> import torch
        >>> from torch_geometric.data import Data
        >>> from supa_gff import GraphSet, Network, preset, train
        >>> edges = torch.tensor([[0, 1], [1, 0]])
        >>> graphs = [Data(x=torch.full((2, 3), k % 2), edge_index=edges, y=torch.tensor([k % 2])) for k in range(32)]
        >>> dataset = GraphSet.of(graphs)
        >>> method = preset("best").replace(layers=2, epochs=20, learning_rate=0.01)
        >>> network = Network.for_graphs(method, dataset)
        >>> trainer = train(network, dataset, torch.arange(16), torch.arange(16, 24))
        >>> test = dataset.batch(torch.arange(24, 32))
        >>> float((network.predict(test) == test.target).float().mean())
        1.0
    """
    task = training_task(network, graphs, train, valid, seed=seed, cache=cache, turns=turns, processes=processes)
    trainer = Trainer(task, callbacks=callbacks)
    if isinstance(cache, Path):
        trainer.callbacks.append(FolderWriter(trainer, cache))
    trainer.run()
    return trainer
