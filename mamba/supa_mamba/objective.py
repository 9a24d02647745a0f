"""What a task's outputs are worth: losses to train by, and scores to judge by."""

import torch
from torch import Tensor
from torch.nn import functional

from supa_mamba.showers import Batch, Reading


class Objective:
    """Loss and score of a task, as sums over its units, so that parts of a batch add up.

    Classes have their cross-entropy; values, normalised, their squared error. The two primaries of a shower have no
    order: the loss of a shower's hits is minus the logarithm of the probability of both ways to name them,
    -ln(P(names) + P(names exchanged)), and a hit is right under the names that make more of its shower's hits right.

    Args:
        reading: what the numbers mean.
    """

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self._exchanged = reading.task == "primary"

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Give the sum of the losses.

        Args:
            outputs: (units, outputs) float32 of a model.
            batch: what it saw.

        Returns:
            A number.
        """
        if not self.reading.classes:
            return (outputs[:, 0] - batch.target).square().sum()
        if not self._exchanged:
            return functional.cross_entropy(outputs, batch.target, reduction="sum")
        logs = outputs.log_softmax(1)
        ways = torch.stack([logs.gather(1, way[:, None])[:, 0] for way in (batch.target, 1 - batch.target)], 1)
        return -_sums(ways, batch.offset).logsumexp(1).sum()

    def score(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Give the sum of what is averaged to a score: right answers, or squared errors of the value itself.

        Args:
            outputs: (units, outputs) float32 of a model.
            batch: what it saw.

        Returns:
            A number.
        """
        if not self.reading.classes:
            return (outputs[:, 0] - batch.target).square().sum() * self.reading.spread**2
        right = (outputs.argmax(1) == batch.target).float()
        if not self._exchanged:
            return right.sum()
        return _sums(torch.stack([right, 1 - right], 1), batch.offset).amax(1).sum()

    def mean_score(self, total: float, units: int) -> float:
        """Give the score of sums.

        Args:
            total: sum from `score`.
            units: how many.

        Returns:
            Accuracy, or root mean squared error.
        """
        return total / units if self.reading.classes else (total / units) ** 0.5

    def words(self, score: float) -> str:
        """Write a score.

        Args:
            score: from `mean_score`.

        Returns:
            What it is, and its number.
        """
        if not self.reading.classes:
            return f"error of ln E {score:.4f}"
        return f"accuracy {100 * score:.2f} %{' up to exchange' if self._exchanged else ''}"


def _sums(rows: Tensor, offset: Tensor) -> Tensor:
    return torch.segment_reduce(rows, "sum", offsets=offset, axis=0, initial=0)
