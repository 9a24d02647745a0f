"""The state of a training between two steps."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from supa.checks import counted
from supa_learning.task import Figures


@dataclass(frozen=True)
class Epoch:
    """The figures of a finished epoch.

    Args:
        stage: Number of the stage, from 0.
        epoch: Number of the epoch within the stage, from 0.
        train: Training figures by part of the model and by name.
        valid: Validation figures by part of the model and by name; empty if the epoch was not validated.
        score: First entry of the validation score, larger is better; NaN if the epoch was not validated.
        learning_rate: Learning rate of the last step.
        seconds: Wall time in seconds, including the validation.

    Example:
        >>> from supa_learning import Epoch
        >>> epoch = Epoch(0, 3, {"model": {"loss": 0.5}}, {"model": {"loss": 0.6}}, -0.6, 1e-3, 2.0)
        >>> epoch.valid["model"]["loss"]
        0.6
    """

    stage: int
    epoch: int
    train: Figures
    valid: Figures
    score: float
    learning_rate: float
    seconds: float


@dataclass
class TrainingState:
    """The position and the results of a training between two steps.

    Args:
        stage: Number of the current stage.
        epoch: Number of the current epoch within the stage.
        step: Number of the next step within the epoch.
        totals: Sums over the steps of the epoch so far; None before the first step.
        seconds: Wall time of the epoch so far in seconds.
        best_score: Best validation score of the stage; empty before the first validation.
        best_epoch: Epoch of the best validation; -1 before the first validation.
        best_weights: Weights of the module of the stage at the best validation.
        history: Finished epochs of all stages.
        finished: Whether the training is finished.

    Example:
        >>> from supa_learning import TrainingState
        >>> state = TrainingState(epoch=1, step=3)
        >>> state.extent
        '0 epochs and 3 steps'
        >>> TrainingState.from_dict(state.to_dict()) == state
        True
    """

    stage: int = 0
    epoch: int = 0
    step: int = 0
    totals: Tensor | None = None
    seconds: float = 0.0
    best_score: tuple[float, ...] = ()
    best_epoch: int = -1
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    history: list[Epoch] = field(default_factory=list)
    finished: bool = False

    @property
    def extent(self) -> str:
        """Amount of finished training, such as ``"2 epochs and 1 step"``."""
        return f"{counted(len(self.history), 'epoch')} and {counted(self.step, 'step')}"

    def waited(self) -> int:
        """Return the number of epochs since the best validation, or since the first epoch without a validation."""
        return self.epoch - 1 - max(self.best_epoch, 0)

    def is_better(self, score: tuple[float, ...]) -> bool:
        """Return whether a validation score is better than the best one so far.

        Args:
            score: Validation score. A score with a first entry that is not finite is never better.

        Returns:
            True if the score is better. Later entries break ties between earlier ones.
        """
        return math.isfinite(score[0]) and score > self.best_score

    def next_stage(self) -> None:
        """Move to the first epoch of the next stage."""
        self.stage, self.epoch = self.stage + 1, 0
        self.best_score, self.best_epoch, self.best_weights = (), -1, {}

    def to_dict(self) -> dict[str, Any]:
        """Return the state as plain values and tensors, which are not copied.

        Returns:
            Dictionary for `from_dict`.
        """
        return {**vars(self), "history": [dict(vars(epoch)) for epoch in self.history]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TrainingState":
        """Return the state from a dictionary.

        Args:
            values: Dictionary from `to_dict`.

        Returns:
            The state.

        Raises:
            KeyError: If an entry is missing.
            TypeError: If an entry is unknown or has a wrong type.
        """
        history = [Epoch(**epoch) for epoch in values["history"]]
        return cls(**{**values, "history": history, "best_score": tuple(values["best_score"])})
