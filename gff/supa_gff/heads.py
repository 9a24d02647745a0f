"""Heads: how a layer scores what is predicted, by its own activations alone."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from supa.checks import check_real
from supa_gff.checks import one_of, one_of_parts
from supa_gff.convolutions import MakeConvolution, make_convolution
from supa_gff.data import Batch, Level
from supa_gff.goodness import MeanActivation, NodeGoodness, SumOfSquares
from supa_gff.topology import Topology

Pool = Literal["mean", "sum"]


@dataclass(frozen=True)
class Goodness:
    """The goodness of the activations under a hypothesis about the label: one score for each hypothesis.

    Args:
        of: goodness of a node.
        pool: how the goodness of the nodes is pooled to that of a graph; a sum grows with the graph.
        scale: factor from goodness to score.
        learned_scale: whether each layer learns its scale, starting from ``scale``.
    """

    of: NodeGoodness = SumOfSquares()  # noqa: RUF009  # frozen
    pool: Pool = "mean"
    scale: float = 1.0
    learned_scale: bool = False

    def __post_init__(self) -> None:
        one_of_parts(get_args(NodeGoodness), "of", self.of)
        one_of(get_args(Pool), "pool", self.pool)
        check_real(lambda v: v > 0, "above zero", "scale", self.scale)


@dataclass(frozen=True)
class ClassGroups:
    """One group of channels for each class; the score of a class is the goodness of its group.

    Channels in groups: CwComp (arXiv 2312.12668); their mean activation: DeeperForward (ICLR 2025).

    Args:
        of: goodness of a group.
        pool: see `Goodness`.
    """

    of: NodeGoodness = MeanActivation()  # noqa: RUF009  # frozen
    pool: Pool = "mean"

    def __post_init__(self) -> None:
        one_of_parts(get_args(NodeGoodness), "of", self.of)
        one_of(get_args(Pool), "pool", self.pool)


@dataclass(frozen=True)
class Head:
    """A head on the layer's pooled activations (Mono-Forward, arXiv 2501.09238; CaFo, arXiv 2303.09728).

    Args:
        kind: ``"linear"``; ``"mlp"``: one hidden layer; ``"conv"``: one more convolution and a linear head,
            without an activation between them.
        pool: how the activations of the nodes are pooled to those of a graph.
        dropout: probability of dropping a channel: before a linear head or the convolution, inside a perceptron.
    """

    kind: Literal["linear", "mlp", "conv"] = "linear"
    pool: Pool = "sum"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        one_of(("linear", "mlp", "conv"), "kind", self.kind)
        one_of(get_args(Pool), "pool", self.pool)
        check_real(lambda v: 0 <= v < 1, "from 0 to below 1", "dropout", self.dropout)


@dataclass(frozen=True)
class Prototypes:
    """Product of the activations of a node and of a class's virtual node (single forward, arXiv 2403.11004, eq. 6)."""


@dataclass(frozen=True)
class PairProduct:
    """Score of a pair of nodes: sum of the product of their activations (arXiv 2403.11004, section 3.3).

    Args:
        squared: whether the products are squared, which makes the score a goodness.
    """

    squared: bool = False


Score = Goodness | ClassGroups | Head | Prototypes | PairProduct


def make_scorer(
    score: Score,
    in_channels: int,
    out_channels: int,
    *,
    level: Level,
    conv: str | MakeConvolution,
    norm: type[nn.Module] | None,
    deg: Tensor | None,
) -> "Scorer":
    """Make the scorer of one layer.

    Args:
        score: the kind of score.
        in_channels: number of channels of the activations.
        out_channels: number of classes; 1 for values.
        level: what is predicted.
        conv: convolution of a head of kind ``"conv"``.
        norm: normalisation inside a perceptron.
        deg: see `make_convolution`.

    Returns:
        A module that computes scores from activations.

    Raises:
        ValueError: there are more classes than channels.
    """
    if isinstance(score, Goodness):
        return GoodnessScorer(score, level)
    if isinstance(score, ClassGroups):
        if in_channels < out_channels:
            raise ValueError(
                f"hidden_channels is {in_channels:,}, but it must be at least {out_channels:,}, the number of classes."
            )
        return ClassGroupScorer(score, level, out_channels)
    if isinstance(score, Head):
        around = make_convolution(conv, in_channels, in_channels, deg=deg) if score.kind == "conv" else None
        return HeadScorer(score, level, in_channels, out_channels, around, norm)
    return PrototypeScorer() if isinstance(score, Prototypes) else PairScorer(score)


