"""What a learner provides: a model, its data and its update rule."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn

from supa_learning.processes import Processes
from supa_learning.schedules import Schedule

B = TypeVar("B")

Figures = Mapping[str, Mapping[str, float]]
"""Numbers by part of the model (such as ``"layer0"``) and by name (such as ``"loss"``)."""


@dataclass(frozen=True)
class Validation:
    """The result of a validation.

    Args:
        score: what chooses the best weights; larger is better, and later entries decide between equal first ones.
        figures: the numbers to report.
    """

    score: tuple[float, ...]
    figures: Figures = field(default_factory=dict)


class TrainingTask(ABC, Generic[B]):
    """A model with its data and its update rule, for `Trainer`.

    A task is trained in one or more stages. Each stage trains one module of the model (by default the model) for some
    epochs, and ends with the weights of its best validation.

    Args:
        model: what is trained, on the device of the data.
        seed: seed of all random numbers of the training.
        epochs: maximum number of epochs of a stage.
        patience: number of validations without a better score after which a stage ends.
        schedule: returns the learning rate of a step.
        optimizer: the optimizer, if one trains the whole model; its state is saved.
        validate_every: number of epochs between two validations; the last epoch is always validated.
        processes: the processes that train together.
    """

    stages: int = 1
    not_finite: ClassVar[str] = "training diverged; lower learning_rate"
    """Why a validation may have no finite score, and what to do."""

    def __init__(
        self,
        model: nn.Module,
        *,
        seed: int,
        epochs: int,
        patience: int,
        schedule: Schedule,
        optimizer: torch.optim.Optimizer | None = None,
        validate_every: int = 1,
        processes: Processes | None = None,
    ) -> None:
        self.model, self.seed, self.epochs, self.patience = model, seed, epochs, patience
        self.schedule, self.optimizer, self.validate_every = schedule, optimizer, validate_every
        self.processes = processes or Processes()

    @property
    def device(self) -> torch.device:
        """Device of the training."""
        return self.processes.device

    @property
    @abstractmethod
    def steps_per_epoch(self) -> int:
        """Number of training batches of an epoch."""

    @property
    @abstractmethod
    def units(self) -> int:
        """Number of items of an epoch, for the progress: showers, graphs or nodes."""

    @abstractmethod
    def batches(self, stage: int, epoch: int, first: int) -> Iterable[B]:
        """Return the training batches of an epoch.

        Args:
            stage: number of the stage.
            epoch: number of the epoch. The order of the batches must depend on seed, stage and epoch only.
            first: number of the batch to begin with, since an interrupted epoch is resumed there.

        Returns:
            The batches.
        """

    @abstractmethod
    def update(self, batch: B, learning_rate: float) -> Tensor:
        """Update the weights with a batch.

        Args:
            batch: the batch.
            learning_rate: the learning rate of this step.

        Returns:
            Sums over the batch in any fixed shape, which `Trainer` adds up over an epoch and all processes.
        """

    @abstractmethod
    def figures(self, totals: Tensor) -> Figures:
        """Return the numbers to report of an epoch's training.

        Args:
            totals: the sum of what `update` returned.

        Returns:
            The numbers.
        """

    @abstractmethod
    def validation_batches(self) -> Iterable[B]:
        """Return the validation batches."""

    @abstractmethod
    def validate(self, batches: Iterable[B]) -> Validation:
        """Validate the module of the current stage.

        Args:
            batches: the validation batches, to be consumed within this call.

        Returns:
            Score and figures.
        """

    def module(self, stage: int) -> nn.Module:
        """Return the module that a stage trains.

        Args:
            stage: number of the stage.

        Returns:
            The model or a part of it.
        """
        return self.model

    def session(self) -> AbstractContextManager[None]:
        """Return a context for the training, for what must be released at its end."""
        return nullcontext()

    def start_stage(self, stage: int) -> None:
        """Prepare a stage; also called when a training is resumed within it.

        Args:
            stage: number of the stage.
        """

    def end_stage(self, stage: int) -> None:
        """Complete a stage, whose module has its best weights.

        Args:
            stage: number of the stage.
        """

    def end(self) -> None:
        """Complete the training, after the last stage."""

    def state_dict(self) -> dict[str, Any]:
        """Return what the next step depends on besides the weights: the state of the optimizer."""
        return {} if self.optimizer is None else {"optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned.

        Args:
            state: the state.
        """
        if self.optimizer is not None:
            self.optimizer.load_state_dict(state["optimizer"])
