"""Classifier two-sample test with boosted decision trees."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from supa.arrays import FloatArray
from supa.checks import check_int
from supa.distances.errors import certainty
from supa.distances.samples import shuffled_groups, two_matrices

MOST_ROWS = 50_000
"""Maximum number of rows used of each sample. It limits the training to seconds."""
_FOLDS = 5
_MANY_ROWS = 10_000
"""With more rows, scikit-learn trains on nine tenths of them and stops when the others get no better."""
_FEWEST_DEFINED = 20
_SHARING = 2.0  # 1 + (folds - 1) c with the correlation c = 1 / (folds - 1) of two folds


@dataclass(frozen=True)
class ClassifierResult:
    """Result of the classifier two-sample test.

    Args:
        auc: Area under the ROC curve: 0.5 for samples that the classifier cannot separate, 1 for disjoint samples.
        error: Standard error of the area.
        p_value: One-sided p-value for the hypothesis that both samples have the same distribution. It is small if the
            area is clearly above 0.5.
        rows_true: Number of rows of the true sample that were used.
        rows_generated: Number of rows of the generated sample that were used.
        equal_error: Standard error of the area for samples from the same distribution.

    Example:
        >>> import numpy as np
        >>> from supa.distances import classifier_auc
        >>> random = np.random.default_rng(1)
        >>> result = classifier_auc(random.normal(size=(200, 1)), random.normal(1, 1, size=(200, 1)), seed=0)
        >>> round(result.auc, 2), result.rows_true
        (0.73, 200)
    """

    auc: float
    error: float
    p_value: float
    rows_true: int
    rows_generated: int
    equal_error: float


def classifier_auc(true: npt.ArrayLike, generated: npt.ArrayLike, *, seed: int = 0) -> ClassifierResult:
    """Train a classifier to separate generated from true showers, and test it on unseen showers.

    The classifier is scikit-learn's HistGradientBoostingClassifier with its default settings. It accepts NaN and does
    not depend on the scale of the features. Five-fold cross-validation gives five areas under the ROC curve, each on
    unseen rows. The result is their mean, with an error that combines the errors of the areas. For samples from the
    same distribution, the areas of two folds have a correlation of up to 1/4, which doubles the variance of the mean.
    For different samples, the areas are nearly independent. The page *Distances between true and generated showers* of
    the documentation explains this.

    At most 50,000 rows of each sample are used, drawn at random.

    Args:
        true: (n, k) features of the true showers, NaN where a feature is undefined.
        generated: (m, k) features of the generated showers.
        seed: Random seed of the selection of rows, the folds and the training.

    Returns:
        The area, its error and p-value, and the numbers of rows used.

    Raises:
        ValueError: If the samples are not matrices with the same number of columns and at least 10 rows, if they
            contain infinite values, if the seed is not a non-negative integer, or if scikit-learn is not installed.

    Example:
        Two features have the same distributions in both samples, but are correlated in one sample only:

        >>> import numpy as np
        >>> from supa.distances import classifier_auc
        >>> random = np.random.default_rng(1)
        >>> true = random.normal(size=(500, 2))
        >>> generated = random.multivariate_normal([0, 0], [[1, 0.9], [0.9, 1]], size=500)
        >>> result = classifier_auc(true, generated, seed=0)
        >>> result.auc > 0.7, result.p_value < 1e-6
        (True, True)

    Source:
        Error of an area: DeLong et al., Biometrics 44 (1988) 837.
    """
    from scipy.stats import norm

    samples = two_matrices(true, generated, 2 * _FOLDS)
    random = np.random.default_rng(check_int(0, 2**63 - 1, "seed", seed))
    first, second = (rows[random.permutation(len(rows))[:MOST_ROWS]] for rows in samples)
    dealt = [shuffled_groups(len(rows), _FOLDS, random) for rows in (first, second)]
    areas, variances, equal_variances = np.empty((3, _FOLDS))
    for fold, (a, b) in enumerate(zip(*dealt, strict=True)):
        known = np.delete(first, a, axis=0), np.delete(second, b, axis=0)
        score = boosted_trees(*known, int(random.integers(2**31)))
        areas[fold], variances[fold] = area_under_curve(score(first[a]), score(second[b]))
        equal_variances[fold] = (len(a) + len(b) + 1) / (12 * len(a) * len(b))  # Mann-Whitney statistic
    area = float(areas.mean())
    equal_variance = float(_SHARING * equal_variances.mean() / _FOLDS)
    certain = certainty(area - 0.5, equal_variance)
    error = float(np.sqrt((certain + (1 - certain) * _SHARING) * variances.mean() / _FOLDS))
    equal_error = float(np.sqrt(equal_variance))
    p_value = float(norm.sf((area - 0.5) / equal_error))
    return ClassifierResult(area, error, p_value, len(first), len(second), equal_error)


def boosted_trees(low: FloatArray, high: FloatArray, seed: int, **settings: Any) -> Callable[[FloatArray], FloatArray]:
    """Train boosted decision trees to separate two samples.

    Args:
        low: (n, k) features of the sample with the lower scores, NaN where a feature is undefined.
        high: (m, k) features of the other sample.
        seed: Random seed of the training.
        **settings: Settings of scikit-learn's HistGradientBoostingClassifier that are not the default ones.

    Returns:
        Function that returns the scores of (rows, k) features: the logarithms of the odds of the second sample.

    Raises:
        ValueError: If scikit-learn is not installed.
    """
    try:
        from sklearn.ensemble import HistGradientBoostingClassifier
        from threadpoolctl import threadpool_limits  # comes with scikit-learn
    except ImportError:
        raise ValueError("A classifier needs the package scikit-learn: pip install 'supa-showers[compare]'.") from None
    known, labels = np.concatenate([low, high]), np.repeat([0, 1], [len(low), len(high)])
    model = HistGradientBoostingClassifier(random_state=seed, **settings)
    # The model does not accept columns that are undefined in all rows, also of the part that it trains on if there are
    # many. Without a column, all rows are equal.
    defined = (~np.isnan(known)).sum(axis=0)
    columns = np.flatnonzero(defined > (_FEWEST_DEFINED if len(labels) > _MANY_ROWS else 0))
    if not len(columns):
        return lambda rows: np.zeros(len(rows))
    # Busy-waiting makes several threads far slower than one on a busy machine and for few rows.
    with threadpool_limits(1, user_api="openmp"):
        model.fit(known[:, columns], labels)

    def scores(rows: FloatArray) -> FloatArray:
        with threadpool_limits(1, user_api="openmp"):
            return np.asarray(model.decision_function(rows[:, columns]))

    return scores


def area_under_curve(low: FloatArray, high: FloatArray) -> tuple[float, float]:
    """Compute the area under a ROC curve and its variance. Ties count one half.

    Args:
        low: (n,) scores of the class with the lower scores, n at least 2.
        high: (m,) scores of the other class, m at least 2.

    Returns:
        The area and its variance.

    Source:
        DeLong et al., Biometrics 44 (1988) 837.
    """
    won = _share_below(low, high)
    lost = 1 - _share_below(high, low)
    return float(won.mean()), float(won.var(ddof=1) / len(high) + lost.var(ddof=1) / len(low))


def _share_below(others: FloatArray, values: FloatArray) -> FloatArray:
    """Return the fraction of the others below each value. Ties count one half."""
    ascending = np.sort(others)
    places = np.searchsorted(ascending, values, side="left") + np.searchsorted(ascending, values, side="right")
    return np.asarray(places / (2 * len(others)))