class Scorer(nn.Module):
    """Computes scores from activations."""

    def forward(self, h: Tensor, topology: Topology, batch: Batch) -> Tensor:
        """Score the units of a batch.

        Args:
            h: (hypotheses, nodes, channels) float32 activations.
            topology: edges and graphs of the nodes.
            batch: the batch.

        Returns:
            (units, hypotheses) or (units, out_channels) float32.
        """
        raise NotImplementedError

    @staticmethod
    def units(values: Tensor, topology: Topology, batch: Batch) -> Tensor:
        """Return the values of the predicted nodes."""
        return values[:, : topology.num_real] if batch.units is None else values[:, batch.units]


class GoodnessScorer(Scorer):
    """Scores hypotheses by their goodness; see `Goodness`."""

    def __init__(self, score: Goodness, level: Level) -> None:
        super().__init__()
        self.score, self.level = score, level
        self.log_scale = nn.Parameter(torch.tensor(score.scale).log(), requires_grad=score.learned_scale)

    def forward(self, h: Tensor, topology: Topology, batch: Batch) -> Tensor:
        """Score the units of a batch; see `Scorer`."""
        goodness = self.score.of(h)[..., None]
        if self.level == "graph":
            goodness = topology.pool(goodness, self.score.pool)
        else:
            goodness = self.units(goodness, topology, batch)
        return goodness[..., 0].t() * self.log_scale.exp()


class ClassGroupScorer(Scorer):
    """Scores classes by the goodness of their channels; see `ClassGroups`."""

    def __init__(self, score: ClassGroups, level: Level, out_channels: int) -> None:
        super().__init__()
        self.score, self.level, self.out_channels = score, level, out_channels

    def forward(self, h: Tensor, topology: Topology, batch: Batch) -> Tensor:
        """Score the units of a batch; see `Scorer`."""
        size = h.shape[2] // self.out_channels
        groups = h[..., : size * self.out_channels].reshape(*h.shape[:2], self.out_channels, size)
        goodness = self.score.of(groups)
        if self.level == "graph":
            return topology.pool(goodness, self.score.pool)[0]
        return self.units(goodness, topology, batch)[0]


class HeadScorer(Scorer):
    """Scores classes, or predicts a value, by a head; see `Head`."""

    def __init__(
        self,
        score: Head,
        level: Level,
        in_channels: int,
        out_channels: int,
        conv: nn.Module | None,
        norm: type[nn.Module] | None,
    ) -> None:
        super().__init__()
        self.pool, self.level, self.conv = score.pool, level, conv
        dropout = nn.Dropout(score.dropout)
        self.before_conv = dropout if conv is not None else nn.Identity()
        parts: list[nn.Module] = [dropout] if score.dropout and conv is None else []
        if score.kind == "mlp":
            middle = [] if norm is None else [norm(in_channels)]
            parts = [nn.Linear(in_channels, in_channels), *middle, nn.ReLU(), *parts]
        self.head = nn.Sequential(*parts, nn.Linear(in_channels, out_channels))
        self.has_batch_norm = any(isinstance(part, nn.BatchNorm1d) for part in parts)

    def forward(self, h: Tensor, topology: Topology, batch: Batch) -> Tensor:
        """Score the units of a batch; see `Scorer`."""
        if self.conv is not None:
            h = self.conv(self.before_conv(h[0]), topology.edges(1))[None]
        pooled = topology.pool(h, self.pool) if self.level == "graph" else self.units(h, topology, batch)
        if self.training and self.has_batch_norm and len(pooled[0]) == 1:
            raise ValueError(
                "One graph or node alone has no statistics: train on batches of two or more (of a DataLoader: "
                "drop_last=True), or use another normalisation than 'batch'."
            )
        scores: Tensor = self.head(pooled[0])
        return scores


class PrototypeScorer(Scorer):
    """Scores classes by their virtual nodes, which come last; see `Prototypes`."""

    def forward(self, h: Tensor, topology: Topology, batch: Batch) -> Tensor:
        """Score the units of a batch; see `Scorer`."""
        return self.units(h, topology, batch)[0] @ h[0, topology.num_real :].t()


class PairScorer(Scorer):
    """Scores pairs of nodes; see `PairProduct`."""

    def __init__(self, score: PairProduct) -> None:
        super().__init__()
        self.squared = score.squared

    def forward(self, h: Tensor, _topology: Topology, batch: Batch) -> Tensor:
        """Score the units of a batch; see `Scorer`."""
        assert batch.units is not None
        product = h[0, batch.units[0]] * h[0, batch.units[1]]
        return (product.square() if self.squared else product).sum(1, keepdim=True)
