"""Scores of a layer, computed from its own activations."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from supa.checks import check_real
from supa_gff.batch import Batch, Level
from supa_gff.checks import one_of, one_of_parts
from supa_gff.convolutions import MakeConvolution, convolve, make_convolution
from supa_gff.goodness import MeanActivation, NodeGoodness, SumOfSquares
from supa_gff.topology import Topology

Pool = Literal["mean", "sum"]
GoodnessPool = Literal["mean", "sum", "sum+mean"]
HeadPool = Literal["mean", "sum", "max", "moments"]


@dataclass(frozen=True)
class Goodness:
    """Label-conditioned goodness: one score for each candidate label, which is an input of the network.

    Args:
        of: Goodness of a node.
        pool: How the goodness of the nodes is pooled over a graph: ``"mean"``; ``"sum"``, which grows with the size of
            the graph; or ``"sum+mean"``: the sum for one half of the channels, plus the mean for the other half. With
            the sum alone, the size of a graph multiplies the goodness of all labels, so it does not change which label
            has the largest one.
        scale: Factor that converts the goodness to a score.
        learned_scale: Whether each layer learns its own scale, starting from ``scale``.

    Example:
        >>> from supa_gff import Method, heads, label_injection, negatives
        >>> Method(
        ...     score=heads.Goodness(pool="mean"),
        ...     label=label_injection.NodeFeatures(),
        ...     negatives=negatives.Uniform(1),
        ... ).label_conditioned
        True
    """

    of: NodeGoodness = SumOfSquares()  # noqa: RUF009  # frozen
    pool: GoodnessPool = "mean"
    scale: float = 1.0
    learned_scale: bool = False

    def __post_init__(self) -> None:
        one_of_parts(get_args(NodeGoodness), "of", self.of)
        one_of(get_args(GoodnessPool), "pool", self.pool)
        check_real(lambda v: v > 0, "above zero", "scale", self.scale)


@dataclass(frozen=True)
class ClassGroups:
    """Class scores from groups of channels: the score of a class is the goodness of its group.

    Args:
        of: Goodness of a group of channels.
        pool: How the goodness of the nodes is pooled over a graph; see `Goodness`.

    Example:
        >>> from supa_gff import Method, heads
        >>> Method(score=heads.ClassGroups(), hidden_channels=64).label_conditioned
        False

    Source:
        Groups of channels: CwComp (arXiv 2312.12668). Mean activation of a group: DeeperForward (ICLR 2025).
    """

    of: NodeGoodness = MeanActivation()  # noqa: RUF009  # frozen
    pool: Pool = "mean"

    def __post_init__(self) -> None:
        one_of_parts(get_args(NodeGoodness), "of", self.of)
        one_of(get_args(Pool), "pool", self.pool)


@dataclass(frozen=True)
class Head:
    """Local head on the pooled activations of a layer.

    Args:
        kind: ``"linear"``; ``"mlp"``: a perceptron with one hidden layer; ``"conv"``: a convolution and a linear head
            without an activation function between them.
        pool: How the activations of the nodes are pooled over a graph: ``"mean"``, ``"sum"``, ``"max"``, or
            ``"moments"``: the head sees the sum, the mean and the maximum.
        dropout: Dropout probability of a channel. Dropout is applied before a linear head, before the convolution of
            ``"conv"``, and before the last linear map of a perceptron.

    Example:
        >>> from supa_gff import Method, Network, heads
        >>> method = Method(score=heads.Head("linear", pool="mean"))
        >>> Network(method, in_channels=3, out_channels=2).layer(0).scorer.head[0]
        Linear(in_features=64, out_features=2, bias=True)

    Source:
        Mono-Forward (arXiv 2501.09238), CaFo (arXiv 2303.09728).
    """

    kind: Literal["linear", "mlp", "conv"] = "linear"
    pool: HeadPool = "sum"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        one_of(("linear", "mlp", "conv"), "kind", self.kind)
        one_of(get_args(HeadPool), "pool", self.pool)
        check_real(lambda v: 0 <= v < 1, "from 0 to below 1", "dropout", self.dropout)


@dataclass(frozen=True)
class Prototypes:
    """Dot product of the activations of a node and of the virtual node of a class (arXiv 2403.11004, eq. 6).

    Example:
        >>> from supa_gff import Method, heads, label_injection
        >>> Method(score=heads.Prototypes(), label=label_injection.VirtualNodes()).label_conditioned
        False
    """


@dataclass(frozen=True)
class PairProduct:
    """Score of a pair of nodes: dot product of their activations (arXiv 2403.11004, section 3.3).

    Args:
        squared: Whether the product of each channel is squared before the sum. The score is then a goodness.

    Example:
        >>> import torch
        >>> from torch_geometric.data import Data
        >>> from supa_gff import GraphSet, Method, Network, heads, losses, split_links
        >>> edges = torch.stack([torch.arange(30), (torch.arange(30) + 1) % 30])
        >>> ring = GraphSet.of([Data(x=torch.eye(30), edge_index=edges, y=torch.zeros(1))], level="link")
        >>> method = Method(score=heads.PairProduct(squared=True), loss=losses.Threshold(2.0))
        >>> Network.for_graphs(method, ring).predict(split_links(ring).test).shape  # one score for each pair
        torch.Size([12])
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
    edge_channels: int = 0,
) -> "Scorer":
    """Return a new scorer for one layer.

    Args:
        score: Kind of score.
        in_channels: Number of channels of the activations.
        out_channels: Number of classes; 1 for regression.
        level: What is predicted.
        conv: Convolution of a head of kind ``"conv"``.
        norm: Normalisation inside a perceptron. None: no normalisation.
        deg: Histogram of the in-degrees; see `make_convolution`.
        edge_channels: Number of features per edge; see `make_convolution`.

    Returns:
        A module that computes scores from activations.

    Raises:
        ValueError: If there are too few channels for the classes of `ClassGroups`, or for the halves of `Goodness`.
    """
    if isinstance(score, Goodness):
        if score.pool == "sum+mean" and in_channels < 2:
            raise ValueError(f'hidden_channels must be at least 2 for pool="sum+mean", got {in_channels:,}.')
        return GoodnessScorer(score, level)
    if isinstance(score, ClassGroups):
        if in_channels < out_channels:
            raise ValueError(
                f"hidden_channels must be at least {out_channels:,}, the number of classes, got {in_channels:,}."
            )
        return ClassGroupScorer(score, level, out_channels)
    if isinstance(score, Head):
        around = None
        if score.kind == "conv":
            around = make_convolution(conv, in_channels, in_channels, deg=deg, edge_channels=edge_channels)
        return HeadScorer(score, level, in_channels, out_channels, around, norm)
    return PrototypeScorer() if isinstance(score, Prototypes) else PairScorer(score)


