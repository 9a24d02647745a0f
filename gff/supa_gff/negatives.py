"""How the negative labels of each unit are chosen. A negative label is any label except the positive one."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from supa.checks import check_int


@dataclass(frozen=True)
class AllNegatives:
    """Every negative label once, in random order.

    Args:
        redraw: Whether a new order is drawn in each step. False: one order is used for the entire training run, as in
            ForwardGNN (arXiv 2403.11004).

    Example:
        >>> import torch
        >>> from supa_gff.negatives import AllNegatives
        >>> drawn = AllNegatives().draw(torch.tensor([0, 2]), 3, None)
        >>> drawn.sort(dim=1).values
        tensor([[1, 2],
                [0, 1]])
    """

    redraw: bool = True

    def draw(self, target: Tensor, classes: int, _scores: Callable[[], Tensor]) -> Tensor:
        """Draw negative labels.

        Args:
            target: (units,) int64 positive labels.
            classes: Number of classes.
            _scores: Function that returns the (units, classes) float32 scores of the network. Not used.

        Returns:
            (units, negatives) int64 negative labels.
        """
        return _shuffled(target, classes)


@dataclass(frozen=True)
class Uniform:
    """Negative labels drawn uniformly without replacement.

    Args:
        count: Number of negative labels per unit. If there are fewer, all are used.
        redraw: Whether new labels are drawn in each step. False: one draw is used for the entire training run.

    Example:
        >>> import torch
        >>> from supa_gff.negatives import Uniform
        >>> drawn = Uniform(count=1).draw(torch.tensor([0, 0, 0]), 10, None)
        >>> drawn.shape, bool((drawn != 0).all())
        (torch.Size([3, 1]), True)
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
    """Hard negatives: drawn without replacement, with probabilities from the softmax of the network's scores.

    Args:
        count: Number of negative labels per unit. If there are fewer, all are used.

    Example:
        >>> import torch
        >>> from supa_gff.negatives import Hard
        >>> scores = torch.tensor([[0.0, 50.0, 0.0]])
        >>> Hard(count=1).draw(torch.tensor([0]), 3, lambda: scores)  # almost certainly class 1
        tensor([[1]])

    Source:
        Hinton, The Forward-Forward Algorithm (arXiv 2212.13345), section 3.3.
    """

    count: int = 1

    def __post_init__(self) -> None:
        check_int(1, 10**6, "count", self.count)

    @property
    def redraw(self) -> bool:
        """Whether new labels are drawn in each step: True, since the scores change in training."""
        return True

    def draw(self, target: Tensor, classes: int, scores: Callable[[], Tensor]) -> Tensor:
        """Draw negative labels; see `AllNegatives`."""
        negative = every_negative(target, classes)
        # The lower limit makes every negative label possible, so that `count` of them can always be drawn.
        weights = scores().gather(1, negative).softmax(1).clamp(min=1e-6)
        return negative.gather(1, torch.multinomial(weights, min(self.count, classes - 1)))


Negatives = AllNegatives | Uniform | Hard


def check_redrawn(negatives: Negatives | None) -> None:
    """Check that a method can draw the negative labels of graphs that arrive as a stream.

    Args:
        negatives: How the negative labels are chosen. None: there are none.

    Raises:
        ValueError: If they are drawn once for the entire training run.
    """
    if negatives is not None and not negatives.redraw:
        raise ValueError(
            "The method draws the negative labels of all training graphs once, but a stream has no set of training "
            "graphs; use negatives with redraw=True, or another method."
        )


def every_negative(target: Tensor, classes: int) -> Tensor:
    """Return all labels of each unit except the positive one.

    Args:
        target: (units,) int64 positive labels.
        classes: Number of classes.

    Returns:
        (units, classes - 1) int64 labels in ascending order.
    """
    every = torch.arange(classes - 1, device=target.device).expand(len(target), -1)
    return every + (every >= target[:, None]).long()


def _shuffled(target: Tensor, classes: int) -> Tensor:
    """Return all negative labels of each unit in random order."""
    order = torch.rand(len(target), classes - 1, device=target.device).argsort(1)
    return order + (order >= target[:, None]).long()
