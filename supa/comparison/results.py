"""The results of a comparison."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from supa.checks import counted
from supa.comparison.sample_statistics import SampleStatistics
from supa.distances import Estimate, KolmogorovSmirnov
from supa.number_format import format_number, format_with_error

_HTML_ROWS = 10


@dataclass(frozen=True)
class SampleFacts:
    """What one of the two samples is."""

    name: str
    """What the user calls it."""
    showers: int
    """Number of showers."""
    hits: int
    """Number of hits."""
    preset: str | None
    """Name of its preset, None for another config."""
    incident_energy: str
    """Incident energy of its config, GeV."""
    keep: str
    """``"all"`` or ``"complete"``."""
    engine: str
    """What made it."""
    seed: int | None
    """Its seed, None where it has none."""


@dataclass(frozen=True)
class ObservableResult:
    """How one observable differs between the samples."""

    name: str
    """The observable; ``docs/explanation/observables.md`` defines it."""
    level: str
    """``"shower"``: one value a shower; ``"hit"``: one value a hit."""
    label: str
    """Name and unit, for an axis."""
    true_mean: float
    """Mean of the true sample."""
    true_std: float
    """Standard deviation of the true sample."""
    generated_mean: float
    """Mean of the generated sample."""
    generated_std: float
    """Standard deviation of the generated sample."""
    distance: Estimate
    """Wasserstein-1 distance over the true spread, with its bootstrap error over showers."""
    distance_floor: float
    """The same between two true samples."""
    p_value: float
    """Of the permutation test of the distance, for this observable alone."""
    separation: Estimate
    """Separation power, under- and overflow counted, with its bootstrap error."""
    separation_floor: float
    """The same between two true samples."""
    ks: KolmogorovSmirnov | None
    """Kolmogorov-Smirnov distance and p-value; None at the level of hits, which are not independent."""
    ks_floor: float | None
    """The distance between two true samples."""
    true_undefined: float
    """Share of the true showers for which the observable is not defined."""
    generated_undefined: float
    """Share of the generated showers for which the observable is not defined."""


@dataclass(frozen=True)
class Pull:
    """A mean against the exact expectation of the true config, in standard errors."""

    name: str
    exact: float
    true_mean: float
    true_pull: float
    generated_mean: float
    generated_pull: float


@dataclass(frozen=True)
class Score:
    """A number of all observables together."""

    name: str
    value: Estimate
    floor: Estimate
    """The same between two true samples."""
    null_value: float
    """Its value for equal samples of infinite size."""
    p_value: float | None
    """Small where the samples differ; None where the score has none."""
    rows: int
    """Most showers of a sample that were used."""


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """How close generated showers are to true ones."""

    true: SampleFacts
    generated: SampleFacts
    floor: str
    """Between which true samples the noise floors were taken."""
    joint_p_value: float
    """Of all observables of showers together: at most 0.05 for 5 % of equal samples."""
    observables: tuple[ObservableResult, ...]
    """Those that differ most first."""
    pulls: tuple[Pull, ...]
    """Means against exact expectations; empty where there are none."""
    no_pulls: str
    """Why there are none, or nothing."""
    scores: tuple[Score, ...]
    """Numbers of all observables together; empty where they were not asked for."""
    left_out: tuple[str, ...]
    """Observables that only one of the samples has."""
    remarks: tuple[str, ...]
    """Reasons to doubt the choice of the samples."""
    seed: int
    repeats: int
    versions: dict[str, str]
    statistics: dict[str, SampleStatistics]
    """Statistics of the samples ``true``, ``generated`` and ``floor``, for figures."""

    def __repr__(self) -> str:
        samples = " with ".join(f"{facts.showers:,} showers of {facts.name}" for facts in (self.generated, self.true))
        found = "they differ" if self.differs else "no difference is seen"
        numbers = f"{len(self.observables)} observables, {len(self.pulls)} pulls, {len(self.scores)} scores"
        return f"<Comparison of {samples}: {found}, joint p = {self.joint_p_value:.3g}; {numbers}>"

    @property
    def differs(self) -> bool:
        """Whether the samples differ at the level of 5 %: by the joint p-value."""
        return self.joint_p_value <= 0.05

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the statistics of the samples.

        Returns:
            A dictionary that JSON can hold; a number that is not finite is None.
        """
        plain = {
            name: value
            for name in self.__dataclass_fields__
            if name != "statistics" and (value := getattr(self, name)) is not None
        }
        return {name: _plain(value) for name, value in plain.items()} | {"differs": self.differs}

    def _repr_html_(self) -> str:
        """Return the tables that a notebook shows: the samples, and the observables that differ most."""
        from supa.html_table import html_table

        samples = [
            (role, facts.name, f"{facts.showers:,}", f"{facts.hits:,}")
            for role, facts in (("true", self.true), ("generated", self.generated))
        ]
        rows = [
            (
                result.name,
                format_number(result.p_value, 3),
                format_number(result.true_mean),
                format_number(result.generated_mean),
                format_with_error(*result.distance),
                format_number(result.distance_floor, 3),
            )
            for result in self.observables[:_HTML_ROWS]
        ]
        found = "The samples differ" if self.differs else "No difference was found"
        hidden = len(self.observables) - len(rows)
        more = f"<p>... and {counted(hidden, 'more observable')}; see write_report.</p>" if hidden > 0 else ""
        return (
            html_table(
                samples,
                header=("sample", "name", "showers", "hits"),
                caption=f"{found} (joint p = {self.joint_p_value:.3g})",
            )
            + html_table(
                rows,
                header=("observable", "p-value", "true mean", "generated mean", "W1 / true spread", "noise floor"),
                caption="Observables, the largest differences first",
            )
            + more
        )


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if hasattr(value, "_asdict"):
        return _plain(value._asdict())
    if hasattr(value, "__dataclass_fields__"):
        return _plain(asdict(value))
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value
