"""Task that trains all layers of a network in each step, the base of the other tasks."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

from torch import Tensor

from supa_gff.batch import Batch
from supa_gff.networks.network import Network
from supa_gff.training.candidates import CandidateSampler
from supa_gff.training.data import TrainingData
from supa_gff.training.disk_data import DiskData
from supa_gff.training.scoring import all_metrics, choose_layers, layer_metrics, validation_score
from supa_gff.training.stream_data import StreamData
from supa_gff.updates.factory import update_rule
from supa_gff.updates.loss_stats import mean_figures, sum_stats
from supa_learning.processes import Processes
from supa_learning.schedules import StepDecay
from supa_learning.task import Figures, TrainingTask, Validation

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

    data: TrainingData | StreamData | DiskData

    def __init__(self, network: Network, data: TrainingData | StreamData | DiskData, *, seed: int) -> None:
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
