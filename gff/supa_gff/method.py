"""A training method as a frozen config of orthogonal parts, which a researcher swaps one by one."""

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

from supa.checks import check_int, check_real
from supa.serialise import Config
from supa_gff import label_injection
from supa_gff.convolutions import MakeConvolution
from supa_gff.heads import Goodness, Head, PairProduct, Prototypes, Score
from supa_gff.label_injection import Injection
from supa_gff.losses import Loss, Softmax, SquaredError
from supa_gff.negatives import Negatives

Schedule = Literal["greedy", "joint", "overlapping-pairs", "backprop"]
Normalisation = Literal["length", "batch", "layer", "graph", "none"]

LayersUsed = Literal["all", "last", "chosen"]
Aggregate = Literal["scores", "probabilities"]
Hypotheses = Literal["parallel", "sequential"]
TopDown = Literal["input", "loss"]
PositiveInt = Annotated[int, partial(check_int, 1, 10**9)]
Fraction = Annotated[float, partial(check_real, lambda v: 0 <= v < 1, "from 0 to below 1")]


@dataclass(frozen=True)
class Method(Config):
    """How a network is built, scored and trained.

    Args:
        score: how a layer scores what is predicted.
        loss: what a layer minimises.
        label: how a hypothesis about the labels enters the network; None: it does not, and layers score all classes.
        negatives: choice of the negative labels; None: the positive label is compared with all others.
        schedule: ``"greedy"``: layer after layer, those below frozen, each validated together with them; ``"joint"``:
            every layer at each step; ``"overlapping-pairs"``: every layer at each step, gradients reach one layer down
            within pairs that alternate (Trifecta, arXiv 2311.18130); ``"backprop"``: one loss on the sum of the scores,
            or on those of the last layer if only it is used, gradients through all layers.
        layers_used: the layers whose scores make the prediction: all, the last, or those chosen on validation.
        aggregate: whether scores are summed, or their probabilities: softmax, or sigmoid for links.
        normalisation: ``"length"``: of each node's vector before the convolution; others: of the convolution's output.
        residual: whether a layer's input is added to its activations.
        collaboration: whether a layer's loss sees the sum of its scores and those of the layers below, these without
            gradient (arXiv 2305.12393).
        top_down: whether activations of the layers above enter a layer's input or its loss (arXiv 2403.11004, section
            3.4); None: they do not.
        hypotheses: whether hypotheses pass a layer in parallel, or one after another, which needs less memory.
        train_convolution: False: only scorers are trained (CaFo's random blocks, arXiv 2303.09728).
        conv: name of a convolution, see ``CONVOLUTIONS``, or a function of in_channels and out_channels.
        layers: number of layers.
        hidden_channels: number of channels of each layer's activations.
        dropout: probability of dropping an input channel of a layer in training.
        learning_rate: learning rate of Adam.
        weight_decay: weight decay of Adam.
        lr_step_size: number of epochs after which the learning rate halves; None: it is constant.
        epochs: maximum number of epochs (per layer for greedy training).
        patience: number of validations without improvement after which training, or that of a layer, ends.
        validate_every: number of epochs between two validations.
        batch_size: number of graphs in a batch.
        checkpointing: for backprop: whether activations are recomputed instead of stored.
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
    learning_rate: Annotated[float, partial(check_real, lambda v: v > 0, "above zero")] = 1e-3
    weight_decay: Annotated[float, partial(check_real, lambda v: v >= 0, "of at least zero")] = 0.0
    lr_step_size: PositiveInt | None = 50
    epochs: PositiveInt = 100
    patience: PositiveInt = 50
    validate_every: PositiveInt = 1
    batch_size: PositiveInt = 64
    checkpointing: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_together()

    def _check_together(self) -> None:
        if isinstance(self.score, Goodness) != (self.label is not None and not isinstance(self.score, Prototypes)):
            raise ValueError(
                "A Goodness scores hypotheses about the label and needs label=, such as NodeFeatures(); other scores "
                "do not, so label= must be None (VirtualNodes() for Prototypes())."
            )
        if isinstance(self.score, Prototypes) and not isinstance(self.label, label_injection.VirtualNodes):
            raise ValueError("Prototypes are the classes' virtual nodes: give label=VirtualNodes() with them.")
        if isinstance(self.score, Goodness) and self.negatives is None:
            raise ValueError("A Goodness compares with negative labels: give negatives=, such as AllNegatives().")
        if isinstance(self.loss, SquaredError) and not isinstance(self.score, Head):
            raise ValueError("Values are predicted by heads: with SquaredError(), give score=Head(...).")
        if self.negatives is not None and isinstance(self.loss, SquaredError):
            raise ValueError("SquaredError() has no negative labels: negatives= must be None.")
        if self.negatives is not None and isinstance(self.score, PairProduct):
            raise ValueError("Pairs bring their own negatives, those that are not linked: negatives= must be None.")
        if self.aggregate == "probabilities" and isinstance(self.loss, SquaredError):
            raise ValueError("Values have no probabilities: with SquaredError(), aggregate= must be 'scores'.")
        if not self.train_convolution and not isinstance(self.score, Head):
            raise ValueError("With train_convolution=False only heads are trained: give score=Head(...).")
        self._check_schedule()

    def _check_schedule(self) -> None:
        local = self.schedule in ("greedy", "joint")
        if self.hypotheses == "sequential" and not (self.label_conditioned and local):
            raise ValueError("hypotheses='sequential' is for a Goodness and schedule='greedy' or 'joint'.")
        if self.collaboration and (self.layers_used == "last" or self.aggregate == "probabilities"):
            raise ValueError(
                "With collaboration, scores of a layer are an addition to those below: layers_used='all' or 'chosen', "
                "and aggregate='scores'."
            )
        if self.collaboration and self.schedule == "backprop":
            raise ValueError("collaboration= is for local losses; schedule='backprop' has one loss for all layers.")
        if self.hypotheses == "sequential" and self.normalisation == "batch":
            raise ValueError(
                "Batch normalisation of one hypothesis at a time removes the differences between them; with "
                "hypotheses='sequential' use another normalisation."
            )
        if self.hypotheses == "sequential" and (self.dropout or isinstance(self.label, label_injection.VirtualNodes)):
            raise ValueError(
                "Sequential hypotheses are computed twice, with the same result: dropout= must be 0, and label= must "
                "not be VirtualNodes()."
            )
        if self.top_down is not None and not (
            isinstance(self.score, Prototypes)
            and (self.schedule, self.normalisation, self.aggregate) == ("joint", "length", "probabilities")
            and not (self.collaboration or self.residual)
        ):
            raise ValueError(
                "top_down= is for Prototypes(), schedule='joint', normalisation='length', aggregate='probabilities' "
                "and neither collaboration nor residual; start from preset('top-to-input', 'node')."
            )
        if self.checkpointing and self.schedule != "backprop":
            raise ValueError(
                "checkpointing= is for schedule='backprop'; other schedules store the activations of one layer only."
            )

    @property
    def label_conditioned(self) -> bool:
        """Whether the network scores hypotheses about the labels, which are part of its input."""
        return isinstance(self.score, Goodness)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain values; a function as convolution is written as ``"custom"``."""
        return super().to_dict() | ({} if isinstance(self.conv, str) else {"conv": "custom"})
