"""Refinement of a sample of a generator: weights, rejection and resampling by density ratios from a classifier."""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import get_args

import numpy as np

from supa.arrays import FloatArray, IntArray
from supa.checks import check_int, check_name, counted
from supa.comparison.resolution import merge_unresolved, resolutions
from supa.comparison.sample_statistics import SampleLike, SampleStatistics
from supa.distances import DensityRatio, Estimate, density_ratio
from supa.refined import NO_BEST_OF_K, Refinement, RefinementMethod
from supa.showers import Showers

CAP_QUANTILE = 0.999
"""Quantile of the weights above which rejection accepts every shower."""
_RESPONSE = "response"
"""The energy of the hits over the incident energy: a constant with roundings, which a classifier could recognise."""


@dataclass(frozen=True)
class RefinedMean:
    """Mean of an observable before and after a refinement.

    Args:
        name: Name of the observable.
        true: Mean of the true showers.
        sampled: Mean of the sample.
        refined: Mean of the refined sample.

    Example:
        >>> from supa.comparison import RefinedMean
        >>> from supa.distances import Estimate
        >>> mean = RefinedMean("hits", Estimate(72, 0.3), Estimate(70, 0.4), Estimate(72.5, 0.4))
        >>> mean.pulls
        (-4.0, 1.0)
    """

    name: str
    true: Estimate
    sampled: Estimate
    refined: Estimate

    @property
    def pulls(self) -> tuple[float, float]:
        """Differences from the true mean before and after, in standard errors. They are 0 for a constant."""
        before, after = (self._pull(mean) for mean in (self.sampled, self.refined))
        return before, after

    def _pull(self, mean: Estimate) -> float:
        error = math.hypot(mean.error, self.true.error)
        return round((mean.value - self.true.value) / error, 6) if error > 0 else 0.0


@dataclass(frozen=True, eq=False)
class RefinedSample:
    """A refined sample, and how well it closes.

    Args:
        showers: The refined showers. Their run has a `supa.Refinement`.
        weight: (showers,) weights with mean 1, or None if the showers have equal weights.
        ratio: Density ratio at all showers of the sample before the refinement.
        acceptance: Number of refined showers over the number of showers before. It is 1 for weights.
        cap: For rejection, the largest weight that is distinguished. Otherwise None.
        truncated: Fraction of the sum of the weights that is above the cap, and therefore lost.
        means: Means of the observables before and after the refinement.

    Example:
        >>> import supa
        >>> from supa.comparison import refine_sample
        >>> model = supa.simulate(1000, "standard", seed=1)  # stands for a sample of a model
        >>> refined = refine_sample(supa.simulate(1000, "standard", seed=2), model, by="weights")
        >>> len(refined.showers), len(refined.weight), refined.acceptance
        (1000, 1000, 1.0)
    """

    showers: Showers
    weight: FloatArray | None
    ratio: DensityRatio
    acceptance: float
    cap: float | None
    truncated: float
    means: tuple[RefinedMean, ...]


