"""Ratio of two densities from a calibrated classifier, with cross-fitting."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from supa.arrays import FloatArray
from supa.checks import check_int
from supa.distances.classifier import boosted_trees
from supa.distances.samples import Estimate, shuffled_groups, two_matrices

FEWEST_ROWS = 1_000
"""Minimum number of rows of each sample: a tenth of them calibrates the classifier."""
_FOLDS = 10
_BINS = 10
_SETTINGS = {"max_leaf_nodes": 4, "max_iter": 500, "early_stopping": True, "n_iter_no_change": 20}
"""Smaller trees than those of `classifier_auc`: overtrained scores are calibrated, but too noisy for weights."""


@dataclass(frozen=True)
class CalibrationBin:
    """A bin of the calibration curve.

    Args:
        predicted: Mean predicted probability that a row is true.
        observed: Fraction of true rows.
        error: Standard error of the fraction, if the prediction is right.
        rows: Number of rows.

    Example:
        >>> from supa.distances import CalibrationBin
        >>> CalibrationBin(0.5, 0.52, 0.01, 2500).pull
        2.0
    """

    predicted: float
    observed: float
    error: float
    rows: int

    @property
    def pull(self) -> float:
        """Difference of the fraction and the prediction, in standard errors."""
        return round((self.observed - self.predicted) / self.error, 6)


@dataclass(frozen=True, eq=False)
class DensityRatio:
    """Density ratio of two samples, as weights of the generated rows.

    Args:
        weight: (m,) true density over generated density at each generated row, divided by its mean.
        mean: Mean of the ratio before the division. It is one within its error if the classifier is calibrated.
        calibration: Bins of the calibration curve with equal numbers of rows, in ascending order of the prediction. All
            predictions are for rows that neither the classifier nor its calibration used.

    Example:
        >>> import numpy as np
        >>> from supa.distances import density_ratio
        >>> random = np.random.default_rng(1)
        >>> true, generated = random.normal(0.5, 1, size=(2000, 1)), random.normal(size=(2000, 1))
        >>> ratio = density_ratio(true, generated, seed=0)
        >>> 0.4 < float(np.average(generated[:, 0], weights=ratio.weight)) < 0.6
        True
        >>> 1000 < ratio.effective_size < 2000
        True
    """

    weight: FloatArray
    mean: Estimate
    calibration: tuple[CalibrationBin, ...]

    @property
    def effective_size(self) -> float:
        """Number of true rows with the same error of a mean: the squared sum of the weights over that of squares."""
        return float(self.weight.sum() ** 2 / np.square(self.weight).sum())

    @property
    def worst_bin(self) -> CalibrationBin:
        """The bin of the calibration curve with the largest absolute pull."""
        return max(self.calibration, key=lambda one: abs(one.pull))

    @property
    def closes(self) -> bool:
        """Whether the mean ratio is one, and all bins are calibrated, within four standard errors."""
        return abs(self.mean.value - 1) < 4 * self.mean.error and abs(self.worst_bin.pull) < 4


def density_ratio(true: npt.ArrayLike, generated: npt.ArrayLike, *, seed: int = 0) -> DensityRatio:
    """Estimate the true density over the generated density at each generated row.

    Boosted trees learn to separate the samples. The rows are divided into ten parts. The classifier of a part is
    trained on eight others, and the ninth calibrates it: a line converts its score into the logarithm of the ratio
    (Platt scaling). A ratio therefore comes from a classifier that did not use the row.

    Args:
        true: (n, k) features of the true showers, NaN where a feature is undefined.
        generated: (m, k) features of the generated showers.
        seed: Random seed of the parts and the training.

    Returns:
        The weights of the generated rows, and how well they close.

    Raises:
        ValueError: If the samples are not matrices with the same number of columns and at least 1,000 rows, if they
            contain infinite values, if the seed is not a non-negative integer, or if scikit-learn is not installed.

    Example:
        >>> import numpy as np
        >>> from supa.distances import density_ratio
        >>> true, generated = np.random.default_rng(1).normal(size=(2, 1000, 1))
        >>> ratio = density_ratio(true, generated, seed=0)
        >>> ratio.effective_size > 900, len(ratio.calibration)
        (True, 10)

    Source:
        Platt, Advances in Large Margin Classifiers (1999) 61. Weights of showers from a classifier: Diefenbacher et
        al., JINST 15 (2020) P11004.
    """
    samples = _large_enough(true, generated)
    random = np.random.default_rng(check_int(0, 2**63 - 1, "seed", seed))
    parts = [shuffled_groups(len(rows), _FOLDS, random) for rows in samples]
    logits = [np.empty(len(rows)) for rows in samples]
    for fold in range(_FOLDS):
        tested, calibrating = ([part[k % _FOLDS] for part in parts] for k in (fold, fold + 1))
        known = [
            np.delete(rows, np.concatenate(left_out), axis=0)
            for rows, left_out in zip(samples, zip(tested, calibrating, strict=True), strict=True)
        ]
        held = [rows[part] for rows, part in zip(samples, calibrating, strict=True)]
        calibrated = _calibrated(known, held, int(random.integers(2**31)))
        for logit, rows, part in zip(logits, samples, tested, strict=True):
            logit[part] = calibrated(rows[part])
    ratio = np.exp(logits[1]) * (len(samples[1]) / len(samples[0]))
    mean = float(ratio.mean())
    probability = 1 / (1 + np.exp(-np.concatenate(logits)))
    # The intercept of each part has the variance 1 / sum p(1 - p), and shifts the logarithms of all its ratios.
    variance = ratio.var() / len(ratio) + mean**2 / (probability * (1 - probability)).sum()
    return DensityRatio(ratio / mean, Estimate(mean, float(np.sqrt(variance))), _curve(probability, len(samples[0])))


def calibrated_log_ratio(
    true: npt.ArrayLike, generated: npt.ArrayLike, *, seed: int
) -> Callable[[FloatArray], FloatArray]:
    """Learn the logarithm of a density ratio for rows that are not part of the samples.

    Boosted trees learn from nine tenths of the rows, and the others calibrate them. See `density_ratio`, which returns
    ratios for the generated rows themselves.

    Args:
        true: (n, k) features of the true showers, NaN where a feature is undefined.
        generated: (m, k) features of the generated showers.
        seed: Random seed of the parts and the training.

    Returns:
        Function that returns the logarithms of true over generated density of (rows, k) features.

    Raises:
        ValueError: See `density_ratio`.
    """
    samples = _large_enough(true, generated)
    random = np.random.default_rng(check_int(0, 2**63 - 1, "seed", seed))
    parts = [shuffled_groups(len(rows), _FOLDS, random)[0] for rows in samples]
    held = [rows[part] for rows, part in zip(samples, parts, strict=True)]
    known = [np.delete(rows, part, axis=0) for rows, part in zip(samples, parts, strict=True)]
    calibrated = _calibrated(known, held, int(random.integers(2**31)))
    shift = np.log(len(held[1]) / len(held[0]))
    return lambda rows: calibrated(rows) + shift


def _large_enough(true: npt.ArrayLike, generated: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    samples = two_matrices(true, generated)
    for name, rows in zip(("true", "generated"), samples, strict=True):
        if len(rows) < FEWEST_ROWS:
            raise ValueError(
                f"{name}: a calibrated classifier needs at least {FEWEST_ROWS:,} showers of each sample, got "
                f"{len(rows):,}."
            )
    return samples


def _calibrated(
    known: Sequence[FloatArray], held: Sequence[FloatArray], seed: int
) -> Callable[[FloatArray], FloatArray]:
    """Return the logarithm of the odds that rows are true, learned from known and calibrated with held rows."""
    score = boosted_trees(known[1], known[0], seed, **_SETTINGS)
    slope, intercept = _line(*(score(rows) for rows in held))
    return lambda rows: slope * score(rows) + intercept


def _line(true: FloatArray, generated: FloatArray) -> tuple[float, float]:
    """Return the slope and the intercept of the logarithm of the odds that a row with a score is true."""
    from scipy.optimize import minimize

    scores = np.concatenate([true, generated])
    n, m = len(true), len(generated)
    # Platt's targets, with which the slope stays finite for samples that the classifier separates completely.
    target = np.repeat([(n + 1) / (n + 2), 1 / (m + 2)], [n, m])

    def loss(line: FloatArray) -> tuple[float, FloatArray]:
        logit = line[0] * scores + line[1]
        slope = 1 / (1 + np.exp(-logit)) - target
        value = np.mean(np.logaddexp(0, logit) - target * logit)
        return float(value), np.array([np.mean(slope * scores), np.mean(slope)])

    slope, intercept = minimize(loss, np.array([1.0, np.log(n / m)]), jac=True, method="BFGS").x
    return float(slope), float(intercept)


def _curve(probability: FloatArray, num_true: int) -> tuple[CalibrationBin, ...]:
    """Return the calibration curve of rows, the first of which are true."""
    is_true = np.arange(len(probability)) < num_true
    bins = []
    for rows in np.array_split(np.argsort(probability, kind="stable"), _BINS):
        p = probability[rows]
        error = float(np.sqrt((p * (1 - p)).sum())) / len(rows)
        bins.append(CalibrationBin(float(p.mean()), float(is_true[rows].mean()), error, len(rows)))
    return tuple(bins)
