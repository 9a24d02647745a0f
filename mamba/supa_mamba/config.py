"""Configuration of the training of an encoder."""

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

from supa.checks import check_int, check_real, did_you_mean, format_value
from supa.serialise import Config
from supa_datasets.loaders.tasks import SHOWER_TASKS

Precision = Literal["float32", "bf16"]
Positive = Annotated[float, partial(check_real, lambda v: v > 0, "above 0")]
NotNegative = Annotated[float, partial(check_real, lambda v: v >= 0, "of at least 0")]
Warmup = Annotated[float, partial(check_real, lambda v: 0 <= v < 1, "from 0 to below 1, a fraction of the steps")]


def _target(name: str, value: object) -> str:
    if not isinstance(value, str) or value not in SHOWER_TASKS:
        raise ValueError(
            f"{name}: {format_value(value)} was given, but it must be one of {', '.join(SHOWER_TASKS)}."
            f"{did_you_mean(value, SHOWER_TASKS)}"
        )
    return value


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(Config):
    """Configuration of the training of an encoder.

    Args:
        target: Quantity to predict: ``"num_primaries"``, ``"primary"``, ``"preset"`` or ``"incident_energy"``.
        d_model: Number of features of each hit inside the encoder.
        n_layer: Number of Mamba layers.
        d_state: Number of states per channel.
        epochs: Maximum number of epochs. The learning-rate schedule covers all of them.
        batch_size: Number of showers per batch, over all processes.
        learning_rate: Peak learning rate of AdamW.
        warmup: Fraction of the steps in which the learning rate rises from 0. Afterwards it follows a cosine to 0.
        weight_decay: Weight decay of matrices and convolution weights.
        clip: Maximum norm of the gradient.
        patience: Number of epochs without a better validation loss after which training stops.
        precision: ``"float32"``, or ``"bf16"`` for PyTorch's autocast to bfloat16.
        seed: Random seed of the initial weights and of the order of the showers.

    Raises:
        ValueError: If a value is not allowed.

    Example:
        >>> from supa_mamba import TrainingConfig
        >>> config = TrainingConfig(target="incident_energy", epochs=5)
        >>> config.epochs, config.batch_size
        (5, 256)
        >>> config.replace(batch_size=64).batch_size
        64
        >>> TrainingConfig(target="mass")
        Traceback (most recent call last):
        ValueError: target: 'mass' was given, but it must be one of num_primaries, primary, preset, incident_energy.
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