def refine_sample(
    true: SampleLike,
    generated: Showers,
    *,
    by: RefinementMethod,
    keep: int | None = None,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> RefinedSample:
    """Refine a sample of a generator towards the true distribution, with density ratios from a classifier.

    The classifier sees all observables of showers except the response, and the incident energy. See
    `supa.distances.density_ratio`. The section *Refine a sample* of the documentation explains the methods.

    Args:
        true: True showers with the config of the sample: `Showers`, an open `supa_datasets.ShowerFile`, or an iterable
            over chunks of `Showers`.
        generated: The sample. Both need at least 1,000 showers.
        by: ``"weights"`` keeps all showers and gives them weights. ``"rejection"`` accepts each shower with a
            probability proportional to its weight. ``"resampling"`` chooses one of k successive showers, with
            probabilities proportional to their weights.
        keep: Number of showers to keep, which is required for resampling: k is the number of showers over it. By
            default, rejection keeps all accepted showers. For weights, the smallest effective sample size.
        seed: Random seed of the classifier and the choices.
        progress: Function to call with the name of each step.

    Returns:
        The refined sample.

    Raises:
        ValueError: If the samples have different configs, the sample is refined already, the true showers are those of
            a model or of the sample itself, there are too few showers, or an argument is out of range.

    Example:
        >>> import supa
        >>> from supa.comparison import refine_sample
        >>> model = supa.simulate(1000, "standard", seed=1)  # stands for a sample of a model
        >>> refined = refine_sample(supa.simulate(1000, "standard", seed=2), model, by="rejection", keep=100)
        >>> len(refined.showers), refined.showers.run.refinement.by
        (100, 'rejection')

    Source:
        Weights from a classifier: Diefenbacher et al., JINST 15 (2020) P11004. Rejection: Backes et al., SciPost Phys.
        10 (2021) 089. Resampling: Rubin, J. Am. Stat. Assoc. 82 (1987) 543.
    """
    try:
        check_name(get_args(RefinementMethod), "a method", by)
    except ValueError as error:
        raise ValueError(f"by: {error} {NO_BEST_OF_K}") from None
    keep = None if keep is None else check_int(1, len(generated), "keep", keep, "(the number of showers of the sample)")
    if by == "resampling" and (keep is None or len(generated) < 2 * keep):
        given = "no number" if keep is None else f"{keep:,}"
        raise ValueError(
            f"keep: {given} was given, but resampling chooses one of at least 2 showers: keep at most "
            f"{len(generated) // 2:,} of {len(generated):,}, or sample more."
        )
    progress = progress or (lambda _step: None)
    progress("reading the true showers")
    one = SampleStatistics.of(true)
    progress("computing observables of the sample")
    two = SampleStatistics.of(generated, one.edges)
    _check(one, two)
    common = [name for name in one.columns if name in two.columns and name != _RESPONSE]
    merge_unresolved([one, two], resolutions(one, common))
    features = [np.column_stack([sample.columns[name] for name in common]) for sample in (one, two)]
    progress("training classifiers")
    ratio = density_ratio(*features, seed=seed)
    if keep is not None and ratio.effective_size < keep:
        raise ValueError(
            f"keep: {keep:,} was given, but the effective size of the sample is {ratio.effective_size:,.0f} of "
            f"{len(generated):,} showers; keep fewer, or sample more showers."
        )
    chosen, cap = _choice(ratio.weight, by, keep, np.random.default_rng((seed, 1)))
    weight = ratio.weight if by == "weights" else None
    means = tuple(
        RefinedMean(name, _mean(x), _mean(y), _mean(y[chosen], weight))
        for name, x, y in zip(common, features[0].T, features[1].T, strict=True)
    )
    assert one.run is not None
    first, last = one.index_range
    refinement = Refinement(
        by=by, seed=seed, sampled=len(generated), true_seed=one.run.seed, true_first=first, true_last=last
    )
    showers = generated if by == "weights" else generated[chosen[:keep]]
    return RefinedSample(
        showers=dataclasses.replace(showers, run=dataclasses.replace(showers.run, refinement=refinement)),
        weight=weight,
        ratio=ratio,
        acceptance=len(chosen) / len(generated),
        cap=cap,
        truncated=float(np.maximum(ratio.weight - cap, 0).sum() / ratio.weight.sum()) if cap is not None else 0.0,
        means=means,
    )


def _check(true: SampleStatistics, generated: SampleStatistics) -> None:
    """Check that a sample may be refined with some true showers."""
    one, other = true.run, generated.run
    if one is None or other is None or not true.showers or not generated.showers:
        raise ValueError(
            f"A refinement needs true and generated showers, but there are {true.showers:,} true and "
            f"{generated.showers:,} generated ones."
        )
    if other.refinement is not None:
        raise ValueError(
            f"The sample is already refined: by {other.refinement}. Refine the sample of the model itself."
        )
    if one.model is not None:
        raise ValueError(f"The true showers are a sample of the model {one.model}; use simulated showers.")
    if one.config != other.config:
        before, after = one.config.to_dict(), other.config.to_dict()
        wrong = ", ".join(
            f"{name} is {before[name]!r} in the true showers, {after[name]!r} in the sample"
            for name in before
            if before[name] != after[name]
        )
        raise ValueError(f"The conditions of the samples differ: {wrong}. A refinement would change them.")
    if one.keep != other.keep:
        raise ValueError(
            f"The conditions of the samples differ: keep is {one.keep!r} in the true showers, {other.keep!r} in the "
            "sample."
        )
    overlap = max(true.index_range[0], generated.index_range[0]) <= min(true.index_range[1], generated.index_range[1])
    if other.model is None and one.seed is not None and one.seed == other.seed and overlap:
        raise ValueError(f"The sample contains true showers of seed {one.seed}: it is not a sample of a model.")


def _choice(
    weight: FloatArray, by: RefinementMethod, keep: int | None, random: np.random.Generator
) -> tuple[IntArray, float | None]:
    """Return the numbers of the refined showers, and the cap of the weights."""
    if by == "weights":
        return np.arange(len(weight)), None
    if by == "rejection":
        cap = float(np.quantile(weight, CAP_QUANTILE))
        chosen = np.flatnonzero(random.random(len(weight)) * cap < weight)
        if keep is not None and len(chosen) < keep:
            raise ValueError(
                f"keep: {keep:,} was given, but rejection accepted {counted(len(chosen), 'shower')} of "
                f"{len(weight):,}; keep fewer, or sample more showers."
            )
        return chosen, cap
    assert keep is not None
    k = len(weight) // keep
    # The largest of log w + Gumbel noise is a draw with probabilities proportional to w.
    noisy = np.log(weight[: k * keep]) + random.gumbel(size=k * keep)
    return np.arange(keep) * k + noisy.reshape(keep, k).argmax(axis=1), None


def _mean(values: FloatArray, weight: FloatArray | None = None) -> Estimate:
    """Return the mean of the defined values with its standard error."""
    defined = ~np.isnan(values)
    if defined.sum() < 2:
        return Estimate(math.nan, math.nan)
    x = values[defined]
    w = np.ones(len(x)) if weight is None else weight[defined]
    mean = float(np.average(x, weights=w))
    return Estimate(mean, float(np.sqrt(np.square(w * (x - mean)).sum()) / w.sum()))
