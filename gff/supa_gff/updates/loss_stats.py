"""Loss of the scores of a layer, and the training statistics of a step."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from supa.checks import counted
from supa_gff.batch import Batch
from supa_gff.losses import BinaryCrossEntropy, SquaredError
from supa_gff.negatives import every_negative
from supa_gff.networks.score_network import ScoreNetwork


@dataclass(frozen=True, eq=False)
class LayerStats:
    """Statistics of a layer in one training step, as returned by ``UpdateRule.step``.

    Args:
        layer: Index of the layer, from 0.
        values: (4,) float32 tensor on the device of the network: loss, mean positive score, mean negative score and
            accuracy. The properties read it on demand, which avoids a synchronisation with the device in each step.
        units: Number of graphs, nodes or linked pairs in the batch.

    Example:
        >>> import torch
        >>> from torch_geometric.data import Data
        >>> from supa_gff import GraphSet, Network, preset, update_rule
        >>> edges = torch.tensor([[0, 1], [1, 0]])
        >>> graphs = [Data(x=torch.full((2, 3), k % 2), edge_index=edges, y=torch.tensor([k % 2])) for k in range(16)]
        >>> dataset = GraphSet.of(graphs)
        >>> rule = update_rule(Network.for_graphs(preset("mono-forward").replace(layers=2), dataset))
        >>> first, second = rule.step(dataset.batch(torch.arange(16)))  # a LayerStats for each layer
        >>> first.layer, first.units, 0 <= first.accuracy <= 1
        (0, 16, True)
    """

    layer: int
    values: Tensor
    units: int

    @property
    def loss(self) -> float:
        """Loss of the layer."""
        return float(self.values[0])

    @property
    def positive(self) -> float:
        """Mean score of the positive labels. For regression: mean predicted value. NaN for multi-label targets."""
        return float(self.values[1])

    @property
    def negative(self) -> float:
        """Mean score of the negative labels. NaN for regression and multi-label targets."""
        return float(self.values[2])

    @property
    def accuracy(self) -> float:
        """Fraction of units whose positive label scores higher than all negative labels. NaN for regression.

        For multi-label targets: fraction of correct predictions over units and labels.
        """
        return float(self.values[3])


def sum_stats(stats: Sequence[LayerStats]) -> Tensor:
    """Return the statistics of a step as sums over units, which can be added over the steps of an epoch.

    Args:
        stats: Statistics of each loss of the step.

    Returns:
        (losses, 5) float64 on the device of the network: the sums of the four statistics, and the number of units.
    """
    rows = [
        torch.cat([step.values.double() * step.units, step.values.new_full((1,), step.units, dtype=torch.float64)])
        for step in stats
    ]
    return torch.stack(rows)


def mean_figures(totals: Tensor) -> list[dict[str, float]]:
    """Return the statistics of an epoch, averaged over units.

    Args:
        totals: (losses, 5) float64 sum of the results of `sum_stats` over the steps of the epoch.

    Returns:
        For each loss, the mean ``loss``, ``positive`` score, ``negative`` score and ``accuracy``.
    """
    names = ("loss", "positive", "negative", "accuracy")
    return [dict(zip(names, row, strict=True)) for row in (totals[:, :4] / totals[:, 4:]).tolist()]


def loss_and_stats(
    network: ScoreNetwork, layer: int, scores: Tensor, batch: Batch, candidates: Tensor | None
) -> tuple[Tensor, LayerStats]:
    """Compute the loss of the scores of a layer.

    Args:
        network: Network of the layer.
        layer: Index of the layer.
        scores: (units, hypotheses or out_channels) float32 scores.
        batch: Training batch.
        candidates: (units, candidates) int64 candidate labels with the positive label first. None: all classes are
            compared.

    Returns:
        The loss, and the statistics of the step.

    Raises:
        ValueError: If the number of unlinked pairs is not a multiple of the number of linked pairs.
    """
    local = network.method.loss
    share = 1.0 if batch.weights is None else batch.weights.sum()
    if isinstance(local, SquaredError):
        loss = local(scores, network.standardised(batch.target)) * share
        unknown = loss * torch.nan
        values = torch.stack([loss, network.values(scores).mean(), unknown, unknown]).detach()
        return loss, LayerStats(layer, values, len(scores))
    if isinstance(local, BinaryCrossEntropy):
        applies = batch.target.view(len(scores), -1) > 0
        loss = local(scores, applies.float(), network.class_weights) * share
        unknown = loss * torch.nan
        values = torch.stack([loss, unknown, unknown, ((scores > 0) == applies).float().mean()]).detach()
        return loss, LayerStats(layer, values, len(scores))
    positive, negative = _split_scores(network, scores, batch, candidates)
    weights = batch.weights if network.class_weights is None else network.class_weights[batch.target]
    loss = local(positive, negative, weights) * share
    with torch.no_grad():
        best = (positive[:, None] > negative).all(1).float()
        values = torch.stack([loss, positive.mean(), negative.mean(), best.mean()])
    return loss, LayerStats(layer, values, len(positive))


def _split_scores(
    network: ScoreNetwork, scores: Tensor, batch: Batch, candidates: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return the (units,) scores of the positive labels and the (units, negatives) scores of the negative ones."""
    if network.level == "link":
        linked = batch.target > 0
        positive, negative = scores[linked, 0], scores[~linked, 0]
        if len(positive) == 0 or len(negative) == 0 or len(negative) % len(positive):
            raise ValueError(
                f"The number of unlinked pairs must be a positive multiple of the number of linked pairs, got "
                f"{counted(len(positive), 'linked pair')} and {counted(len(negative), 'unlinked pair')}."
            )
        return positive, negative.view(-1, len(positive)).t()
    if not network.method.label_conditioned:
        if candidates is None:
            candidates = torch.cat([batch.target[:, None], every_negative(batch.target, network.out_channels)], 1)
        scores = scores.gather(1, candidates)
    return scores[:, 0], scores[:, 1:]
