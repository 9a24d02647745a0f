"""Results of a comparison."""

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
    """Description of a sample.

    Args:
        name: Name that the user gave to the sample.
        showers: Number of showers.
        hits: Number of hits.
        preset: Name of the preset. None if no preset matches the config.
        incident_energy: Distribution of the incident energy (GeV), in the notation of `supa.EnergySpectrum`.
        keep: ``"all"``, or ``"complete"`` if showers with an empty readout layer were dropped.
        engine: Engine of the showers, as in `supa.Run`.
        seed: Random seed of the showers. None for imported showers or several seeds.

    Example:
        >>> import supa
        >>> result = supa.compare(
        ...     supa.simulate(60, seed=1), supa.simulate(60, seed=2), repeats=19, multivariate=False
        ... )
        >>> result.generated.showers, result.generated.preset, result.generated.seed
        (60, 'standard', 2)
    """

    name: str
    showers: int
    hits: int
    preset: str | None
    incident_energy: str
    keep: str
    engine: str
    seed: int | None


@dataclass(frozen=True)
class ObservableResult:
    """Difference of one observable between the two samples.

    Args:
        name: Name of the observable. The page *Observables* of the documentation defines it.
        level: ``"shower"`` for one value per shower, ``"hit"`` for one value per hit.
        label: Name and unit, as an axis label.
        true_mean: Mean of the true sample.
        true_std: Standard deviation of the true sample.
        generated_mean: Mean of the generated sample.
        generated_std: Standard deviation of the generated sample.
        distance: Wasserstein-1 distance in units of the true standard deviation, with its bootstrap error.
        distance_floor: Noise floor of the distance: its value between two true samples.
        p_value: p-value of the permutation test of the distance, for this observable by itself.
        separation: Separation power, including underflow and overflow, with its bootstrap error.
        separation_floor: Noise floor of the separation power.
        ks: Kolmogorov-Smirnov distance and p-value. None for hits, which are not independent.
        ks_floor: Noise floor of the Kolmogorov-Smirnov distance. None for hits.
        true_undefined: Fraction of the true showers in which the observable is undefined.
        generated_undefined: Fraction of the generated showers in which the observable is undefined.

    Example:
        >>> import supa
        >>> result = supa.compare(
        ...     supa.simulate(100, seed=1), supa.simulate(100, "symmetric", seed=2), repeats=99, multivariate=False
        ... )
        >>> worst = result.observables[0]
        >>> worst.label, worst.p_value
        ('r (length unit)', 0.01)
        >>> worst.distance.value > 3 * worst.distance_floor
        True
    """

    name: str
    level: str
    label: str
    true_mean: float
    true_std: float
    generated_mean: float
    generated_std: float
    distance: Estimate
    distance_floor: float
    p_value: float
    separation: Estimate
    separation_floor: float
    ks: KolmogorovSmirnov | None
    ks_floor: float | None
    true_undefined: float
    generated_undefined: float


@dataclass(frozen=True)
class Pull:
    """Difference between a mean and its exact expectation in units of the standard error.

    Args:
        name: Name of the mean, such as ``"hits, layer 1"``.
        exact: Exact expectation of the true config.
        true_mean: Mean of the true sample.
        true_pull: (true_mean - exact) / standard error.
        generated_mean: Mean of the generated sample.
        generated_pull: (generated_mean - exact) / standard error.

    Example:
        >>> import supa
        >>> result = supa.compare(
        ...     supa.simulate(100, seed=1), supa.simulate(100, "symmetric", seed=2), repeats=19, multivariate=False
        ... )
        >>> pull = result.pulls[0]
        >>> pull.name, round(pull.exact, 2)
        ('hits', 72.09)
        >>> abs(pull.true_pull) < 3
        True
    """

    name: str
    exact: float
    true_mean: float
    true_pull: float
    generated_mean: float
    generated_pull: float


@dataclass(frozen=True)
class Score:
    """Score of all observables together.

    Args:
        name: Name of the score, such as ``"Frechet distance"``.
        value: Score of the generated sample, with its standard error.
        floor: Noise floor: score between two true samples.
        null_value: Expected score of infinitely large samples from the same distribution. NaN if it is unknown.
        p_value: p-value for the hypothesis that both samples have the same distribution. None for scores without one.
        rows: Number of showers used, of the sample from which more were used.

    Example:
        >>> from supa.comparison import Score
        >>> from supa.distances import Estimate
        >>> score = Score("classifier AUC", Estimate(0.52, 0.01), Estimate(0.49, 0.01), 0.5, 0.02, 1000)
        >>> score.value.value - score.null_value > 3 * score.value.error
        False
    """

    name: str
    value: Estimate
    floor: Estimate
    null_value: float
    p_value: float | None
    rows: int


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """Result of `compare`.

    Args:
        true: Description of the true sample.
        generated: Description of the generated sample.
        floor: Description of the two true samples of the noise floors.
        joint_p_value: p-value of all observables of showers together. For samples from the same
            distribution, it is at most 0.05 in 5 % of the cases.
        observables: Results per observable, with the largest differences first.
        pulls: Means compared with their exact expectations. Empty if the config has no closed form.
        no_pulls: Reason why the means have no exact expectations; empty if they have.
        scores: Scores of all observables together. Empty if ``multivariate`` is False.
        left_out: Names of the observables that are available for only one of the samples.
        remarks: Warnings about the choice of the samples.
        seed: Random seed of the comparison.
        repeats: Number of permutations.
        versions: Versions of the packages.
        statistics: Statistics of the samples ``"true"``, ``"generated"`` and ``"floor"``, for figures.

    Example:
        >>> import supa
        >>> true, generated = supa.simulate(100, seed=1), supa.simulate(100, "symmetric", seed=2)
        >>> result = supa.compare(true, generated, repeats=99, multivariate=False)
        >>> result
        <Comparison of 100 showers of generated with 100 showers of true: they differ, joint p = 0.01; ...>
        >>> result.to_dict()["generated"]["preset"]
        'symmetric'
    """

    true: SampleFacts
    generated: SampleFacts
    floor: str
    joint_p_value: float
    observables: tuple[ObservableResult, ...]
    pulls: tuple[Pull, ...]
    no_pulls: str
    scores: tuple[Score, ...]
    left_out: tuple[str, ...]
    remarks: tuple[str, ...]
    seed: int
    repeats: int
    versions: dict[str, str]
    statistics: dict[str, SampleStatistics]

    def __repr__(self) -> str:
        samples = " with ".join(f"{facts.showers:,} showers of {facts.name}" for facts in (self.generated, self.true))
        found = "they differ" if self.differs else "no significant difference"
        numbers = f"{len(self.observables)} observables, {len(self.pulls)} pulls, {len(self.scores)} scores"
        return f"<Comparison of {samples}: {found}, joint p = {self.joint_p_value:.3g}; {numbers}>"

    @property
    def differs(self) -> bool:
        """Whether the joint p-value is at most 0.05."""
        return self.joint_p_value <= 0.05

    def to_dict(self) -> dict[str, Any]:
        """Return all results as a dictionary, without the statistics of the samples.

        Returns:
            Dictionary that can be written as JSON. Numbers that are not finite become None.
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
