"""Configuration of the reinforcement fine-tuning of a generator."""

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

from supa.checks import check_int
from supa.serialise import Config
from supa_mamba.config import NotNegative, Positive, Warmup

RewardName = Literal["profiles", "density-ratio"]

_LARGEST_NUMBER = 10**9


@dataclass(frozen=True, kw_only=True)
class FinetuningConfig(Config):
    """Configuration of the reinforcement fine-tuning of a generator.

    Args:
        reward: ``"profiles"``: the distance of the mean longitudinal profile from the exact expectation.
            ``"density-ratio"``: the logarithm of true over generated density, from a calibrated classifier.
        kl: Coefficient of the divergence from the generator before the fine-tuning, in nats per shower; 0 for none.
        steps: Number of updates.
        interval: Number of updates after which samples are measured and the classifier is trained again. The number of
            updates is a multiple of it.
        batch_size: Number of showers that are sampled for an update.
        group_size: Number of showers of a group, which have the same config and similar incident energies.
        measured: Number of showers that are sampled for a measurement. Without given showers, as many are simulated.
        learning_rate: Peak learning rate of AdamW.
        warmup: Fraction of the updates in which the learning rate rises from 0. Afterwards it follows a cosine to 0.
        clip: Maximum norm of the gradient.
        seed: Random seed of the samples, of simulated showers and of classifiers.

    Raises:
        ValueError: If a value is not allowed.

    Example:
        >>> from supa_mamba import FinetuningConfig
        >>> FinetuningConfig(reward="profiles", group_size=2)
        Traceback (most recent call last):
        ValueError: group_size: 2 was given, but it must be a whole number from 4 to 1000000000.
    """

    reward: RewardName
    kl: NotNegative = 0.1
    steps: Annotated[int, partial(check_int, 1, _LARGEST_NUMBER)] = 300
    interval: Annotated[int, partial(check_int, 1, _LARGEST_NUMBER)] = 30
    batch_size: Annotated[int, partial(check_int, 1, _LARGEST_NUMBER)] = 1024
    group_size: Annotated[int, partial(check_int, 4, _LARGEST_NUMBER)] = 256
    measured: Annotated[int, partial(check_int, 200, _LARGEST_NUMBER)] = 5000
    learning_rate: Positive = 3e-4
    warmup: Warmup = 0.05
    clip: Positive = 1.0
    seed: Annotated[int, partial(check_int, 0, 2**63 - 1)] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps % self.interval:
            raise ValueError(
                f"steps: {self.steps} was given, but it must be a multiple of the interval, {self.interval}."
            )
