"""Precision, recall, density and coverage from nearest neighbours."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from supa.arrays import FloatArray
from supa.checks import check_int
from supa.distances.samples import Estimate, shuffled_groups, standardised, two_matrices

MOST_ROWS = 10_000
"""Maximum number of rows used of each sample. The time grows with the square of this number."""
_PARTS = 10
_BLOCK = 500  # number of rows at a time; their distances to all others take 40 MB
_ROUNDING = 1e-9  # squared spreads; makes a ball include its boundary in spite of rounding


@dataclass(frozen=True)
class NeighbourScores:
    """Scores of fidelity (precision, density) and diversity (recall, coverage).

    Samples from the same distribution do not have scores of exactly 1. Compare the scores with their noise floor.

    Args:
        precision: Fraction of generated rows inside the ball of at least one true row.
        recall: Fraction of true rows inside the ball of at least one generated row.
        density: Mean number of true balls that contain a generated row, divided by k. It may exceed 1.
        coverage: Fraction of true rows whose ball contains at least one generated row.
        rows_true: Number of rows of the true sample that were used.
        rows_generated: Number of rows of the generated sample that were used.

    Example:
        >>> import numpy as np
        >>> from supa.distances import neighbour_scores
        >>> random = np.random.default_rng(1)
        >>> scores = neighbour_scores(random.normal(size=(300, 2)), random.normal(size=(200, 2)), seed=0)
        >>> round(scores.precision.value, 2), scores.rows_true, scores.rows_generated
        (0.99, 300, 200)
    """

    precision: Estimate
    recall: Estimate
    density: Estimate
    coverage: Estimate
    rows_true: int
    rows_generated: int


def neighbour_scores(true: npt.ArrayLike, generated: npt.ArrayLike, *, k: int = 5, seed: int = 0) -> NeighbourScores:
    """Compute precision, recall, density and coverage of a generated sample.

    The ball of a row extends to its k-th nearest neighbour in its own sample and includes its boundary. Distances are
    Euclidean distances of the standardised features. At most 10,000 rows of each sample are used, drawn at random. The
    errors come from the scatter over ten disjoint parts. They are NaN if a part has at most k rows.

    Args:
        true: (n, features) features of the true showers, NaN where a feature is undefined. The function standardises
            them.
        generated: (m, features) features of the generated showers.
        k: Number of the neighbour that defines the radius of a ball.
        seed: Random seed of the selection of rows and of the parts.

    Returns:
        The four scores with their standard errors, and the numbers of rows used.

    Raises:
        ValueError: If the samples are not matrices with the same number of columns and more than k rows, if they
            contain infinite values, or if k or the seed is out of range.

    Example:
        A generator with mode collapse has a high precision and a low coverage:

        >>> import numpy as np
        >>> from supa.distances import neighbour_scores
        >>> random = np.random.default_rng(1)
        >>> true, collapsed = random.normal(size=(500, 2)), 0.2 * random.normal(size=(500, 2))
        >>> scores = neighbour_scores(true, collapsed, seed=0)
        >>> round(scores.precision.value, 2), round(scores.coverage.value, 2)
        (1.0, 0.22)

    Source:
        Naeem et al., arXiv 2002.09797. Precision and recall: Kynkaanniemi et al., arXiv 1904.06991.
    """
    k = check_int(1, MOST_ROWS - 1, "k", k)
    two_matrices(true, generated, k + 1)
    random = np.random.default_rng(check_int(0, 2**63 - 1, "seed", seed))
    first, second = (random.permutation(rows)[:MOST_ROWS] for rows in standardised(true, generated))
    values = _scores(first, second, k)
    errors = np.full(4, np.nan)
    if min(len(first), len(second)) // _PARTS > k:
        dealt = [shuffled_groups(len(rows), _PARTS, random) for rows in (first, second)]
        parts = np.array([_scores(first[a], second[b], k) for a, b in zip(*dealt, strict=True)])
        errors = parts.std(axis=0, ddof=1) / np.sqrt(_PARTS)
    precision, recall, density, coverage = (
        Estimate(float(value), float(error)) for value, error in zip(values, errors, strict=True)
    )
    return NeighbourScores(precision, recall, density, coverage, rows_true=len(first), rows_generated=len(second))


def _scores(true: FloatArray, generated: FloatArray, k: int) -> tuple[float, float, float, float]:
    true_radii, generated_radii = _squared_radii(true, k), _squared_radii(generated, k)
    reached = np.zeros(len(true), dtype=np.bool_)
    held = np.zeros(len(generated), dtype=np.bool_)
    counts = np.zeros(len(true), dtype=np.int64)
    for block in _blocks(len(true)):
        squares = _squared_distances(true[block], generated)
        inside = squares <= true_radii[block, None]
        counts[block] = np.count_nonzero(inside, axis=1)
        held |= inside.any(axis=0)
        reached[block] = (squares <= generated_radii).any(axis=1)
    return held.mean(), reached.mean(), counts.sum() / (k * len(generated)), (counts > 0).mean()


def _squared_radii(rows: FloatArray, k: int) -> FloatArray:
    """Return the squared distance of each row to its k-th neighbour; neighbour 0 is the row itself."""
    radii = [np.partition(_squared_distances(rows[block], rows), k, axis=1)[:, k] for block in _blocks(len(rows))]
    return np.concatenate(radii) + _ROUNDING


def _squared_distances(centres: FloatArray, rows: FloatArray) -> FloatArray:
    """Compute |a|^2 + |b|^2 - 2 a.b. With tens of features this is faster than a tree search."""
    squares = np.square(centres).sum(axis=1)[:, None] + np.square(rows).sum(axis=1)
    return np.asarray(squares - 2 * centres @ rows.T)


def _blocks(rows: int) -> list[slice]:
    return [slice(start, start + _BLOCK) for start in range(0, rows, _BLOCK)]
