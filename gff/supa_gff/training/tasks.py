"""Training tasks for networks: joint and greedy training."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, get_args

import torch
from torch import Tensor, nn

from supa.checks import counted
from supa_gff.checks import one_of
from supa_gff.data import Batch, GraphSet
from supa_gff.label_injection import VirtualNodes
from supa_gff.networks.network import Network
from supa_gff.networks.score_network import check_kind
from supa_gff.shower_stream import ShowerGraphStream
from supa_gff.training.candidates import CandidateSampler
from supa_gff.training.data import Pairs, TrainingData
from supa_gff.training.scoring import (
    all_metrics,
    choose_layers,
    layer_metrics,
    scores_and_targets,
    validation_score,
)
from supa_gff.training.stream_data import StreamData
from supa_gff.updates.activation_cache import ActivationCache, CacheLocation, GraphSetCache, SingleGraphCache
from supa_gff.updates.factory import update_rule
from supa_gff.updates.loss_stats import mean_figures, sum_stats
from supa_learning.processes import Processes
from supa_learning.schedules import StepDecay
from supa_learning.task import Figures, TrainingTask, Validation
from supa_learning.trainer import Callback, Trainer

NETWORK = "network"
"""Name of the combined layers in the training statistics."""


def layer_part(layer: int) -> str:
    """Return the name of a layer in the training statistics.

    Args:
        layer: Index of the layer, from 0.

    Returns:
        Name of the layer, for example ``"layer0"``.
    """
    return f"layer{layer}"


class GraphTask(TrainingTask[Batch]):
    """Task that trains all layers of a network in each step.

    Args:
        network: Network to train, on the device of the graphs.
        data: Training data.
        seed: Random seed of the training. The seed of `Network` determines the initial weights.
    """

    not_finite: ClassVar[str] = (
        "training diverged (use a lower learning_rate or a normalisation), the validation pairs are all linked or "
        "all unlinked, or each label applies to all or to none of the validation items"
    )

    def __init__(self, network: Network, data: TrainingData | StreamData, *, seed: int) -> None:
        method = network.method
        super().__init__(
            network,
            seed=seed,
            epochs=method.epochs,
            patience=method.patience,
            validate_every=method.validate_every,
            schedule=StepDecay(method.learning_rate, method.lr_step_size),
            processes=Processes(device=data.device),
        )
        self.network, self.data = network, data
        self.rule = update_rule(network)
        self.candidates = CandidateSampler(self.rule, data)

    @property
    def steps_per_epoch(self) -> int:
        """Number of training batches per epoch."""
        return self.data.num_batches

    @property
    def units(self) -> int:
        """Number of training graphs, nodes or pairs."""
        return self.data.units

    @contextmanager
    def session(self) -> Iterator[None]:
        """End the thread of a stream after the training."""
        try:
            yield
        finally:
            if isinstance(self.data, StreamData):
                self.data.stream.close()

    def batches(self, stage: int, epoch: int, first: int) -> Iterator[Batch]:
        """Iterate over the training batches of an epoch; see `TrainingTask.batches`."""
        return self.data.batches(first, self.seed, stage, epoch)

    def update(self, batch: Batch, learning_rate: float) -> Tensor:
        """Update all layers; see `TrainingTask.update`.

        Args:
            batch: Training batch.
            learning_rate: Learning rate of the step.

        Returns:
            (losses, 5) float64: the statistics of each loss, summed over units, and the number of units.
        """
        self.rule.optimisers.set_learning_rate(range(self.network.method.layers), learning_rate)
        return sum_stats(self.rule.step(batch, candidates=self.candidates.draw(batch)))

    def figures(self, totals: Tensor) -> Figures:
        """Return the mean statistics of each loss; see `TrainingTask.figures`."""
        single = len(totals) < self.network.method.layers
        names = [NETWORK] if single else [layer_part(layer) for layer in range(len(totals))]
        return dict(zip(names, mean_figures(totals), strict=True))

    def validation_batches(self) -> Iterator[Batch]:
        """Iterate over the validation batches."""
        return self.data.validation_batches()

    def validate(self, batches: Iterable[Batch]) -> Validation:
        """Evaluate the network on the validation batches; see `TrainingTask.validate`."""
        network = self.network
        scores, target = network.scores_of(batches)
        together = network.aggregate(scores)
        figures = {layer_part(layer): layer_metrics(network, part, target) for layer, part in enumerate(scores)}
        figures[NETWORK] = all_metrics(network, together, target)
        return Validation(validation_score(network, together, target), figures)

    def end(self) -> None:
        """Select the layers to use for prediction, if ``layers_used="chosen"``."""
        if self.network.method.layers_used == "chosen":
            choose_layers(self.network, *self.network.scores_of(self.validation_batches()))

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the update rule, the candidate labels that are drawn once, and the state of a stream."""
        stream = {"stream": self.data.stream.state_dict()} if isinstance(self.data, StreamData) else {}
        return {"rule": self.rule.state_dict(), "candidates": self.candidates.fixed} | stream

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state.

        Args:
            state: Result of `state_dict`.

        Raises:
            ValueError: If the state belongs to another stream.
        """
        if isinstance(self.data, StreamData):
            self.data.stream.load_state_dict(state["stream"])
        self.rule.load_state_dict(state["rule"])
        fixed = state["candidates"]
        self.candidates.fixed = None if fixed is None else fixed.to(self.device)


class GreedyTask(GraphTask):
    """Task that trains the layers of a network one after another, on cached activations of the layers below.

    Validation combines the scores of the trained layer and of the layers below.

    Args:
        network: Network to train, on the device of the graphs.
        data: Training data.
        seed: Random seed of the training.
        cache: Location of the activation cache: ``"memory"`` or ``"disk"``.
    """

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
    graphs: GraphSet | Pairs | ShowerGraphStream,
    train: Tensor | None = None,
    valid: Tensor | None = None,
    *,
    seed: int = 0,
    cache: CacheLocation = "memory",
) -> GraphTask:
    """Return the training task of a network, for `supa_learning.Trainer`.

    Use `train` unless you need the trainer before training starts, for example to resume from a checkpoint.

    Args:
        network: Network to train, on the device of the graphs.
        graphs: Set of graphs, `Pairs` at link level, or a `ShowerGraphStream`. On a stream, greedy training computes
            the layers below in each step.
        train: (count,) int64 training indices: of graphs, or of the nodes of a single graph. None for `Pairs` and
            streams.
        valid: (count,) int64 validation indices, by which epochs and layers are selected. None for `Pairs` and streams.
        seed: Random seed of the training. The seed of `Network` determines the initial weights.
        cache: Location of the activation cache of greedy training: ``"memory"`` or ``"disk"``.

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
    one_of(get_args(CacheLocation), "cache", cache)
    method = network.method
    data: TrainingData | StreamData
    if isinstance(graphs, ShowerGraphStream):
        data = StreamData(graphs, method)
        graphs = graphs.validation
    else:
        data = TrainingData(graphs, train, valid, method.batch_size)
    if isinstance(graphs, GraphSet):
        check_kind(method, graphs)
        if network.edge_channels != graphs.num_edge_features:
            raise ValueError(
                f"The network has {counted(network.edge_channels, 'feature')} per edge, but the graphs have "
                f"{graphs.num_edge_features:,}. Use Network.for_graphs."
            )
        expected = (graphs.level, graphs.num_features, graphs.num_outputs)
        if (network.level, network.in_channels, network.out_channels) != expected:
            raise ValueError(
                f"The network has {counted(network.in_channels, 'feature')}, {counted(network.out_channels, 'output')} "
                f"and {network.level} level, but the graphs have {counted(graphs.num_features, 'feature')}, "
                f"{counted(graphs.num_outputs, 'output')} and {graphs.level} level. Use Network.for_graphs."
            )
    if method.schedule == "greedy":
        return GreedyTask(network, data, seed=seed, cache=cache)
    return GraphTask(network, data, seed=seed)


def train(
    network: Network,
    graphs: GraphSet | Pairs | ShowerGraphStream,
    train: Tensor | None = None,
    valid: Tensor | None = None,
    *,
    seed: int = 0,
    cache: CacheLocation = "memory",
    callbacks: Sequence[Callback] = (),
) -> Trainer[GraphTask]:
    """Train a network.

    After training the network has the weights of the best validation score.

    Args:
        network: Network to train, on the device of the graphs.
        graphs: Set of graphs, `Pairs` at link level, or a `ShowerGraphStream`. On a stream, greedy training computes
            the layers below in each step.
        train: (count,) int64 training indices: of graphs, or of the nodes of a single graph. None for `Pairs` and
            streams.
        valid: (count,) int64 validation indices, by which epochs and layers are selected. None for `Pairs` and streams.
        seed: Random seed of the training. The seed of `Network` determines the initial weights.
        cache: Location of the activation cache of greedy training: ``"memory"`` or ``"disk"``.
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
    task = training_task(network, graphs, train, valid, seed=seed, cache=cache)
    trainer = Trainer(task, callbacks=callbacks)
    trainer.run()
    return trainer
