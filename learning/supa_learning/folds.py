"""Stratified cross-validation folds with separate validation parts."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from supa.arrays import IntArray
from supa.checks import check_int, check_real

SPLIT_SEED = 0
"""Seed of the folds of benchmarks, which are the same for all methods and seeds."""


@dataclass(frozen=True, eq=False)
class Fold:
    """Three disjoint sets of indices that together contain all items.

    Args:
        train: (n,) int64 ascending indices of training items.
        valid: (n,) int64 ascending indices of validation items, for choices such as early stopping.
        test: (n,) int64 ascending indices of test items, on which no choice may depend.

    Example:
        >>> from supa_learning import stratified_folds
        >>> fold = stratified_folds([0, 1] * 10, folds=5, seed=0)[0]
        >>> len(fold.train), len(fold.valid), len(fold.test)
        (15, 1, 4)
    """

    train: IntArray
    valid: IntArray
    test: IntArray


def stratified_folds(
    targets: npt.ArrayLike, *, folds: int = 10, seed: int = 0, valid_share: float = 0.1
) -> tuple[Fold, ...]:
    """Divide items into stratified folds.

    The shuffled items are sorted by class and distributed to the folds in turn. The sizes of the folds differ by at
    most one, and so do the numbers of items of each class. The validation part is every k-th of the remaining items
    in the same order, from a random start. Unlike the splitters of scikit-learn, this function accepts classes with
    few members:

    - A class with fewer members than folds is tested in as many folds as it has members.
    - A class with two or more members is in every training part.
    - A class with one member is not in the training part of the fold that tests it.
    - A test or validation part may contain a single class.

    Args:
        targets: (n,) integers, the class of each item.
        folds: Number of folds, at least 2.
        seed: Random seed. The folds depend only on the seed and the targets.
        valid_share: Fraction of the items outside the test part that are used for validation, at most 0.5.

    Returns:
        Tuple of folds. Each item is in exactly one test part.

    Raises:
        ValueError: If the targets are not integers or fewer than the folds, a number is out of range, or a training
            part would have a single class.

    Example:
        >>> from supa_learning import stratified_folds
        >>> folds = stratified_folds([0, 0, 0, 0, 1, 1, 1, 1], folds=4, seed=0)
        >>> [len(fold.test) for fold in folds]
        [2, 2, 2, 2]
    """
    labels = np.asarray(targets)
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"targets must be a one-dimensional array of integers, got {labels.dtype} {labels.shape}.")
    made = _dealt(labels, folds, seed, valid_share)
    for k, fold in enumerate(made):
        if len(np.unique(labels[fold.train])) < 2:
            raise ValueError(
                f"The training part of fold {k} would have a single class; two classes need at least two members each."
            )
    return made


def shuffled_folds(count: int, *, folds: int = 10, seed: int = 0, valid_share: float = 0.1) -> tuple[Fold, ...]:
    """Divide items without classes into random folds; see `stratified_folds`.

    Args:
        count: Number of items.
        folds: Number of folds, at least 2.
        seed: Random seed.
        valid_share: Fraction of the items outside the test part that are used for validation, at most 0.5.

    Returns:
        Tuple of folds. Each item is in exactly one test part.

    Raises:
        ValueError: If there are fewer items than folds, or a number is out of range.
    """
    return _dealt(np.zeros(count, dtype=np.int64), folds, seed, valid_share)


def _dealt(labels: npt.NDArray[np.generic], folds: int, seed: int, valid_share: float) -> tuple[Fold, ...]:
    """Distribute shuffled items, sorted by class, to the folds in turn."""
    check_int(2, 10**6, "folds", folds)
    share = check_real(lambda v: 0 < v <= 0.5, "above 0 and at most 0.5", "valid_share", valid_share)
    if len(labels) < folds:
        raise ValueError(f"folds must be at most the number of items, {len(labels):,}, got {folds:,}.")
    random = np.random.default_rng(check_int(0, 2**63 - 1, "seed", seed))
    shuffled = random.permutation(len(labels))
    laid_out = shuffled[np.argsort(labels[shuffled], kind="stable")]
    dealt = np.arange(len(laid_out)) % folds
    made = []
    for k in range(folds):
        rest = laid_out[dealt != k]
        chosen = _every_kth(labels[rest], share, random)
        made.append(Fold(np.sort(rest[~chosen]), np.sort(rest[chosen]), np.sort(laid_out[dealt == k])))
    return tuple(made)


def _every_kth(labels: npt.NDArray[np.generic], share: float, random: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Choose a fraction of items that are sorted by class, but never the only member of a class."""
    _, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    candidates = np.flatnonzero(counts[inverse] > 1)
    # With a step of at least two, two neighbours are never chosen, so each class keeps a member.
    steps = np.floor(np.arange(len(candidates) + 1) * share + random.random())
    chosen = np.zeros(len(labels), dtype=np.bool_)
    chosen[candidates[np.diff(steps) > 0]] = True
    return chosen
