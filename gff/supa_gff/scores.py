"""How a layer scores what is predicted, out of its activations alone."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from supa.checks import check_real
from supa_gff.checks import one_of, one_of_parts
from supa_gff.convolutions import MakeConvolution, make_convolution
from supa_gff.goodness import MeanActivation, NodeGoodness, SumOfSquares
from supa_gff.graphs import Batch, Level
from supa_gff.topology import Topology

Pool = Literal["mean", "sum"]


@dataclass(frozen=True)
class Goodness:
    """How much activity a hypothesis about the label raises: one score for each stream.

    Args:
        of: goodness of a node.
        pool: how a graph's goodness is made of its nodes'; a sum grows with the graph.
        scale: the score is the goodness times this.
        learned_scale: whether each layer learns its scale, from ``scale`` on.
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
    """The features are parted into one group for each class; a class's score is the goodness of its group.

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
    """A head of the layer's own on its pooled activations (Mono-Forward, arXiv 2501.09238; CaFo, arXiv 2303.09728).

    Args:
        kind: ``"linear"``; ``"mlp"``: one hidden layer; ``"conv"``: a linear head after one more convolution,
            with no activation between them.
        pool: how a graph's activations are made of its nodes'.
        dropout: share of features dropped: before a linear head or the convolution, inside a perceptron.
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
    """How well two nodes go together: sum of the product of their activations (arXiv 2403.11004, section 3.3).

    Args:
        squared: sum of the squared products, a goodness, instead.
    """

    squared: bool = False


Score = Goodness | ClassGroups | Head | Prototypes | PairProduct


def make_scorer(
    score: Score,
    width: int,
    outputs: int,
    *,
    level: Level,
    conv: str | MakeConvolution,
    norm: type[nn.Module] | None,
    degrees: Tensor | None,
) -> "Scorer":
    """Make the scorer of one layer.

    Args:
        score: how it scores.
        width: features of an activation.
        outputs: classes; 1 for values.
        level: what is predicted.
        conv: convolution of a head of kind ``"conv"``.
        norm: normalisation inside a perceptron.
        degrees: see `make_convolution`.

    Returns:
        A module from activations to scores.

    Raises:
        ValueError: there are more classes than features to part.
    """
    if isinstance(score, Goodness):
        return GoodnessScorer(score, level)
    if isinstance(score, ClassGroups):
        if width < outputs:
            raise ValueError(f"The width is {width:,}, but it must be at least {outputs:,}, the number of classes.")
        return ClassGroupScorer(score, level, outputs)
    if isinstance(score, Head):
        around = make_convolution(conv, width, width, degrees=degrees) if score.kind == "conv" else None
        return HeadScorer(score, level, width, outputs, around, norm)
    return PrototypeScorer() if isinstance(score, Prototypes) else PairScorer(score)


class Scorer(nn.Module):
    """From activations to scores."""

    def forward(self, h: Tensor, topology: Topology, batch: Batch) -> Tensor:
        """Score the units of a batch.

        Args:
            h: (streams, nodes, width) float32 activations.
            topology: of the nodes.
            batch: what is predicted.

        Returns:
            (units, streams) or (units, outputs) float32.
        """
        raise NotImplementedError

    @staticmethod
    def units(values: Tensor, topology: Topology, batch: Batch) -> Tensor:
        """Give the values of the nodes that are predicted."""
        return values[:, : topology.num_real] if batch.units is None else values[:, batch.units]


class GoodnessScorer(Scorer):
    """Scores streams by their goodness; see `Goodness`."""

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
    """Scores classes by the goodness of their features; see `ClassGroups`."""

    def __init__(self, score: ClassGroups, level: Level, outputs: int) -> None:
        super().__init__()
        self.score, self.level, self.outputs = score, level, outputs

    def forward(self, h: Tensor, topology: Topology, batch: Batch) -> Tensor:
        """Score the units of a batch; see `Scorer`."""
        size = h.shape[2] // self.outputs
        groups = h[..., : size * self.outputs].reshape(*h.shape[:2], self.outputs, size)
        goodness = self.score.of(groups)
        if self.level == "graph":
            return topology.pool(goodness, self.score.pool)[0]
        return self.units(goodness, topology, batch)[0]


class HeadScorer(Scorer):
    """Scores classes, or gives a value, by a head; see `Head`."""

    def __init__(
        self, score: Head, level: Level, width: int, outputs: int, conv: nn.Module | None, norm: type[nn.Module] | None
    ) -> None:
        super().__init__()
        self.pool, self.level, self.conv = score.pool, level, conv
        dropout = nn.Dropout(score.dropout)
        self.before_conv = dropout if conv is not None else nn.Identity()
        parts: list[nn.Module] = [dropout] if score.dropout and conv is None else []
        if score.kind == "mlp":
            middle = [] if norm is None else [norm(width)]
            parts = [nn.Linear(width, width), *middle, nn.ReLU(), *parts]
        self.head = nn.Sequential(*parts, nn.Linear(width, outputs))
        self.compares = any(isinstance(part, nn.BatchNorm1d) for part in parts)

    def forward(self, h: Tensor, topology: Topology, batch: Batch) -> Tensor:
        """Score the units of a batch; see `Scorer`."""
        if self.conv is not None:
            h = self.conv(self.before_conv(h[0]), topology.edges(1))[None]
        pooled = topology.pool(h, self.pool) if self.level == "graph" else self.units(h, topology, batch)
        if self.training and self.compares and len(pooled[0]) == 1:
            raise ValueError(
                "One graph or node alone has no statistics: train on batches of two or more (of a DataLoader: "
                "drop_last=True), or use another normalisation than 'batch'."
            )
        scores: Tensor = self.head(pooled[0])
        return scores


class PrototypeScorer(Scorer):
    """Scores classes by the virtual nodes, which stand last; see `Prototypes`."""

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
