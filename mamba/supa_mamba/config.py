"""How an encoder is trained: every size and number, validated."""

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

from supa.checks import check_int, check_real, did_you_mean, format_value
from supa.serialise import Config
from supa_datasets.loaders.tasks import SHOWER_TASKS

Precision = Literal["float32", "bf16"]
Positive = Annotated[float, partial(check_real, lambda v: v > 0, "above 0")]
NotNegative = Annotated[float, partial(check_real, lambda v: v >= 0, "that is 0 or above")]
Warmup = Annotated[float, partial(check_real, lambda v: 0 <= v < 1, "from 0 to below 1, a share of the steps")]


def _target(name: str, value: object) -> str:
    if not isinstance(value, str) or value not in SHOWER_TASKS:
        raise ValueError(
            f"{name}: {format_value(value)} was given, but it is one of {', '.join(SHOWER_TASKS)}."
            f"{did_you_mean(value, SHOWER_TASKS)}"
        )
    return value


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(Config):
    """How an encoder is trained.

    Args:
        target: what is predicted; one of ``supa_datasets.loaders.tasks.SHOWER_TASKS``.
        d_model: width of a hit's vector.
        n_layer: number of layers.
        d_state: states of a channel.
        epochs: most epochs; the learning rate falls over all of them.
        batch_size: showers of a batch, over all processes.
        learning_rate: highest of AdamW.
        warmup: share of the steps in which the learning rate rises from 0; then it falls as a cosine.
        weight_decay: of matrices.
        clip: largest norm of the gradient.
        patience: epochs without a better validation loss after which training ends.
        precision: ``"float32"``, or ``"bf16"``: what PyTorch's autocast puts into bfloat16.
        seed: of the first weights and of the order of the showers.

    Raises:
        ValueError: a value is not allowed.
    """

    target: Annotated[str, _target]
    d_model: Annotated[int, partial(check_int, 1, 65536)] = 64
    n_layer: Annotated[int, partial(check_int, 1, 1000)] = 4
    d_state: Annotated[int, partial(check_int, 1, 256)] = 16
    epochs: Annotated[int, partial(check_int, 1, 10**6)] = 30
    batch_size: Annotated[int, partial(check_int, 1, 10**9)] = 256
    learning_rate: Positive = 2e-3
    warmup: Warmup = 0.05
    weight_decay: NotNegative = 0.05
    clip: Positive = 1.0
    patience: Annotated[int, partial(check_int, 1, 10**6)] = 10
    precision: Precision = "float32"
    seed: Annotated[int, partial(check_int, 0, 2**63 - 1)] = 0
