"""Learning-rate schedules: pure functions of the position in a training."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple


class Position(NamedTuple):
    """A position in a stage of a training.

    Args:
        epoch: number of the epoch.
        step: number of the step within the epoch.
        steps_per_epoch: number of steps of an epoch.
        epochs: maximum number of epochs.
    """

    epoch: int
    step: int
    steps_per_epoch: int
    epochs: int


Schedule = Callable[[Position], float]
"""Returns the learning rate of a step."""


@dataclass(frozen=True)
class StepDecay:
    """A learning rate that is halved after every ``step_size`` epochs.

    Args:
        learning_rate: learning rate of the first epoch.
        step_size: number of epochs between two halvings; None: the learning rate is constant.

    Example:
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
        learning_rate: the highest learning rate.
        warmup: fraction of the steps in which it rises, from 0 to below 1.

    Example:
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
