"""Training task on packed showers: batches, updates, several processes and CUDA graphs."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from supa.checks import counted
from supa_learning.captured_step import CapturedStep
from supa_learning.flat_gradients import FlatGradients
from supa_learning.processes import Processes
from supa_learning.randomness import epoch_order
from supa_learning.schedules import WarmupCosine
from supa_learning.task import TrainingTask
from supa_mamba.config import TrainingConfig
from supa_mamba.generator.training_config import GeneratorTrainingConfig
from supa_mamba.modules.initialisation import optimizer_groups
from supa_mamba.packed_showers import Batch, PackedShowers, batch_cuts
from supa_mamba.padding import PaddedShape, empty_batch, fill_padded

_VALIDATION_FACTOR = 2
"""Validation stores nothing for a backward pass, so its batches can be larger by this factor."""


class StepInputs(NamedTuple):
    """Inputs of a training or validation step.

    Args:
        batch: The batch, with padding if the step is captured.
        scale: Factor of the sum of the losses for the gradient; a () float32 tensor if the step is captured.
    """

    batch: Batch
    scale: float | Tensor


class PackedTask(TrainingTask[Batch]):
    """Training task of a model on packed showers.

    This is an abstract base class. A subclass implements `losses`, `validation_sums`, `update`, `figures` and
    `validate`.

    The order of the showers depends only on the seed and the epoch; nothing else is random after initialisation. With
    several processes, each process computes its share of every batch, and all processes add up their gradients.

    On GPUs, batches are padded to few shapes, and the steps are captured as CUDA graphs.

    Args:
        model: The model whose weights are selected by the validation, on the device of the processes.
        settings: Settings of the training.
        train: The training showers.
        valid: The validation showers.
        trained: The model whose weights the optimizer changes, by default ``model``.
        processes: Processes that train together.
        cuda_graphs: Whether to capture CUDA graphs on a GPU. The results have the same bits without them.

    Raises:
        ValueError: If a batch has fewer showers than there are processes.
    """

    def __init__(
        self,
        model: nn.Module,
        settings: TrainingConfig | GeneratorTrainingConfig,
        train: PackedShowers,
        valid: PackedShowers,
        *,
        trained: nn.Module | None = None,
        processes: Processes,
        cuda_graphs: bool,
    ) -> None:
        smallest = int(np.diff(batch_cuts(len(train), settings.batch_size)).min())
        if smallest < processes.count:
            raise ValueError(
                f"A batch has {counted(smallest, 'shower')}, but there are {processes.count} processes; use larger "
                "batches, more showers or fewer processes."
            )
        self.trained = model if trained is None else trained
        on_gpu = processes.device.type == "cuda"
        # A graph reads the learning rate from a tensor.
        self._rate = torch.tensor(settings.learning_rate, device=processes.device) if on_gpu else None
        self._options: dict[str, Any] = {"fused": on_gpu, "capturable": on_gpu}
        self._adamw = torch.optim.AdamW(
            optimizer_groups(self.trained, settings.weight_decay), lr=settings.learning_rate, **self._options
        )
        super().__init__(
            model,
            seed=settings.seed,
            epochs=settings.epochs,
            patience=settings.patience,
            schedule=WarmupCosine(settings.learning_rate, settings.warmup),
            optimizer=self._adamw,
            processes=processes,
        )
        self._settings = settings
        self.digest = train.digest() + valid.digest()
        self.train, self.valid = train.to(processes.device), valid.to(processes.device)
        self._gradients = FlatGradients(self.trained.parameters())
        self._padded = on_gpu
        self._bounded = False
        """Whether the steps need an upper bound of the lengths, as attention does."""
        self._backward, self._evaluation = (
            CapturedStep(step, self._new_inputs, device=self.device, enabled=cuda_graphs)
            for step in (self._backward_step, self._validation_step)
        )
        # The processes communicate between the graphs, not in them. A graph with a collective operation of NCCL must be
        # replayed by all processes together, but the shares of a batch have different shapes.
        self._optimization: CapturedStep[None, None] = CapturedStep(
            self._optimizer_step, lambda _: None, device=self.device, enabled=cuda_graphs
        )

    @abstractmethod
    def losses(self, batch: Batch) -> Tensor:
        """Compute the losses of a training step. Padding has no losses.

        Args:
            batch: This process's share of a batch.

        Returns:
            () sum of the losses, or (n,) sums of the parts of the loss.
        """

    @abstractmethod
    def validation_sums(self, batch: Batch) -> Tensor:
        """Compute the sums of a validation step. Padding does not contribute.

        Args:
            batch: This process's share of a batch.

        Returns:
            (n,) sums.
        """

    @property
    def steps_per_epoch(self) -> int:
        """Number of steps of an epoch."""
        return len(batch_cuts(len(self.train), self._settings.batch_size)) - 1

    @property
    def units(self) -> int:
        """Number of training showers of an epoch."""
        return len(self.train)

    @contextmanager
    def session(self) -> Iterator[None]:
        """Begin with the same weights in all processes, and release the graphs at the end."""
        # The bits of initial weights may depend on the processor.
        for module in dict.fromkeys((self.trained, self.model)):
            for weights in module.state_dict().values():
                self.processes.broadcast_(weights)
        try:
            yield
        finally:
            for step in (self._backward, self._optimization, self._evaluation):
                step.forget()

    def batches(self, stage: int, epoch: int, first: int) -> Iterator[Batch]:
        """Return this process's shares of the training batches of an epoch; see `TrainingTask.batches`."""
        self.trained.train()
        return self._shares(stage, epoch, first)

    def validation_batches(self) -> Iterator[Batch]:
        """Return this process's shares of the validation batches."""
        order = np.arange(len(self.valid))
        return self.valid.batches(order, _VALIDATION_FACTOR * self._settings.batch_size, share=self._share)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state of the optimizer, which may have been trained on another kind of device."""
        saved = state["optimizer"]
        groups = [group | self._options for group in saved["param_groups"]]
        super().load_state_dict({**state, "optimizer": {**saved, "param_groups": groups}})
        self._optimization.forget()  # the optimizer has new tensors

    def _select_trained(self) -> None:
        """Train only the parameters that require gradients."""
        for weights in self.trained.parameters():
            weights.grad = None  # the optimizer leaves out parameters without gradients
        self._gradients = FlatGradients(self.trained.parameters())
        for step in (self._backward, self._optimization, self._evaluation):
            step.forget()

    def _shares(self, _stage: int, epoch: int, first: int) -> Iterator[Batch]:
        order = epoch_order(len(self.train), self.seed, epoch)  # there is one stage
        return self.train.batches(order, self._settings.batch_size, first=first, share=self._share)

    def _update(self, batch: Batch, learning_rate: float) -> Tensor:
        """Update the weights, and return the losses of this process's share of a batch."""
        if self._rate is not None:
            self._rate.fill_(learning_rate)
        for group in self._adamw.param_groups:
            group["lr"] = learning_rate if self._rate is None else self._rate
        # The loss is the mean over the units of the whole batch. A batch of empty showers has no units.
        losses = self._run(self._backward, batch, self._settings.batch_size, 1 / max(batch.units, 1))
        self._gradients.sum_(self.processes)
        self._optimization.inputs(None)
        self._optimization(None)
        return losses

    def _validation_totals(self, batches: Iterable[Batch]) -> tuple[Tensor, int]:
        """Return the sums of the validation over all processes, in float64, and the number of units."""
        self.model.eval()
        sums: Tensor | None = None
        units = 0
        for batch in batches:
            found = self._run(self._evaluation, batch, _VALIDATION_FACTOR * self._settings.batch_size).double()
            sums = found if sums is None else sums + found
            units += batch.units
        assert sums is not None
        return self.processes.sum(sums), units

    def _backward_step(self, inputs: StepInputs) -> Tensor:
        """Compute the gradients and return the losses."""
        losses = self.losses(inputs.batch)
        self._gradients.backward(losses.sum() * inputs.scale)
        return losses.detach()

    def _optimizer_step(self, _: None) -> Tensor:
        """Update the weights and return the norm of the gradients."""
        norm = nn.utils.clip_grad_norm_(self.trained.parameters(), self._settings.clip)
        self._adamw.step()
        return norm

    def _validation_step(self, inputs: StepInputs) -> Tensor:
        return self.validation_sums(inputs.batch)

    def _run(
        self, step: CapturedStep[PaddedShape, StepInputs], batch: Batch, most_showers: int, scale: float = 1.0
    ) -> Tensor:
        """Run a step on a batch, which is padded for a graph."""
        if not self._padded:
            return step.function(StepInputs(batch, scale))
        shape = PaddedShape.of(batch, -(-most_showers // self.processes.count), bounded=self._bounded)
        inputs = step.inputs(shape)
        fill_padded(inputs.batch, batch)
        inputs.scale.fill_(scale)  # type: ignore[union-attr]
        return step(shape)

    def _new_inputs(self, shape: PaddedShape) -> StepInputs:
        batch = empty_batch(shape, self.train.points, self.train.target, by_hit=self.train.by_hit)
        return StepInputs(batch, torch.empty((), device=self.device))

    def _autocast(self, *, enabled: bool = True) -> torch.autocast:
        enabled = enabled and self._settings.precision == "bf16"
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=enabled)

    def _with_all_hits(self, batch: Batch) -> Batch:
        """Return a batch whose units are the hits in the shares of all processes."""
        if self.processes.count == 1:
            return replace(batch, units=len(batch.points))
        return replace(batch, units=int(self.processes.sum(torch.tensor(len(batch.points)))))

    @property
    def _share(self) -> tuple[int, int]:
        return self.processes.rank, self.processes.count
