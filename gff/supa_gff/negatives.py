"""Which wrong labels a unit is shown; never its true one."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from supa.checks import check_int


@dataclass(frozen=True)
class AllWrong:
    """Every wrong label once, in random order.

    Args:
        redraw: another order at each step; False: the first one stays (ForwardGNN, arXiv 2403.11004, does so).
    """

    redraw: bool = True

    def draw(self, target: Tensor, classes: int, _scores: Callable[[], Tensor]) -> Tensor:
        """Draw wrong labels.

        Args:
            target: (units,) int64 true labels.
            classes: number of classes.
            _scores: gives the (units, classes) scores that the network gives now.

        Returns:
            (units, drawn) int64.
        """
        return _wrong(target, torch.rand(len(target), classes - 1, device=target.device).argsort(1))


@dataclass(frozen=True)
class Uniform:
    """Some wrong labels, each as likely as the others, without repetition.

    Args:
        count: how many; all, where there are fewer.
        redraw: others at each step.
    """

    count: int = 1
    redraw: bool = True

    def __post_init__(self) -> None:
        check_int(1, 10**6, "count", self.count)

    def draw(self, target: Tensor, classes: int, _scores: Callable[[], Tensor]) -> Tensor:
        """Draw wrong labels; see `AllWrong`."""
        order = torch.rand(len(target), classes - 1, device=target.device).argsort(1)
        return _wrong(target, order[:, : self.count])


@dataclass(frozen=True)
class Hard:
    """Some wrong labels, in proportion to how good the network holds them: softmax of its scores (Hinton, section 3.3).

    Args:
        count: how many; all, where there are fewer.
    """

    count: int = 1

    def __post_init__(self) -> None:
        check_int(1, 10**6, "count", self.count)

    @property
    def redraw(self) -> bool:
        """They follow the network."""
        return True

    def draw(self, target: Tensor, classes: int, scores: Callable[[], Tensor]) -> Tensor:
        """Draw wrong labels; see `AllWrong`."""
        every = torch.arange(classes - 1, device=target.device).expand(len(target), -1)
        wrong = _wrong(target, every)
        # A floor keeps each wrong label possible, so that as many as are wanted can always be drawn.
        weights = scores().gather(1, wrong).softmax(1).clamp(min=1e-6)
        return wrong.gather(1, torch.multinomial(weights, min(self.count, classes - 1)))


Negatives = AllWrong | Uniform | Hard


def _wrong(target: Tensor, numbers: Tensor) -> Tensor:
    """Give wrong labels by their numbers among the wrong ones."""
    return numbers + (numbers >= target[:, None]).long()
