"""Whether two methods differ: on one set over its folds, and over sets; several comparisons at once."""

import numpy as np
import numpy.typing as npt

from supa.arrays import FloatArray
from supa.checks import check_real


def corrected_t_test(differences: npt.ArrayLike, test_over_train: float) -> float:
    """Test whether two methods differ on one set, by their paired differences over resamplings.

    The corrected resampled t-test of Nadeau and Bengio (Machine Learning 52 (2003) 239, section 5): with J differences
    of mean m and sample variance s^2,

        t = m / sqrt((1/J + n_test/n_train) s^2)

    has about Student's distribution with J - 1 degrees of freedom. The usual 1/J alone supposes trainings that share
    no data; those of a cross-validation do, and it would alarm far too often. Bouckaert and Frank (PAKDD 2004) use the
    same for cross-validation.

    Args:
        differences: (J,) the differences, at least two.
        test_over_train: number of tested over number of training items.

    Returns:
        The two-sided p-value; 1 where all differences are zero.

    Raises:
        ValueError: the differences are fewer than two or not finite, or the ratio is not positive.
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
    """Test whether one of two methods is better over sets, by the difference of each set.

    Wilcoxon's signed-rank test (Biometrics Bulletin 1 (1945) 80), which Demsar (JMLR 7 (2006) 1) recommends for two
    classifiers over several sets. The p-value is exact, also with ties: the distribution of the sum of the positive
    ranks under all signs, given the ranks. Differences of zero are left out, as Wilcoxon does. With n sets no p-value
    is below 2^(1-n), so that five sets or fewer never reach 0.05.

    Args:
        differences: (n,) mean difference of each set.

    Returns:
        The two-sided p-value; 1 where no difference is left.

    Raises:
        ValueError: a difference is not finite.
    """
    from scipy.stats import rankdata

    values = _row(differences, 0)
    values = values[values != 0]
    doubled = np.rint(2 * rankdata(np.abs(values))).astype(np.int64)  # ties have half ranks
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
    """Adjust p-values of several comparisons, so that the chance of any false alarm keeps its level.

    Holm (Scandinavian Journal of Statistics 6 (1979) 65): the k-th smallest of n is multiplied by n - k + 1, and none
    is smaller than one before it.

    Args:
        p_values: (n,) p-values, of whatever dependence.

    Returns:
        (n,) adjusted p-values, in the same order.

    Raises:
        ValueError: they are no p-values.
    """
    values = _row(p_values, 0)
    if len(values) and not (values.min() >= 0 and values.max() <= 1):
        raise ValueError("p_values: a value is outside 0 to 1.")
    order = np.argsort(values)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)), 1)
    return adjusted


def _row(given: npt.ArrayLike, least: int) -> FloatArray:
    values = np.asarray(given, dtype=np.float64)
    if values.ndim != 1 or len(values) < least or not np.isfinite(values).all():
        raise ValueError(f"One row of at least {least} finite numbers is needed, but {given!r} was given.")
    return values
