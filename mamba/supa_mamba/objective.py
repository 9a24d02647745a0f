"""Losses and metrics of the shower tasks."""

import torch
from torch import Tensor
from torch.nn import functional

from supa_mamba.packed_showers import Batch, TaskEncoding


class Objective:
    """Loss and score of a task, as sums over its units, so that parts of a batch add up.

    Classes have their cross-entropy; values, normalised, their squared error. The two primaries of a shower have no
    order: the loss of a shower's hits is minus the logarithm of the probability of both ways to name them,
    -ln(P(names) + P(names exchanged)), and a hit is right under the names that make more of its shower's hits right.

    Args:
        encoding: how showers become tensors and targets.
    """

    def __init__(self, encoding: TaskEncoding) -> None:
        self.encoding = encoding
        self._exchanged = encoding.name == "primary"

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the sum of the losses.

        Args:
            outputs: (units, outputs) float32 of a model.
            batch: what it saw.

        Returns:
            A number.
        """
        if not self.encoding.classes:
            return (outputs[:, 0] - batch.target).square().sum()
        if not self._exchanged:
            return functional.cross_entropy(outputs, batch.target, reduction="sum")
        logs = outputs.log_softmax(1)
        ways = torch.stack([logs.gather(1, way[:, None])[:, 0] for way in (batch.target, 1 - batch.target)], 1)
        return -_sums(ways, batch.offset).logsumexp(1).sum()

    def score(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the sum of correct predictions, or of squared errors of the value before normalisation.

        Args:
            outputs: (units, outputs) float32 of a model.
            batch: what it saw.

        Returns:
            A number.
        """
        if not self.encoding.classes:
            return (outputs[:, 0] - batch.target).square().sum() * self.encoding.std**2
        right = (outputs.argmax(1) == batch.target).float()
        if not self._exchanged:
            return right.sum()
        return _sums(torch.stack([right, 1 - right], 1), batch.offset).amax(1).sum()

    def mean_score(self, total: float, units: int) -> float:
        """Return the metric of a sum over units.

        Args:
            total: sum from `score`.
            units: how many.

        Returns:
            Accuracy, or root mean squared error.
        """
        return total / units if self.encoding.classes else (total / units) ** 0.5

    @property
    def metric(self) -> str:
        """Name of the metric: ``"accuracy"``, ``"accuracy_up_to_exchange"`` or ``"error_of_ln_E"``."""
        if not self.encoding.classes:
            return "error_of_ln_E"
        return "accuracy_up_to_exchange" if self._exchanged else "accuracy"


def _sums(rows: Tensor, offset: Tensor) -> Tensor:
    return torch.segment_reduce(rows, "sum", offsets=offset, axis=0, initial=0)
