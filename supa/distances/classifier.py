"""The classifier two-sample test: how well boosted trees tell generated from true showers."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from supa.arrays import FloatArray
from supa.checks import check_int
from supa.distances.errors import certainty
from supa.distances.samples import shuffled_groups, two_matrices

MOST_ROWS = 50_000
"""Rows of a sample that are used, so that the training takes seconds."""
_FOLDS = 5
_SHARING = 2.0  # 1 + (folds - 1) c: two areas share one of the (folds - 1) terms of each, so c = 1 / (folds - 1)


@dataclass(frozen=True)
class ClassifierResult:
    """How well a classifier tells the samples apart."""

    auc: float
    """Area under the ROC curve: 0.5 where the samples cannot be told apart, 1 where they never overlap."""
    error: float
    """Standard error of the area."""
    p_value: float
    """Of equal samples, one-sided: small where the area is above 0.5."""
    rows_true: int
    """Rows of the true sample that were used."""
    rows_generated: int
    """Rows of the generated sample that were used."""


def classifier_auc(true: npt.ArrayLike, generated: npt.ArrayLike, *, seed: int = 0) -> ClassifierResult:
    """Train a classifier to tell generated from true showers, and test it on showers that it has not seen.

    scikit-learn's HistGradientBoostingClassifier with its default settings, which takes NaN as it is and does not
    depend on the scale of the features; trained five times, each time without a fifth of both samples, on which the
    area is computed. The result is the mean of the five areas, and the error combines theirs (DeLong et al., Biometrics
    44 (1988) 837). Between equal samples the areas of two folds are correlated by up to 1 / 4, since each fold trains
    the model of the other, which doubles the variance of the mean; where the samples differ the areas are nearly
    independent (``docs/explanation/distances.md``). Of each sample at most 50,000 rows are used, drawn at random.

    Args:
        true: (n, k) features, NaN where one is not defined.
        generated: (m, k) the same.
        seed: of the rows that are drawn, the folds and the training.

    Returns:
        The area, its error and p-value, and how many rows were used.

    Raises:
        ValueError: the samples are not what they must be, or have fewer than 10 rows; the seed is not; or scikit-learn
            is not installed.
    """
    try:
        from sklearn.ensemble import HistGradientBoostingClassifier
        from threadpoolctl import threadpool_limits  # comes with scikit-learn
    except ImportError:
        raise ValueError(
            "classifier_auc needs the package scikit-learn: pip install 'supa-showers[compare]'."
        ) from None
    from scipy.stats import norm

    samples = two_matrices(true, generated, 2 * _FOLDS)
    random = np.random.default_rng(check_int(0, 2**63 - 1, "seed", seed))
    first, second = (rows[random.permutation(len(rows))[:MOST_ROWS]] for rows in samples)
    dealt = [shuffled_groups(len(rows), _FOLDS, random) for rows in (first, second)]
    areas, variances, equal_variances = np.empty((3, _FOLDS))
    # Its threads wait for each other actively: on a busy machine, or for few rows, several are far slower than one.
    with threadpool_limits(1, user_api="openmp"):
        for fold, (a, b) in enumerate(zip(*dealt, strict=True)):
            model = HistGradientBoostingClassifier(random_state=int(random.integers(2**31)))
            known = np.delete(first, a, axis=0), np.delete(second, b, axis=0)
            labels = np.repeat([0, 1], [len(known[0]), len(known[1])])
            # The model cannot be given a column in which nothing is defined; where none is, all rows are alike.
            told_by = np.flatnonzero(~np.isnan(np.concatenate(known)).all(axis=0))
            if not len(told_by):
                areas[fold], variances[fold] = 0.5, 0.0
            else:
                model.fit(np.concatenate(known)[:, told_by], labels)
                low, high = (np.asarray(model.decision_function(rows[:, told_by])) for rows in (first[a], second[b]))
                areas[fold], variances[fold] = area_under_curve(low, high)
            equal_variances[fold] = (len(a) + len(b) + 1) / (12 * len(a) * len(b))  # of Mann and Whitney's statistic
    area = float(areas.mean())
    equal_variance = float(_SHARING * equal_variances.mean() / _FOLDS)
    certain = certainty(area - 0.5, equal_variance)
    error = float(np.sqrt((certain + (1 - certain) * _SHARING) * variances.mean() / _FOLDS))
    p_value = float(norm.sf((area - 0.5) / np.sqrt(equal_variance)))
    return ClassifierResult(area, error, p_value, len(first), len(second))


def area_under_curve(low: FloatArray, high: FloatArray) -> tuple[float, float]:
    """Compute the area under a ROC curve, ties counted half, and its variance after DeLong et al. (1988).

    Args:
        low: (n,) scores of the class that should score low, n at least 2.
        high: (m,) scores of the other class, m at least 2.

    Returns:
        The area and its variance.
    """
    won = _share_below(low, high)
    lost = 1 - _share_below(high, low)
    return float(won.mean()), float(won.var(ddof=1) / len(high) + lost.var(ddof=1) / len(low))


def _share_below(others: FloatArray, values: FloatArray) -> FloatArray:
    """Return the share of the others that lie below each value, ties counted half."""
    ascending = np.sort(others)
    places = np.searchsorted(ascending, values, side="left") + np.searchsorted(ascending, values, side="right")
    return np.asarray(places / (2 * len(others)))
