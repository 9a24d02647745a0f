"""Choices of the negative labels that a unit is compared with; none is its positive one."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from supa.checks import check_int


@dataclass(frozen=True)
class AllNegatives:
    """Every negative label once, in random order.

    Args:
        redraw: draw another order at each step; False: keep the first one (as ForwardGNN does, arXiv 2403.11004).
    """

    redraw: bool = True

    def draw(self, target: Tensor, classes: int, _scores: Callable[[], Tensor]) -> Tensor:
        """Draw negative labels.

        Args:
            target: (units,) int64 positive labels.
            classes: number of classes.
            _scores: returns the (units, classes) float32 scores of the network.

        Returns:
            (units, drawn) int64.
        """
        return _shuffled(target, classes)


@dataclass(frozen=True)
class Uniform:
    """Some negative labels, each with the same probability, without repetition.

    Args:
        count: their number; all, if there are fewer.
        redraw: draw others at each step; False: keep the first ones.
    """

    count: int = 1
    redraw: bool = True

    def __post_init__(self) -> None:
        check_int(1, 10**6, "count", self.count)

    def draw(self, target: Tensor, classes: int, _scores: Callable[[], Tensor]) -> Tensor:
        """Draw negative labels; see `AllNegatives`."""
        return _shuffled(target, classes)[:, : self.count]


@dataclass(frozen=True)
class Hard:
    """Some negative labels, with probabilities that are the softmax of the network's scores (Hinton, section 3.3).

    Args:
        count: their number; all, if there are fewer.
    """

    count: int = 1

    def __post_init__(self) -> None:
        check_int(1, 10**6, "count", self.count)

    @property
    def redraw(self) -> bool:
        """True: the probabilities change with the network."""
        return True

    def draw(self, target: Tensor, classes: int, scores: Callable[[], Tensor]) -> Tensor:
        """Draw negative labels; see `AllNegatives`."""
        negative = every_negative(target, classes)
        # A floor keeps each negative label possible, so that `count` of them can always be drawn.
        weights = scores().gather(1, negative).softmax(1).clamp(min=1e-6)
        return negative.gather(1, torch.multinomial(weights, min(self.count, classes - 1)))


Negatives = AllNegatives | Uniform | Hard


def every_negative(target: Tensor, classes: int) -> Tensor:
    """Return all labels of each unit but the positive one.

    Args:
        target: (units,) int64 positive labels.
        classes: number of classes.

    Returns:
        (units, classes - 1) int64, ascending.
    """
    every = torch.arange(classes - 1, device=target.device).expand(len(target), -1)
    return every + (every >= target[:, None]).long()


def _shuffled(target: Tensor, classes: int) -> Tensor:
    """Return all negative labels of each unit in random order."""
    order = torch.rand(len(target), classes - 1, device=target.device).argsort(1)
    return order + (order >= target[:, None]).long()
