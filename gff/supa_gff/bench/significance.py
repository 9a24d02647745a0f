"""Statistical tests for the comparison of two methods, and correction for multiple comparisons."""

import numpy as np
import numpy.typing as npt

from supa.arrays import FloatArray
from supa.checks import check_real


def corrected_t_test(differences: npt.ArrayLike, test_over_train: float) -> float:
    """Test whether two methods differ on one dataset, from their paired differences over resamplings.

    This is the corrected resampled t-test. With J differences of mean m and sample variance s^2,

        t = m / sqrt((1/J + n_test/n_train) s^2)

    approximately follows Student's distribution with J - 1 degrees of freedom. The usual factor 1/J assumes that the
    training sets do not overlap. In a cross-validation they do overlap, and the uncorrected test has too many false
    positives. Bouckaert and Frank (PAKDD 2004) use the same correction for cross-validation.

    Args:
        differences: (J,) differences, at least two.
        test_over_train: Ratio of the numbers of test and training items.

    Returns:
        The two-sided p-value. It is 1 if all differences are zero.

    Raises:
        ValueError: If there are fewer than two differences, one is not finite, or the ratio is not positive.

    Source:
        Nadeau and Bengio, Machine Learning 52 (2003) 239, section 5.
    """
    from scipy.stats import t as student

    values = _row(differences, 2)
    ratio = check_real(lambda v: v > 0, "above 0", "test_over_train", test_over_train)
    mean, variance = float(values.mean()), float(values.var(ddof=1))
    if mean == 0:
        return 1.0
    with np.errstate(divide="ignore"):
        t = abs(mean) / np.sqrt((1 / len(values) + ratio) * variance)
    return float(2 * student.sf(t, len(values) - 1))


def wilcoxon_signed_rank(differences: npt.ArrayLike) -> float:
    """Test whether two methods differ over several datasets, from the mean difference on each dataset.

    This is Wilcoxon's signed-rank test, which Demsar (JMLR 7 (2006) 1) recommends for two classifiers and several
    datasets. The p-value is exact, also with ties: it uses the distribution of the sum of positive ranks over all
    signs, given the ranks. Differences of zero are removed, as Wilcoxon does. For n datasets the smallest p-value is
    2^(1-n), so five or fewer datasets cannot reach 0.05.

    Args:
        differences: (n,) mean difference on each dataset.

    Returns:
        The two-sided p-value. It is 1 if all differences are zero.

    Raises:
        ValueError: If a difference is not finite.

    Source:
        Wilcoxon, Biometrics Bulletin 1 (1945) 80.
    """
    from scipy.stats import rankdata

    values = _row(differences, 0)
    values = values[values != 0]
    doubled = np.rint(2 * rankdata(np.abs(values))).astype(np.int64)  # ties have ranks with a fraction of 1/2
    total = int(doubled.sum())
    chances = np.zeros(total + 1)
    chances[0] = 1.0
    for rank in doubled:
        shifted = np.zeros_like(chances)
        shifted[rank:] = chances[: total + 1 - rank]
        chances = (chances + shifted) / 2
    positive = int(doubled[values > 0].sum())
    smaller = min(positive, total - positive)
    return min(1.0, 2 * float(chances[: smaller + 1].sum()))


def holm(p_values: npt.ArrayLike) -> FloatArray:
    """Adjust p-values for multiple comparisons by Holm's method, which controls the family-wise error rate.

    The k-th smallest of n p-values is multiplied by n - k + 1. Adjusted values are then made non-decreasing. The method
    makes no assumption about the dependence of the p-values.

    Args:
        p_values: (n,) p-values.

    Returns:
        (n,) float64 adjusted p-values in the same order.

    Raises:
        ValueError: If a value is not between 0 and 1.

    Source:
        Holm, Scandinavian Journal of Statistics 6 (1979) 65.
    """
    values = _row(p_values, 0)
    if len(values) and not (values.min() >= 0 and values.max() <= 1):
        raise ValueError("p_values must be between 0 and 1.")
    order = np.argsort(values)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)), 1)
    return adjusted


def _row(given: npt.ArrayLike, least: int) -> FloatArray:
    values = np.asarray(given, dtype=np.float64)
    if values.ndim != 1 or len(values) < least or not np.isfinite(values).all():
        raise ValueError(f"There must be one row of at least {least} finite numbers, got {given!r}.")
    return values
