"""The interface of a learner: a model with its data and its update rule."""

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
        score: Score that selects the best weights; larger is better. Later entries break ties between earlier ones.
        figures: Numbers to report, by part of the model and by name.

    Example:
        >>> from supa_learning import Validation
        >>> loss = 0.25
        >>> Validation((-loss,), {"model": {"loss": loss}}).score
        (-0.25,)
    """

    score: tuple[float, ...]
    figures: Figures = field(default_factory=dict)


class TrainingTask(ABC, Generic[B]):
    """A model with its data and its update rule, which a `Trainer` trains.

    This is an abstract base class. A subclass implements `steps_per_epoch`, `units`, `batches`, `update`, `figures`,
    `validation_batches` and `validate`. The training has one or more stages. Each stage trains one module of the
    model (by default the model itself) for several epochs and restores the weights of its best validation at its end.

    Args:
        model: Model to train, on the device of the data.
        seed: Random seed of the training.
        epochs: Maximum number of epochs per stage.
        patience: Number of validations without a better score after which a stage ends.
        schedule: Function that returns the learning rate of a step, such as `StepDecay`.
        optimizer: Optimizer whose state is saved in checkpoints; None if ``update`` needs none.
        validate_every: Number of epochs from one validation to the next. The last epoch is always validated.
        processes: Group of processes that train together; by default this process alone.

    Example:
        >>> import torch
        >>> from supa_learning import StepDecay, Trainer, TrainingTask, Validation, epoch_order
        >>> x = torch.linspace(-1, 1, 64)[:, None]
        >>> class Line(TrainingTask):
        ...     steps_per_epoch, units = 4, 64
        ...     def __init__(self):
        ...         model = torch.nn.Linear(1, 1)
        ...         optimizer = torch.optim.SGD(model.parameters())
        ...         super().__init__(model, seed=0, epochs=20, patience=5, schedule=StepDecay(0.2), optimizer=optimizer)
        ...     def batches(self, stage, epoch, first):
        ...         return torch.from_numpy(epoch_order(64, self.seed, epoch)).view(4, 16)[first:]
        ...     def update(self, rows, learning_rate):
        ...         self.optimizer.param_groups[0]["lr"] = learning_rate
        ...         self.optimizer.zero_grad()
        ...         loss = (self.model(x[rows]) - 2 * x[rows]).square().mean()
        ...         loss.backward()
        ...         self.optimizer.step()
        ...         return loss.detach()
        ...     def figures(self, totals):
        ...         return {"model": {"loss": float(totals) / self.steps_per_epoch}}
        ...     def validation_batches(self):
        ...         return [x]
        ...     def validate(self, batches):
        ...         loss = sum(float((self.model(batch) - 2 * batch).square().mean()) for batch in batches)
        ...         return Validation((-loss,), {"model": {"loss": loss}})
        >>> state = Trainer(Line()).run()
        >>> state.best_score[0] > -1e-3
        True
    """

    stages: int = 1
    """Number of stages."""
    not_finite: ClassVar[str] = "training diverged; lower learning_rate"
    """Cause and remedy of a validation without a finite score, for the error message."""

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
        """Number of training batches per epoch."""

    @property
    @abstractmethod
    def units(self) -> int:
        """Number of items per epoch, such as showers, graphs or nodes, for the progress display."""

    @abstractmethod
    def batches(self, stage: int, epoch: int, first: int) -> Iterable[B]:
        """Return the training batches of an epoch.

        Args:
            stage: Number of the stage, from 0.
            epoch: Number of the epoch, from 0. The order of the batches must depend only on seed, stage and epoch.
            first: Number of the first batch to return, which is above 0 if an interrupted epoch is resumed.

        Returns:
            Iterable over the batches.
        """

    @abstractmethod
    def update(self, batch: B, learning_rate: float) -> Tensor:
        """Update the weights with a batch.

        Args:
            batch: One of the `batches`.
            learning_rate: Learning rate of this step.

        Returns:
            Tensor of sums over the batch with a fixed shape. `Trainer` adds it up over the epoch and all processes.
        """

    @abstractmethod
    def figures(self, totals: Tensor) -> Figures:
        """Return the training figures of an epoch, such as the mean loss.

        Args:
            totals: Sum of the results of `update` over the epoch and all processes.

        Returns:
            Numbers to report, by part of the model and by name.
        """

    @abstractmethod
    def validation_batches(self) -> Iterable[B]:
        """Return the validation batches.

        Returns:
            Iterable over the batches.
        """

    @abstractmethod
    def validate(self, batches: Iterable[B]) -> Validation:
        """Validate the module of the current stage.

        Args:
            batches: Iterable over the validation batches, which must be consumed within this call.

        Returns:
            Score and figures.
        """

    def module(self, stage: int) -> nn.Module:
        """Return the module that a stage trains.

        Args:
            stage: Number of the stage.

        Returns:
            The model or one of its modules.
        """
        return self.model

    def session(self) -> AbstractContextManager[None]:
        """Return a context manager around the training, which can release resources at its end."""
        return nullcontext()

    def start_stage(self, stage: int) -> None:
        """Prepare a stage. Also called when a training is resumed within the stage.

        Args:
            stage: Number of the stage.
        """

    def end_stage(self, stage: int) -> None:
        """Complete a stage, after the best weights of its module were restored.

        Args:
            stage: Number of the stage.
        """

    def end(self) -> None:
        """Complete the training after the last stage."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the task without the weights: by default, the state of the optimizer."""
        return {} if self.optimizer is None else {"optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state of the task.

        Args:
            state: Dictionary from `state_dict`.
        """
        if self.optimizer is not None:
            self.optimizer.load_state_dict(state["optimizer"])
