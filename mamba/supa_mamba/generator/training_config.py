"""Configuration of the training of a generator, and presets."""

from dataclasses import dataclass, field
from functools import partial
from typing import Annotated

from supa.checks import check_int, check_real
from supa.serialise import Config
from supa_mamba.config import NotNegative, Positive, Precision, Warmup
from supa_mamba.generator.config import GeneratorConfig


@dataclass(frozen=True, kw_only=True)
class GeneratorTrainingConfig(Config):
    """Configuration of the training of a generator of showers.

    Args:
        generator: Sizes of the model.
        fields: Conditions of the model beside the incident energy: names of numerical fields of the config, and
            ``"preset"`` to distinguish the configs of the training showers.
        epochs: Maximum number of epochs. The learning-rate schedule covers all of them.
        batch_size: Number of showers per batch, over all processes.
        learning_rate: Peak learning rate of AdamW.
        warmup: Fraction of the steps in which the learning rate rises from 0. Afterwards it follows a cosine to 0.
        weight_decay: Weight decay of matrices and convolution weights.
        clip: Maximum norm of the gradient.
        ema: Fraction of the averaged weights that an update keeps; see `supa_learning.AveragedWeights`.
        patience: Number of epochs without a better validation loss after which training stops.
        precision: ``"float32"``, or ``"bf16"`` for PyTorch's autocast of the sequence model to bfloat16. The heads, the
            likelihood and the validation are in float32.
        seed: Random seed of the initial weights, of the order of the showers, of the showers of a stream, and of
            samples that are compared.

    Raises:
        ValueError: If a value is not allowed.

    Example:
        >>> from supa_mamba import GENERATOR_PRESETS, GeneratorConfig, GeneratorTrainingConfig
        >>> config = GeneratorTrainingConfig(generator=GeneratorConfig(d_model=32), epochs=5)
        >>> config.generator.d_model, config.epochs
        (32, 5)
        >>> GENERATOR_PRESETS["base"].generator
        GeneratorConfig(d_model=192, n_layer=6)
        >>> GeneratorTrainingConfig(ema=1)
        Traceback (most recent call last):
        ValueError: ema: 1 was given, but it must be a number from 0 to below 1.
    """

    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    fields: tuple[str, ...] = ()
    epochs: Annotated[int, partial(check_int, 1, 10**6)] = 25
    batch_size: Annotated[int, partial(check_int, 1, 10**9)] = 64
    learning_rate: Positive = 2e-3
    warmup: Warmup = 0.05
    weight_decay: NotNegative = 0.01
    clip: Positive = 1.0
    ema: Annotated[float, partial(check_real, lambda v: 0 <= v < 1, "from 0 to below 1")] = 0.999
    patience: Annotated[int, partial(check_int, 1, 10**6)] = 10
    precision: Precision = "float32"
    seed: Annotated[int, partial(check_int, 0, 2**63 - 1)] = 0


GENERATOR_PRESETS = {
    "small": GeneratorTrainingConfig(epochs=20, learning_rate=4e-3),
    "base": GeneratorTrainingConfig(
        generator=GeneratorConfig(d_model=192, n_layer=6),
        epochs=100,
        batch_size=1024,
        patience=100,
        precision="bf16",
    ),
    "large": GeneratorTrainingConfig(
        generator=GeneratorConfig(d_model=384, n_layer=8, d_state=64),
        epochs=100,
        batch_size=1024,
        learning_rate=1e-3,
        patience=100,
        precision="bf16",
    ),
}
"""Configurations by name: ``"small"`` for two CPU cores, ``"base"`` and ``"large"`` for a GPU."""
