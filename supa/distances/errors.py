"""Standard error of a squared distance between two samples, valid for equal and for different samples.

Up to smaller terms, the estimate of a squared distance D is D + L + Q. L is a mean over rows. Its variance decreases as
1 / N and vanishes for equal samples. Q is a sum over pairs of rows. Its variance decreases as 1 / N^2 and is the only
contribution for equal samples (Hoeffding, Ann. Math. Stat. 19 (1948) 293; Gretton et al., JMLR 13 (2012) 723, section
5). A jackknife, or the scatter of the contributions of rows, estimates var L + 2 var Q.
"""

import numpy as np
import numpy.typing as npt

from supa.arrays import FloatArray
from supa.distances.samples import FARTHEST, QUANTILES, std_of

_EQUAL_UP_TO, _DIFFERENT_FROM = 3.0, 5.0


def certainty(value: float, equal_variance: float) -> float:
    """Compute how clearly a squared distance differs from that of equal samples.

    The contributions of rows fluctuate together with the value. If they entered the error of equal samples, large
    values would have large errors and small values small errors, and the ratio of both would not be centred at 0.

    Args:
        value: Estimate of the squared distance.
        equal_variance: Its variance for equal samples.

    Returns:
        0 below 3 standard deviations of equal samples, 1 above 5, and linear in between.
    """
    if equal_variance <= 0:
        return 1.0
    beyond = (value / np.sqrt(equal_variance) - _EQUAL_UP_TO) / (_DIFFERENT_FROM - _EQUAL_UP_TO)
    return float(np.clip(beyond, 0.0, 1.0))


def combined_error(equal_variance: float, row_variance: float, certain: float) -> float:
    """Combine both parts of the error.

    Args:
        equal_variance: var Q.
        row_variance: Estimate of var L + 2 var Q.
        certain: Result of ``certainty``.

    Returns:
        The standard error.
    """
    return float(np.sqrt(equal_variance + certain * max(row_variance - 2 * equal_variance, 0.0)))


def scale_influences(true: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Compute the influence of each true row on the scale of ``standardised``.

    A row changes the quantile q at probability p by (p - [value <= q]) / n times the slope of the quantile function at
    p. The slope is that between the ends of the interval p ± sqrt(p (1 - p) / n), over which the quantile fluctuates.

    Args:
        true: (n, k) features, NaN where a feature is undefined.

    Returns:
        Two (n, k) arrays with zero mean over the rows: n times the change of the logarithm of the spread, and n times
        the change of the centre in units of the spread.
    """
    log_spread, centre = np.zeros((2, *true.shape))
    for k, column in enumerate(true.T):
        defined = ~np.isnan(column)
        values = column[defined]
        if not len(values):
            continue
        reach = np.sqrt(QUANTILES * (1 - QUANTILES) / len(values))
        places = np.quantile(values, QUANTILES)
        ends = [np.quantile(values, np.clip(QUANTILES + sign * reach, 0, 1)) for sign in (-1, 1)]
        moved = (QUANTILES - (values[:, None] <= places)) * (ends[1] - ends[0]) / (2 * reach)
        spread = (places[2] - places[0]) / 2
        if spread > 0:
            of_spread = (moved[:, 2] - moved[:, 0]) / (2 * spread)
        elif spread := std_of(values):
            of_spread = (((values - values.mean()) / spread) ** 2 - 1) / 2
        else:
            continue
        share = len(values) / len(column)
        log_spread[defined, k] = (of_spread - of_spread.mean()) / share
        centre[defined, k] = (moved[:, 1] - moved[:, 1].mean()) / spread / share
    return log_spread, centre


def follows_scale(given: FloatArray, scaled: FloatArray) -> npt.NDArray[np.bool_]:
    """Return which values of a standardised sample change with the scale.

    Args:
        given: (n, k) features before standardisation.
        scaled: (n, k + e) features after standardisation.

    Returns:
        (n, k) True, except for undefined and for clipped values.
    """
    return np.asarray(~np.isnan(given) & (np.abs(scaled[:, : given.shape[1]]) < FARTHEST))
