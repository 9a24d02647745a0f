"""The loss of a layer's scores, and the figures of a step that a training reports."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from supa.checks import counted
from supa_gff.data import Batch
from supa_gff.losses import SquaredError
from supa_gff.negatives import every_negative
from supa_gff.networks.network import Network


@dataclass(frozen=True, eq=False)
class LayerStats:
    """The figures of one update of one layer.

    Args:
        layer: number of the layer.
        values: (4,) float32 on the network's device: loss, mean positive score, mean negative score, accuracy. They are
            one tensor, which is read only on demand, to avoid a synchronisation with the device.
        units: number of units.
    """

    layer: int
    values: Tensor
    units: int

    @property
    def loss(self) -> float:
        """The layer's loss."""
        return float(self.values[0])

    @property
    def positive(self) -> float:
        """Mean score of the positive labels; of the value, in regression."""
        return float(self.values[1])

    @property
    def negative(self) -> float:
        """Mean score of the negative labels; NaN in regression."""
        return float(self.values[2])

    @property
    def accuracy(self) -> float:
        """Share of units whose positive label scores above all negative ones of the step; NaN in regression."""
        return float(self.values[3])


def sum_stats(stats: Sequence[LayerStats]) -> Tensor:
    """Return sums over units, which add up over the steps of an epoch.

    Args:
        stats: the figures of each loss of a step.

    Returns:
        (losses, 5) float64, on the network's device: the sums of the four figures, and the number of units.
    """
    rows = [
        torch.cat([step.values.double() * step.units, step.values.new_full((1,), step.units, dtype=torch.float64)])
        for step in stats
    ]
    return torch.stack(rows)


def mean_figures(totals: Tensor) -> list[dict[str, float]]:
    """Return the figures of an epoch, averaged over units.

    Args:
        totals: the sum of what `sum_stats` returned for each step.

    Returns:
        For each loss its mean ``loss``, ``positive`` score, ``negative`` score and ``accuracy``.
    """
    names = ("loss", "positive", "negative", "accuracy")
    return [dict(zip(names, row, strict=True)) for row in (totals[:, :4] / totals[:, 4:]).tolist()]


def loss_and_stats(
    network: Network, layer: int, scores: Tensor, batch: Batch, candidates: Tensor | None
) -> tuple[Tensor, LayerStats]:
    """Compute the loss of a layer's scores.

    Args:
        network: the network.
        layer: number of the layer.
        scores: (units, hypotheses or out_channels) float32.
        batch: the batch.
        candidates: (units, candidates) int64, the positive label first; None: all classes are compared.

    Returns:
        The loss, and the figures of the step.

    Raises:
        ValueError: the numbers of linked and other pairs do not fit.
    """
    if isinstance(network.method.loss, SquaredError):
        loss = network.method.loss(scores[:, 0], batch.target.float())
        values = torch.stack([loss, scores.mean(), loss * torch.nan, loss * torch.nan]).detach()
        return loss, LayerStats(layer, values, len(scores))
    positive, negative = _split_scores(network, scores, batch, candidates)
    loss = network.method.loss(positive, negative)
    with torch.no_grad():
        best = (positive[:, None] > negative).all(1).float()
        values = torch.stack([loss, positive.mean(), negative.mean(), best.mean()])
    return loss, LayerStats(layer, values, len(positive))


def _split_scores(network: Network, scores: Tensor, batch: Batch, candidates: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the (units,) scores of the positive labels and the (units, negatives) scores of the negative ones."""
    if network.level == "link":
        linked = batch.target > 0
        positive, negative = scores[linked, 0], scores[~linked, 0]
        if len(positive) == 0 or len(negative) == 0 or len(negative) % len(positive):
            raise ValueError(
                f"There {'is' if len(positive) == 1 else 'are'} {counted(len(positive), 'linked pair')} and "
                f"{counted(len(negative), 'other')}; give as many, or a multiple."
            )
        return positive, negative.view(-1, len(positive)).t()
    if not network.method.label_conditioned:
        if candidates is None:
            candidates = torch.cat([batch.target[:, None], every_negative(batch.target, network.out_channels)], 1)
        scores = scores.gather(1, candidates)
    return scores[:, 0], scores[:, 1:]
