"""Losses and metrics of the shower tasks."""

import torch
from torch import Tensor
from torch.nn import functional

from supa_mamba.packed_showers import Batch, TaskEncoding


class Objective:
    """Loss and score of a task, summed over showers or hits, so that the parts of a batch can be added.

    The loss is the cross-entropy for classes and the squared error of the normalised value for regression. The two
    primaries of a shower are interchangeable: the loss of a shower is -ln(P(labels) + P(exchanged labels)), and the
    score counts the assignment with more correct hits.

    Args:
        encoding: Conversion of showers into tensors and targets.
    """

    def __init__(self, encoding: TaskEncoding) -> None:
        self.encoding = encoding
        self._exchanged = encoding.name == "primary"
        self._by_hit = encoding.task.level == "hit"

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the sum of the losses.

        Args:
            outputs: (units, outputs) float32 outputs of the model; a unit is a shower or a hit.
            batch: The batch.

        Returns:
            () float32 sum.
        """
        if not self.encoding.classes:
            return batch.sum((outputs[:, 0] - batch.target).square(), by_hit=self._by_hit)
        if not self._exchanged:
            losses = functional.cross_entropy(outputs, batch.target, reduction="none")
            return batch.sum(losses, by_hit=self._by_hit)
        logs = outputs.log_softmax(1)
        ways = torch.stack([logs.gather(1, way[:, None])[:, 0] for way in (batch.target, 1 - batch.target)], 1)
        return -batch.sum(_sums(ways, batch.offset).logsumexp(1), by_hit=False)

    def score(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the number of correct predictions, or the sum of squared errors of the unnormalised value.

        Args:
            outputs: (units, outputs) float32 outputs of the model; a unit is a shower or a hit.
            batch: The batch.

        Returns:
            () float32 sum.
        """
        if not self.encoding.classes:
            squares = (outputs[:, 0] - batch.target).square()
            return batch.sum(squares, by_hit=self._by_hit) * self.encoding.std**2
        right = (outputs.argmax(1) == batch.target).float()
        if not self._exchanged:
            return batch.sum(right, by_hit=self._by_hit)
        return batch.sum(_sums(torch.stack([right, 1 - right], 1), batch.offset).amax(1), by_hit=False)

    def mean_score(self, total: float, units: int) -> float:
        """Convert a sum of scores into the metric.

        Args:
            total: Sum of the values of `score`.
            units: Number of showers or hits.

        Returns:
            Accuracy, or root mean square error.
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
