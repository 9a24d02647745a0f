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
    """A finished epoch.

    Args:
        stage: number of the stage.
        epoch: number of the epoch within the stage, from 0.
        train: figures of the training, by part of the model.
        valid: figures of the validation, by part of the model; empty if the epoch was not validated.
        score: first entry of the validation score, larger is better; NaN if the epoch was not validated.
        learning_rate: learning rate of the last step.
        seconds: wall time, including the validation.
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
        stage: the current stage.
        epoch: the current epoch of the stage.
        step: the next step of the epoch.
        totals: sums over the steps of the epoch so far; None before the first step.
        seconds: wall time of the epoch so far, in seconds.
        best_score: the best validation score of the stage; empty before the first validation.
        best_epoch: its epoch; -1 before the first validation.
        best_weights: the weights of the stage's module at that validation.
        history: the finished epochs of all stages.
        finished: whether the training is over.
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
        """How much training is done, such as ``"2 epochs and 1 step"``."""
        return f"{counted(len(self.history), 'epoch')} and {counted(self.step, 'step')}"

    def waited(self) -> int:
        """Return the number of epochs since the best validation, or since the first epoch if there was none."""
        return self.epoch - 1 - max(self.best_epoch, 0)

    def is_better(self, score: tuple[float, ...]) -> bool:
        """Return whether a validation score is better than the best one so far.

        Args:
            score: the score; a first entry that is not finite is never better.

        Returns:
            Whether it is better; equal first entries are compared by the following ones.
        """
        return math.isfinite(score[0]) and score > self.best_score

    def next_stage(self) -> None:
        """Move to the first epoch of the next stage."""
        self.stage, self.epoch = self.stage + 1, 0
        self.best_score, self.best_epoch, self.best_weights = (), -1, {}

    def to_dict(self) -> dict[str, Any]:
        """Return plain values and tensors, which are shared with the state.

        Returns:
            A dictionary for `from_dict`.
        """
        return {**vars(self), "history": [dict(vars(epoch)) for epoch in self.history]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TrainingState":
        """Restore the state that `to_dict` returned.

        Args:
            values: the dictionary.

        Returns:
            The state.

        Raises:
            KeyError: an entry is missing.
            TypeError: an entry is unknown, or of another type.
        """
        history = [Epoch(**epoch) for epoch in values["history"]]
        return cls(**{**values, "history": history, "best_score": tuple(values["best_score"])})
