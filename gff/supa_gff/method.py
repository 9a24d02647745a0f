"""Configuration of a training method."""

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

from supa.checks import check_int, check_real
from supa.serialise import Config
from supa_gff import label_injection
from supa_gff.convolutions import MakeConvolution
from supa_gff.heads import Goodness, Head, PairProduct, Prototypes, Score
from supa_gff.label_injection import Injection
from supa_gff.losses import BinaryCrossEntropy, Loss, Softmax, SquaredError
from supa_gff.names import TargetKind
from supa_gff.negatives import Negatives

Schedule = Literal["greedy", "joint", "overlapping-pairs", "backprop", "deep-supervision"]
Normalisation = Literal["length", "batch", "layer", "graph", "none"]

LayersUsed = Literal["all", "last", "chosen"]
Aggregate = Literal["scores", "probabilities"]
Hypotheses = Literal["parallel", "sequential"]
TopDown = Literal["input", "loss"]
PositiveInt = Annotated[int, partial(check_int, 1, 10**9)]
Fraction = Annotated[float, partial(check_real, lambda v: 0 <= v < 1, "from 0 to below 1")]
Weight = Annotated[float, partial(check_real, lambda v: v > 0, "above zero")]


@dataclass(frozen=True)
class Method(Config):
    """Configuration of a training method: how a network is built, scored and trained.

    A method is a frozen configuration of independent parts. Use `Method.replace` to change some of them.

    Args:
        score: How a layer scores the candidate labels; a class of ``supa_gff.heads``.
        loss: Loss that each layer minimises; a class of ``supa_gff.losses``. It determines the kind of the targets:
            ``SquaredError`` is for regression, ``BinaryCrossEntropy`` for multi-label targets, others for classes.
        label: How candidate labels enter a label-conditioned network; a class of ``supa_gff.label_injection``. None:
            the labels are not an input, and each layer scores all classes at once.
        negatives: How the negative labels are chosen; a class of ``supa_gff.negatives``. None: the positive label is
            compared with all others.
        schedule: Which layers are updated when. ``"greedy"``: one layer after another, with frozen layers below; a
            layer is validated together with those below. ``"joint"``: every layer in each step.
            ``"overlapping-pairs"``: every layer in each step; gradients pass one layer down, within pairs of layers
            that alternate (Trifecta, arXiv 2311.18130). ``"backprop"``: one loss with gradients through all layers; it
            is computed from the sum of the scores, or from the scores of the last layer if ``layers_used="last"``.
            ``"deep-supervision"``: the sum of the local losses, with gradients through all layers (arXiv 1409.5185).
        layers_used: Layers whose scores are combined into the prediction: ``"all"``, ``"last"``, or ``"chosen"`` by
            their accuracy on the validation part.
        aggregate: What is summed over layers: ``"scores"`` or ``"probabilities"`` (softmax; sigmoid for links).
        normalisation: ``"length"``: divide the input of each node by its length. ``"batch"``, ``"layer"``, ``"graph"``:
            normalise the output of the convolution. ``"none"``: no normalisation.
        residual: Whether the input of a layer is added to its activations.
        collaboration: Whether the loss of a layer is computed from the sum of its scores and those of the layers below.
            No gradient passes to the layers below (arXiv 2305.12393).
        top_down: Whether the activations of the layers above are part of the input (``"input"``) or of the loss
            (``"loss"``) of a layer (arXiv 2403.11004, section 3.4). None: neither.
        hypotheses: How a layer computes the hypotheses: ``"parallel"``, all at once, or ``"sequential"``, one after
            another, which requires less memory.
        train_convolution: Whether convolutions are trained. False: only the heads are, as in CaFo (arXiv 2303.09728).
        conv: Convolution: one of gcn, gin, sage, gat, gatv2, graph, pna and transformer, or a function of in_channels
            and out_channels that returns a module to call with (x, edge_index).
        layers: Number of layers.
        hidden_channels: Number of channels of the activations of each layer.
        dropout: Dropout probability of an input channel of a layer.
        edge_dropout: Probability that a layer ignores an edge in a training step (DropEdge, arXiv 1907.10903). Each
            layer ignores other edges; all hypotheses about a batch ignore the same ones.
        learning_rate: Learning rate of Adam.
        weight_decay: Weight decay of Adam.
        lr_step_size: Number of epochs after which the learning rate is halved. None: it is constant.
        epochs: Maximum number of epochs (per layer for greedy training).
        patience: Number of validations without improvement after which training stops (per layer for greedy training).
        validate_every: Number of epochs between two validations.
        batch_size: Number of graphs per batch, or of nodes of a graph on disk.
        checkpointing: Whether backpropagation recomputes activations instead of storing them. It requires
            ``schedule="backprop"`` or ``"deep-supervision"``.
        accumulation: Number of parts of a batch whose gradients backpropagation computes one after another and adds,
            with the activations of one part in memory. Batch normalisation uses the statistics of each part. It
            requires graph level, ``schedule="backprop"`` or ``"deep-supervision"``, and neither negatives nor weights
            of classes.
        class_weights: Weight of each class in the loss, which is the weighted mean over the units of a batch. For
            multi-label targets: weight of the units to which each label applies, relative to the other units. None: all
            weights are 1. `GraphSet.balanced_weights` computes weights from the frequencies.

    Raises:
        ValueError: If a value is not allowed, or two parts cannot be combined.

    Example:
        >>> from supa_gff import Method, heads, losses
        >>> method = Method(score=heads.Head("linear"), layers=3, epochs=20)
        >>> method.schedule, method.label_conditioned
        ('joint', False)
        >>> method.replace(loss=losses.SymBa(4.0)).loss
        SymBa(alpha=4.0)
    """

    score: Score = Head("mlp", dropout=0.5)  # noqa: RUF009  # frozen
    loss: Loss = Softmax()  # noqa: RUF009  # frozen
    label: Injection | None = None
    negatives: Negatives | None = None
    schedule: Schedule = "joint"
    layers_used: LayersUsed = "all"
    aggregate: Aggregate = "scores"
    normalisation: Normalisation = "batch"
    residual: bool = False
    collaboration: bool = False
    top_down: TopDown | None = None
    hypotheses: Hypotheses = "parallel"
    train_convolution: bool = True
    conv: str | MakeConvolution = "gin"
    layers: PositiveInt = 5
    hidden_channels: PositiveInt = 64
    dropout: Fraction = 0.0
    edge_dropout: Fraction = 0.0
    learning_rate: Annotated[float, partial(check_real, lambda v: v > 0, "above zero")] = 1e-3
    weight_decay: Annotated[float, partial(check_real, lambda v: v >= 0, "of at least zero")] = 0.0
    lr_step_size: PositiveInt | None = 50
    epochs: PositiveInt = 100
    patience: PositiveInt = 50
    validate_every: PositiveInt = 1
    batch_size: PositiveInt = 64
    checkpointing: bool = False
    accumulation: PositiveInt = 1
    class_weights: tuple[Weight, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_together()

    def _check_together(self) -> None:
        if isinstance(self.score, Goodness) != (self.label is not None and not isinstance(self.score, Prototypes)):
            raise ValueError(
                "score=Goodness() requires label=, for example label=NodeFeatures(). With other scores label must be "
                "None, except that Prototypes() requires label=VirtualNodes()."
            )
        if isinstance(self.score, Prototypes) and not isinstance(self.label, label_injection.VirtualNodes):
            raise ValueError("score=Prototypes() requires label=VirtualNodes().")
        if isinstance(self.score, Goodness) and self.negatives is None:
            raise ValueError("score=Goodness() requires negatives=, for example negatives=AllNegatives().")
        self._check_loss()
        if self.negatives is not None and isinstance(self.score, PairProduct):
            raise ValueError(
                "With score=PairProduct() the negatives are the pairs that are not linked; negatives must be None."
            )
        if not self.train_convolution and not isinstance(self.score, Head):
            raise ValueError("train_convolution=False requires score=Head(...), since only heads are trained.")
        self._check_schedule()

    def _check_loss(self) -> None:
        if self.class_weights is not None and isinstance(self.loss, SquaredError):
            raise ValueError("loss=SquaredError() has no classes; class_weights must be None.")
        if self.class_weights is not None and isinstance(self.score, PairProduct):
            raise ValueError(
                "score=PairProduct() scores pairs of nodes, which have no classes; class_weights must be None."
            )
        if self.target_kind == "classification":
            return
        loss = f"loss={type(self.loss).__name__}()"
        if not isinstance(self.score, Head):
            raise ValueError(f"{loss} requires score=Head(...).")
        if self.negatives is not None:
            raise ValueError(f"{loss} does not use negative labels; negatives must be None.")
        if self.aggregate == "probabilities":
            why = (
                "predicted values have no probabilities"
                if self.target_kind == "regression"
                else "labels are not classes"
            )
            raise ValueError(f"{loss} requires aggregate='scores', since {why}.")

    def _check_schedule(self) -> None:
        local = self.schedule in ("greedy", "joint")
        if self.hypotheses == "sequential" and not (self.label_conditioned and local):
            raise ValueError("hypotheses='sequential' requires score=Goodness() and schedule='greedy' or 'joint'.")
        if self.collaboration and (self.layers_used == "last" or self.aggregate == "probabilities"):
            raise ValueError(
                "collaboration=True requires layers_used='all' or 'chosen', and aggregate='scores', since it adds the "
                "scores of the layers."
            )
        backprop = self.schedule in ("backprop", "deep-supervision")
        if self.collaboration and backprop:
            raise ValueError(
                "collaboration=True requires local losses and gradients, but those of "
                f"schedule={self.schedule!r} reach all layers."
            )
        if self.schedule == "deep-supervision" and self.layers_used == "last":
            raise ValueError("schedule='deep-supervision' trains all layers; layers_used must not be 'last'.")
        weighted = self.class_weights is not None and self.target_kind == "classification"
        if self.accumulation > 1 and not (backprop and self.negatives is None and not weighted):
            raise ValueError(
                "accumulation requires schedule='backprop' or 'deep-supervision', no negatives and no class_weights."
            )
        if self.hypotheses == "sequential" and self.normalisation == "batch":
            raise ValueError(
                "hypotheses='sequential' requires another normalisation than 'batch': normalising one hypothesis at a "
                "time would remove the differences between hypotheses."
            )
        virtual = isinstance(self.label, label_injection.VirtualNodes)
        if self.hypotheses == "sequential" and (self.dropout or self.edge_dropout or virtual):
            raise ValueError(
                "hypotheses='sequential' computes each hypothesis twice and requires equal results: dropout and "
                "edge_dropout must be 0, and label must not be VirtualNodes()."
            )
        if self.edge_dropout and virtual:
            raise ValueError("label=VirtualNodes() puts the labels into the edges; edge_dropout must be 0.")
        if self.top_down is not None and not (
            isinstance(self.score, Prototypes)
            and (self.schedule, self.normalisation, self.aggregate) == ("joint", "length", "probabilities")
            and not (self.collaboration or self.residual)
        ):
            raise ValueError(
                "top_down requires score=Prototypes(), schedule='joint', normalisation='length', "
                "aggregate='probabilities', collaboration=False and residual=False; start from "
                "preset('top-to-input', 'node')."
            )
        if self.checkpointing and not backprop:
            raise ValueError(
                "checkpointing=True requires schedule='backprop' or 'deep-supervision'; other schedules store the "
                "activations of one or two layers only."
            )

    @property
    def label_conditioned(self) -> bool:
        """Whether candidate labels are an input of the network, which then scores one hypothesis at a time."""
        return isinstance(self.score, Goodness)

    @property
    def target_kind(self) -> TargetKind:
        """Kind of the targets: ``"classification"``, ``"regression"`` or ``"multi-label"``."""
        if isinstance(self.loss, SquaredError):
            return "regression"
        return "multi-label" if isinstance(self.loss, BinaryCrossEntropy) else "classification"

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain values. A convolution that is a function becomes ``"custom"``."""
        return super().to_dict() | ({} if isinstance(self.conv, str) else {"conv": "custom"})
