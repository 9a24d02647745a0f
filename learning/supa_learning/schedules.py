"""Learning-rate schedules: pure functions of the position in a training."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple


class Position(NamedTuple):
    """A position within a stage of a training, the argument of a schedule.

    Args:
        epoch: Number of the epoch, from 0.
        step: Number of the step within the epoch, from 0.
        steps_per_epoch: Number of steps per epoch.
        epochs: Maximum number of epochs.

    Example:
        >>> from supa_learning import Position, StepDecay
        >>> StepDecay(0.1)(Position(epoch=3, step=7, steps_per_epoch=10, epochs=20))
        0.1
    """

    epoch: int
    step: int
    steps_per_epoch: int
    epochs: int


Schedule = Callable[[Position], float]
"""A function that returns the learning rate of a step."""


@dataclass(frozen=True)
class StepDecay:
    """A learning rate that is halved after every ``step_size`` epochs.

    Args:
        learning_rate: Learning rate of the first epoch.
        step_size: Number of epochs between two halvings; None for a constant learning rate.

    Example:
        >>> from supa_learning import Position, StepDecay
        >>> StepDecay(0.1, 2)(Position(epoch=4, step=0, steps_per_epoch=1, epochs=9))
        0.025
    """

    learning_rate: float
    step_size: int | None = None

    def __call__(self, position: Position) -> float:
        """Return the learning rate of a step."""
        halvings = 0 if self.step_size is None else position.epoch // self.step_size
        return float(self.learning_rate * 0.5**halvings)


@dataclass(frozen=True)
class WarmupCosine:
    """A learning rate that rises linearly from 0 and then falls to 0 as a cosine.

    Args:
        learning_rate: Highest learning rate.
        warmup: Fraction of the steps in which the learning rate rises, at least 0 and below 1.

    Example:
        >>> from supa_learning import Position, WarmupCosine
        >>> WarmupCosine(0.1, 0.0)(Position(epoch=1, step=0, steps_per_epoch=5, epochs=2))
        0.05
    """

    learning_rate: float
    warmup: float

    def __call__(self, position: Position) -> float:
        """Return the learning rate of a step."""
        done = position.epoch * position.steps_per_epoch + position.step
        steps = position.epochs * position.steps_per_epoch
        warm = self.warmup * steps
        if done < warm:
            return self.learning_rate * (done + 1) / (warm + 1)
        return self.learning_rate * (1 + math.cos(math.pi * (done - warm) / (steps - warm))) / 2
