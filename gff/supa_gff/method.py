"""A training method as a frozen config of orthogonal parts, which a researcher swaps one by one."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from types import NoneType
from typing import Any, Literal, get_args

from supa.checks import check_int, check_real, format_value
from supa_gff import goodness, labels, losses, negatives, scores
from supa_gff.checks import one_of, one_of_parts
from supa_gff.convolutions import MakeConvolution
from supa_gff.labels import Injection
from supa_gff.losses import Loss, Softmax, SquaredError
from supa_gff.negatives import Negatives
from supa_gff.scores import ClassGroups, Goodness, Head, PairProduct, Prototypes, Score

Schedule = Literal["greedy", "together", "pairs", "backprop"]
Normalisation = Literal["length", "batch", "layer", "graph", "none"]

Vote = Literal["all", "last", "chosen"]
VoteBy = Literal["scores", "probabilities"]
Order = Literal["together", "in turn"]
TopDown = Literal["input", "loss"]

_CHOICES: Mapping[str, tuple[str | None, ...]] = {
    "schedule": get_args(Schedule),
    "normalisation": get_args(Normalisation),
    "vote": get_args(Vote),
    "vote_by": get_args(VoteBy),
    "streams": get_args(Order),
    "top_down": (None, *get_args(TopDown)),
}


@dataclass(frozen=True)
class Method:
    """How a network is built, scored and trained.

    Args:
        score: how a layer scores what is predicted.
        loss: what a layer minimises.
        label: how a hypothesis about the labels gets into the network; None: it does not, and layers score all classes.
        negatives: which wrong labels are shown; None: none, all classes are scored at once.
        schedule: ``"greedy"``: layer after layer, those below frozen, each judged by the vote of the layers so far;
            ``"together"``: every layer at each step; ``"pairs"``: every layer at each step, gradients reaching one
            layer down within pairs that alternate (Trifecta, arXiv 2311.18130); ``"backprop"``: one loss on the sum of
            the scores, or on the last ones if the last layer votes, gradients through all.
        vote: whose scores are added for the prediction: of all layers, of the last, of those chosen on validation.
        vote_by: whether scores are added, or their probabilities: softmax, of pairs the sigmoid.
        normalisation: ``"length"`` of each node's vector before the convolution; or of what the convolution gives.
        residual: whether a layer's input is added to its activations.
        collaboration: whether the scores of the layers below are added, without gradient, to what a layer's loss sees
            (arXiv 2305.12393).
        top_down: whether layers also hear from those above, in their input or in their loss (arXiv 2403.11004, section
            3.4); None: they do not.
        streams: whether all hypotheses run side by side, or one after another, which needs less memory.
        train_convolution: False: only scorers are trained (CaFo's random blocks, arXiv 2303.09728).
        conv: name of a convolution, see ``CONVOLUTIONS``, or a function of input and output features.
        layers: their number.
        width: features of an activation.
        dropout: share of a layer's input features dropped in training.
        learning_rate: of Adam.
        weight_decay: of Adam.
        halve_every: epochs after which the learning rate halves; None: never.
        epochs: most epochs; of each layer, if greedy.
        patience: validations without a better score after which training, or that of a layer, ends.
        validate_every: epochs between two validations.
        batch_size: graphs a batch.
        checkpointing: backprop only: recompute activations instead of keeping them.
    """

    score: Score = Head("mlp", dropout=0.5)  # noqa: RUF009  # frozen
    loss: Loss = Softmax()  # noqa: RUF009  # frozen
    label: Injection | None = None
    negatives: Negatives | None = None
    schedule: Schedule = "together"
    vote: Vote = "all"
    vote_by: VoteBy = "scores"
    normalisation: Normalisation = "batch"
    residual: bool = False
    collaboration: bool = False
    top_down: TopDown | None = None
    streams: Order = "together"
    train_convolution: bool = True
    conv: str | MakeConvolution = "gin"
    layers: int = 5
    width: int = 64
    dropout: float = 0.0
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    halve_every: int | None = 50
    epochs: int = 100
    patience: int = 50
    validate_every: int = 1
    batch_size: int = 64
    checkpointing: bool = False

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            one_of(allowed, name, getattr(self, name))
        one_of_parts(get_args(Score), "score", self.score)
        one_of_parts(get_args(Loss), "loss", self.loss)
        one_of_parts((NoneType, *get_args(Injection)), "label", self.label)
        one_of_parts((NoneType, *get_args(Negatives)), "negatives", self.negatives)
        for name in ("residual", "collaboration", "train_convolution", "checkpointing"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name}: {format_value(getattr(self, name))} was given, but it is True or False.")
        if not isinstance(self.conv, str) and not callable(self.conv):
            raise ValueError(f"conv: {format_value(self.conv)} was given, but it is a name or a function.")
        for name in ("layers", "width", "epochs", "patience", "validate_every", "batch_size"):
            check_int(1, 10**9, name, getattr(self, name))
        if self.halve_every is not None:
            check_int(1, 10**9, "halve_every", self.halve_every)
        check_real(lambda v: v > 0, "above zero", "learning_rate", self.learning_rate)
        check_real(lambda v: v >= 0, "of at least zero", "weight_decay", self.weight_decay)
        check_real(lambda v: 0 <= v < 1, "from 0 to below 1", "dropout", self.dropout)
        self._check_together()

    def _check_together(self) -> None:
        if isinstance(self.score, Goodness) != (self.label is not None and not isinstance(self.score, Prototypes)):
            raise ValueError(
                "A goodness tells hypotheses about the label apart, and needs label=, such as NodeFeatures(); other "
                "scores tell classes apart without one, so label= must be None (VirtualNodes() for Prototypes())."
            )
        if isinstance(self.score, Prototypes) and not isinstance(self.label, labels.VirtualNodes):
            raise ValueError("Prototypes are the classes' virtual nodes: give label=VirtualNodes() with them.")
        if isinstance(self.score, Goodness) and self.negatives is None:
            raise ValueError("A goodness needs wrong labels to compare with: give negatives=, such as AllWrong().")
        if isinstance(self.loss, SquaredError) and not isinstance(self.score, Head):
            raise ValueError("Values are predicted by heads: with SquaredError(), give score=Head(...).")
        if self.negatives is not None and isinstance(self.loss, SquaredError):
            raise ValueError("SquaredError() compares with no wrong labels: negatives= must be None.")
        if self.negatives is not None and isinstance(self.score, PairProduct):
            raise ValueError("Pairs bring their own negatives, those that are not linked: negatives= must be None.")
        if self.vote_by == "probabilities" and isinstance(self.loss, SquaredError):
            raise ValueError("Values have no probabilities: with SquaredError(), vote_by= must be 'scores'.")
        if not self.train_convolution and not isinstance(self.score, Head):
            raise ValueError("With train_convolution=False only heads are trained: give score=Head(...).")
        self._check_schedule()

    def _check_schedule(self) -> None:
        local = self.schedule in ("greedy", "together")
        if self.streams == "in turn" and not (self.conditioned and local):
            raise ValueError("streams='in turn' is for a Goodness and schedule='greedy' or 'together'.")
        if self.collaboration and (self.vote == "last" or self.vote_by == "probabilities"):
            raise ValueError(
                "With collaboration a layer's scores mean something only beside those below: vote='all' or 'chosen', "
                "and vote_by='scores'."
            )
        if self.collaboration and self.schedule == "backprop":
            raise ValueError("collaboration is for local losses; schedule='backprop' has one loss for all layers.")
        if self.streams == "in turn" and self.normalisation == "batch":
            raise ValueError(
                "Batch normalisation of one hypothesis at a time takes away what tells them apart; with "
                "streams='in turn' use another normalisation."
            )
        if self.streams == "in turn" and (self.dropout or isinstance(self.label, labels.VirtualNodes)):
            raise ValueError("Streams run in turn twice each, and must come out the same: no dropout, no VirtualNodes.")
        if self.top_down is not None and not (
            isinstance(self.score, Prototypes)
            and (self.schedule, self.normalisation, self.vote_by) == ("together", "length", "probabilities")
            and not (self.collaboration or self.residual)
        ):
            raise ValueError(
                "top_down= is for Prototypes(), schedule='together', normalisation='length', vote_by='probabilities' "
                "and neither collaboration nor residual; start from preset('top-to-input', 'node')."
            )
        if self.checkpointing and self.schedule != "backprop":
            raise ValueError("checkpointing is for schedule='backprop'; the others keep one layer's activations.")

    @property
    def conditioned(self) -> bool:
        """Whether the network sees one hypothesis about the labels at a time."""
        return isinstance(self.score, Goodness)

    def replace(self, **changes: Any) -> "Method":
        """Change some parts.

        Args:
            **changes: new values by name.

        Returns:
            The changed method.

        Raises:
            ValueError: there is no such part, or the parts do not go together.
        """
        names = [field.name for field in dataclasses.fields(self)]
        for name in changes:
            if name not in names:
                raise ValueError(f"{format_value(name)} was given, but a method has {', '.join(names)}.")
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Write as plain values that JSON takes; `from_dict` reads them.

        Returns:
            Values by name; a part is ``{"part": its class, ...}``, a function as convolution ``"custom"``.
        """
        return {field.name: _plain(getattr(self, field.name)) for field in dataclasses.fields(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Method":
        """Read what `to_dict` wrote.

        Args:
            values: by name.

        Returns:
            The method.

        Raises:
            ValueError: a name or a part is unknown.
        """
        return cls().replace(**{name: _made(value) for name, value in values.items()})


_PARTS: Mapping[str, type] = {
    part.__name__: part
    for part in (
        goodness.SumOfSquares, goodness.MeanOfSquares, goodness.MeanActivation, goodness.TopK, goodness.Entmax,
        labels.NodeFeatures, labels.Embedding, labels.EveryLayer, labels.Gate, labels.VirtualNodes,
        losses.Threshold, losses.SymBa, losses.Softmax, losses.SquaredError,
        negatives.AllWrong, negatives.Uniform, negatives.Hard,
        scores.Goodness, ClassGroups, Head, Prototypes, PairProduct,
    )
}  # fmt: skip


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"part": type(value).__name__, **fields}
    return "custom" if callable(value) else value


def _made(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    part = value.get("part")  # not "kind", which parts have of their own
    if not isinstance(part, str) or part not in _PARTS:
        raise ValueError(f"{format_value(part)} is no part of a method; there are {', '.join(_PARTS)}.")
    try:
        return _PARTS[part](**{name: _made(inner) for name, inner in value.items() if name != "part"})
    except TypeError as error:
        raise ValueError(f"{part}: {error}.") from None
