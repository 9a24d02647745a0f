"""The score of one submission: one row of a table."""

from dataclasses import dataclass
from functools import partial
from typing import Annotated

from supa.checks import check_int, check_real
from supa.serialise import Config

_Finite = Annotated[float, partial(check_real, lambda _value: True, "that is finite")]
_Probability = Annotated[float, partial(check_real, lambda value: 0 <= value <= 1, "from 0 to 1")]
_NotNegative = Annotated[int, partial(check_int, 0, 10**9)]
_Positive = Annotated[int, partial(check_int, 1, 10**9)]


@dataclass(frozen=True)
class ScoreMetric(Config):
    """One metric of a score, with its noise floor.

    Args:
        name: Name of the metric.
        value: Value of the submission; None if it is not finite.
        floor: Noise floor: mean value of a true sample of the same size, or of the optimal prediction.
        spread: Standard deviation of the value of a true sample, or of the optimal prediction.
        pull: (value - floor) / spread, with the error of the floor included; None without a value.

    Example:
        >>> from supa_datasets import ScoreMetric
        >>> ScoreMetric("classifier AUC", 0.53, 0.5, 0.01, 3.0).pull
        3.0
    """

    name: str
    value: _Finite | None
    floor: _Finite
    spread: _Finite
    pull: _Finite | None


@dataclass(frozen=True)
class Score(Config):
    """The score of generated showers or of predictions for a benchmark task.

    Args:
        task: Name of the task.
        task_version: Version of the task.
        num_showers: Number of showers of the submission.
        label: Name of the model in tables.
        p_value: Probability that a true sample (or the optimal prediction) is at least as different, for all
            observables together.
        metrics: The metrics.
        largest_differences: Names of the observables of showers with the smallest p-values. Empty for predictions.
        num_observables: Number of observables of showers that were compared. A sample without slices has fewer. 0 for
            predictions.
        sha256: SHA-256 checksum of the submitted file; empty for data in memory.
        supa_version: Version of supa-showers.
        date: Date of the score, such as ``"2026-11-29"``.

    Example:
        >>> from supa_datasets import Score, ScoreMetric
        >>> metric = ScoreMetric("accuracy", 0.85, 0.9, 0.01, -5.0)
        >>> score = Score("energy-graphs", 1, 2000, "mine", 1e-6, (metric,), (), 0, "", "0.1.0", "2026-11-29")
        >>> score["accuracy"].value, score.differs
        (0.85, True)
        >>> Score.from_json(score.to_json()) == score
        True
    """

    task: str
    task_version: _Positive
    num_showers: _Positive
    label: str
    p_value: _Probability
    metrics: tuple[ScoreMetric, ...]
    largest_differences: tuple[str, ...]
    num_observables: _NotNegative
    sha256: str
    supa_version: str
    date: str

    def __getitem__(self, name: str) -> ScoreMetric:
        """Return the metric of a name, or raise a KeyError."""
        return {metric.name: metric for metric in self.metrics}[name]

    @property
    def differs(self) -> bool:
        """Whether the submission differs from a true sample (or the optimal prediction): a p-value of at most 0.05."""
        return self.p_value <= 0.05