class Scorer(nn.Module):
    """Base class of the modules that compute scores from activations."""

    def forward(self, h: Tensor, topology: Topology, batch: Batch) -> Tensor:
        """Score the units of a batch.

        Args:
            h: (hypotheses, nodes, channels) float32 activations.
            topology: Edges and graphs of the nodes.
            batch: Batch of the activations.

        Returns:
            (units, hypotheses) or (units, out_channels) float32 scores.
        """
        raise NotImplementedError

    @staticmethod
    def units(values: Tensor, topology: Topology, batch: Batch) -> Tensor:
        """Return the values of the nodes to predict."""
        return values[:, : topology.num_real] if batch.units is None else values[:, batch.units]


class GoodnessScorer(Scorer):
    """Score hypotheses by their goodness; see `Goodness`."""

    def __init__(self, score: Goodness, level: Level) -> None:
        super().__init__()
        self.score, self.level = score, level
        self.log_scale = nn.Parameter(torch.tensor(score.scale).log(), requires_grad=score.learned_scale)

    def forward(self, h: Tensor, topology: Topology, batch: Batch) -> Tensor:
        """Score the units of a batch; see `Scorer`."""
        if self.level == "graph":
            goodness = self._of_graphs(h, topology)
        else:
            goodness = self.units(self.score.of(h), topology, batch)
        return self.scaled(goodness.t())

    def _of_graphs(self, h: Tensor, topology: Topology) -> Tensor:
        """Return the (hypotheses, graphs) goodness of graphs."""
        if self.score.pool == "sum+mean":
            parts = {"sum": h[..., : h.shape[2] // 2], "mean": h[..., h.shape[2] // 2 :]}
        else:
            parts = {self.score.pool: h}
        pooled = [topology.pool(self.score.of(part)[..., None], how) for how, part in parts.items()]
        return torch.stack(pooled).sum(0)[..., 0]

    def scaled(self, goodness: Tensor) -> Tensor:
        """Convert a goodness to a score.

        Args:
            goodness: (units, hypotheses) float32 goodness.

        Returns:
            (units, hypotheses) float32 scores.
        """
        return goodness * self.log_scale.exp()


class ClassGroupScorer(Scorer):
    """Score classes by the goodness of their channels; see `ClassGroups`."""

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
    """Compute class scores or predicted values by a head; see `Head`."""

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
        pooled = 3 * in_channels if score.pool == "moments" and level == "graph" else in_channels
        if score.kind == "mlp":
            middle = [] if norm is None else [norm(in_channels)]
            parts = [nn.Linear(pooled, in_channels), *middle, nn.ReLU(), *parts]
        self.head = nn.Sequential(*parts, nn.Linear(in_channels if score.kind == "mlp" else pooled, out_channels))
        self.has_batch_norm = any(isinstance(part, nn.BatchNorm1d) for part in parts)

    def forward(self, h: Tensor, topology: Topology, batch: Batch) -> Tensor:
        """Score the units of a batch; see `Scorer`."""
        if self.conv is not None:
            h = convolve(self.conv, self.before_conv(h[0]), topology, 1)[None]
        pooled = topology.pool(h, self.pool) if self.level == "graph" else self.units(h, topology, batch)
        if self.training and self.has_batch_norm and len(pooled[0]) == 1:
            raise ValueError(
                "Batch normalisation requires at least two graphs or nodes per batch, got 1. Use drop_last=True in the "
                "DataLoader, or another normalisation than 'batch'."
            )
        scores: Tensor = self.head(pooled[0])
        return scores


class PrototypeScorer(Scorer):
    """Score classes by their virtual nodes, which follow the real nodes; see `Prototypes`."""

    def forward(self, h: Tensor, topology: Topology, batch: Batch) -> Tensor:
        """Score the units of a batch; see `Scorer`."""
        return self.units(h, topology, batch)[0] @ h[0, topology.num_real :].t()


class PairScorer(Scorer):
    """Score pairs of nodes; see `PairProduct`."""

    def __init__(self, score: PairProduct) -> None:
        super().__init__()
        self.squared = score.squared

    def forward(self, h: Tensor, _topology: Topology, batch: Batch) -> Tensor:
        """Score the units of a batch; see `Scorer`."""
        assert batch.units is not None
        product = h[0, batch.units[0]] * h[0, batch.units[1]]
        return (product.square() if self.squared else product).sum(1, keepdim=True)
