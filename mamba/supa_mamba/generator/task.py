"""Training task of a generator of showers."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from supa import ShowerConfig
from supa_learning.averaged_weights import AveragedWeights
from supa_learning.processes import Processes
from supa_learning.randomness import RandomState
from supa_learning.task import Figures, Validation
from supa_mamba.generator.coding import HitCoding
from supa_mamba.generator.hits import HitBatch
from supa_mamba.generator.model import LogLikelihood, ShowerGenerator, previous_of
from supa_mamba.generator.sample_comparison import SampleComparison
from supa_mamba.generator.training_config import GeneratorTrainingConfig
from supa_mamba.generator.training_showers import columns_of
from supa_mamba.packed_showers import Batch, PackedShowers
from supa_mamba.packed_task import PackedTask

PART = "generator"
"""Name of the model in the figures of an epoch."""
SAMPLE = "sample"
"""Name of the comparison of sampled showers in the figures of an epoch."""


class GeneratorTask(PackedTask):
    """Training task of a generator.

    The loss is the negative logarithm of the likelihood in nats per hit; all hits of a batch have the same weight. The
    attribute ``model`` is the generator with averaged weights, which the validation uses; ``trained`` is the generator
    whose weights the optimizer changes.

    Args:
        config: Configuration of the generator and its training.
        coding: Conversion of showers into sequences.
        shower_configs: The configs of the showers, in the order of their numbers.
        train: The training showers, from ``training_showers.packed``.
        valid: The validation showers.
        comparison: Comparison of sampled showers with true ones, which process 0 makes after some epochs; None for
            none.
        initial: The generator with its initial weights; by default a new one.
        processes: Processes that train together; this process alone by default.
        cuda_graphs: Whether to capture CUDA graphs on a GPU. The results have the same bits without them.

    Raises:
        ValueError: If a batch has fewer showers than there are processes, or if there are no hits.
    """

    def __init__(
        self,
        config: GeneratorTrainingConfig,
        coding: HitCoding,
        shower_configs: Sequence[ShowerConfig],
        train: PackedShowers,
        valid: PackedShowers,
        *,
        comparison: SampleComparison | None = None,
        initial: ShowerGenerator | None = None,
        processes: Processes | None = None,
        cuda_graphs: bool = True,
    ) -> None:
        for kind, showers in (("training", train), ("validation", valid)):
            if not len(showers.points):
                raise ValueError(f"The {kind} showers have no hits to learn from; provide more showers.")
        processes = processes or Processes()
        self.config, self.coding, self.shower_configs = config, coding, tuple(shower_configs)
        trained = (initial or new_generator(config, coding)).to(processes.device)
        self._comparison, self._epoch = comparison, 0
        self._conditions = coding.conditions.table(self.shower_configs, processes.device)
        self._average = AveragedWeights(trained, config.ema)
        super().__init__(
            self._average.model, config, train, valid, trained=trained, processes=processes, cuda_graphs=cuda_graphs
        )
        self._bounded = config.generator.model in ("hybrid", "transformer")

    def batches(self, stage: int, epoch: int, first: int) -> Iterator[Batch]:
        """Return this process's shares of the training batches of an epoch; see `TrainingTask.batches`."""
        self._epoch = epoch
        return map(self._with_all_hits, super().batches(stage, epoch, first))

    def validation_batches(self) -> Iterator[Batch]:
        """Return this process's shares of the validation batches."""
        return map(self._with_all_hits, super().validation_batches())

    def losses(self, batch: Batch) -> Tensor:
        """Return the (4,) nats of the leak, of the profile, of the energies of hits, and of their positions."""
        return self._nats(self.trained, batch)

    def validation_sums(self, batch: Batch) -> Tensor:
        """Return the same sums of the averaged model, in float32."""
        return self._nats(self.model, batch)

    def update(self, batch: Batch, learning_rate: float) -> Tensor:
        """Update the generator; see `TrainingTask.update`.

        Args:
            batch: This process's share of a batch.
            learning_rate: The learning rate.

        Returns:
            (6,) float32: four sums of nats, and the numbers of hits and showers of this share.
        """
        self._average.advance()
        nats = self._update(batch, learning_rate)
        numbers = (nats.new_full((1,), len(values)) for values in (batch.points, batch.target))
        return torch.cat([nats, *numbers])

    def figures(self, totals: Tensor) -> Figures:
        """Return the nats per hit and per shower; see `TrainingTask.figures`."""
        *nats, hits, showers = totals.tolist()
        parts = dict(zip(LogLikelihood._fields, nats, strict=True))
        return {
            PART: {"nats_per_hit": sum(nats) / hits, "nats_per_shower": sum(nats) / showers},
            **{name: {"nats_per_hit": value / hits} for name, value in parts.items()},
        }

    def validate(self, batches: Iterable[Batch]) -> Validation:
        """Compute the nats of the validation showers with the averaged weights, and compare sampled showers if due."""
        sums, hits = self._validation_totals(batches)
        figures = dict(self.figures(torch.cat([sums, sums.new_tensor([hits, len(self.valid)])])))
        nats = figures[PART]["nats_per_hit"]
        due = self._comparison is not None and self._comparison.is_due(self._epoch, self.epochs)
        if due and math.isfinite(nats) and self.processes.rank == 0:
            assert self._comparison is not None
            assert isinstance(self.model, ShowerGenerator)
            figures[SAMPLE] = self._comparison.figures(self.model)
        return Validation((-nats,), figures)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the optimizer, and the weights without averages."""
        return super().state_dict() | self._average.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state; see `TrainingTask.load_state_dict`."""
        super().load_state_dict(state)
        self._average.load_state_dict(state)

    def _optimizer_step(self, _: None) -> Tensor:
        norm = super()._optimizer_step(None)
        self._average.apply()
        return norm

    def _nats(self, model: torch.nn.Module, batch: Batch) -> Tensor:
        assert isinstance(model, ShowerGenerator)
        coded = self._coded(batch)
        previous = previous_of(coded)
        with self._autocast(enabled=model is self.trained):
            hidden = model.hidden(previous, coded.offset, max_length=batch.longest)
        terms = model.log_likelihood(hidden.float(), previous, coded)
        of_showers = (batch.sum(values, by_hit=False) for values in (terms.leak, terms.profile))
        of_hits = (batch.sum(values, by_hit=True) for values in (terms.energy, terms.position))
        return -torch.stack([*of_showers, *of_hits])

    def _coded(self, batch: Batch) -> HitBatch:
        columns = columns_of(batch, self.coding.slices[0])
        of_config = batch.target[:, 2].long()
        condition = self.coding.conditions.from_table(self._conditions, of_config, columns.incident_energy)
        return self.coding.encode_columns(columns, condition)


def new_generator(config: GeneratorTrainingConfig, coding: HitCoding) -> ShowerGenerator:
    """Build a generator with its initial weights.

    Args:
        config: Sizes and seed.
        coding: Conversion of showers into sequences.

    Returns:
        The generator, on the CPU.
    """
    with RandomState(config.seed).as_global():
        return ShowerGenerator(config.generator, coding)
