"""Stratified cross-validation folds, each with a validation part of its own."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from supa.arrays import IntArray
from supa.checks import check_int, check_real, counted

SPLIT_SEED = 0
"""Seed of the folds of benchmarks, which are the same for all methods and seeds."""


@dataclass(frozen=True, eq=False)
class Fold:
    """Three disjoint parts that together contain all items.

    Args:
        train: (n,) int64 ascending indices of training items.
        valid: (n,) int64 ascending indices of validation items, which all choices depend on.
        test: (n,) int64 ascending indices of test items, which no choice depends on.
    """

    train: IntArray
    valid: IntArray
    test: IntArray


def stratified_folds(
    targets: npt.ArrayLike, *, folds: int = 10, seed: int = 0, valid_share: float = 0.1
) -> tuple[Fold, ...]:
    """Divide items into stratified folds.

    The shuffled items are ordered by class and dealt to the folds in turn: the sizes of the folds differ by at most
    one, and so do the numbers of each class. The validation part is every k-th item of the rest in the same order,
    from a random start. scikit-learn's splitters refuse classes with few members; here

    - a class with fewer members than folds is tested in as many folds as it has members;
    - a class with two or more members is in every training part;
    - a class with one member is not in the training part of the fold that tests it;
    - a test or validation part may hold one class only.

    Args:
        targets: (n,) integers, the class of each item.
        folds: number of folds.
        seed: random seed; the folds depend on it and on the targets only.
        valid_share: share of the items outside the test part that are used for validation, at most 0.5.

    Returns:
        The folds; each item is in exactly one test part.

    Raises:
        ValueError: the targets are not integers or fewer than the folds, a number is out of its limits, or a training
            part would have a single class.
    """
    labels = np.asarray(targets)
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"targets: they must be one row of whole numbers, not {labels.dtype} of shape {labels.shape}.")
    check_int(2, 10**6, "folds", folds)
    share = check_real(lambda v: 0 < v <= 0.5, "above 0 and at most 0.5", "valid_share", valid_share)
    if len(labels) < folds:
        items = f"{'is' if len(labels) == 1 else 'are'} {counted(len(labels), 'item')}"
        raise ValueError(f"{folds:,} folds were asked for, but there {items}; ask for fewer folds.")
    random = np.random.default_rng(check_int(0, 2**63 - 1, "seed", seed))
    shuffled = random.permutation(len(labels))
    laid_out = shuffled[np.argsort(labels[shuffled], kind="stable")]
    dealt = np.arange(len(laid_out)) % folds
    made = []
    for k in range(folds):
        rest = laid_out[dealt != k]
        chosen = _every_kth(labels[rest], share, random)
        made.append(Fold(np.sort(rest[~chosen]), np.sort(rest[chosen]), np.sort(laid_out[dealt == k])))
        if len(np.unique(labels[made[-1].train])) < 2:
            raise ValueError(
                f"Fold {k} would have a single class to learn from; there must be two classes with at least two members"
                " each."
            )
    return tuple(made)


def _every_kth(labels: npt.NDArray[np.generic], share: float, random: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Choose a share of items that are ordered by class, but never the only member of a class."""
    _, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    candidates = np.flatnonzero(counts[inverse] > 1)
    # A step of at least two never takes two neighbours, so each class keeps a member.
    steps = np.floor(np.arange(len(candidates) + 1) * share + random.random())
    chosen = np.zeros(len(labels), dtype=np.bool_)
    chosen[candidates[np.diff(steps) > 0]] = True
    return chosen
