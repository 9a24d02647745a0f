"""Named splits of showers, which depend only on the index of each shower."""

from collections.abc import Mapping

import numpy as np

from supa.arrays import BoolArray, IntArray
from supa.checks import did_you_mean, format_value
from supa_datasets.loaders.splitmix import splitmix64, to_unit

SPLITS: Mapping[str, float] = {"train": 0.8, "validation": 0.1, "test": 0.1}
"""The default splits and their fractions."""


def in_split(index: IntArray, split: str, fractions: Mapping[str, float] = SPLITS) -> BoolArray:
    """Return which showers belong to a split.

    The index of a shower is hashed to a number between 0 and 1, which selects the split. A shower therefore stays in
    its split when the file grows, and showers with the same index are in the same split in every file.

    Args:
        index: (n,) int64 index of each shower, as in ``showers.index``.
        split: Name of a split, or ``"all"``.
        fractions: Fraction of each split by name; the fractions add up to 1. The default is ``SPLITS``: 0.8 for
            ``"train"``, 0.1 for ``"validation"`` and 0.1 for ``"test"``.

    Returns:
        (n,) bool, True for the showers of the split.

    Raises:
        ValueError: If there is no such split, or the fractions do not add up to 1.

    Example:
        >>> import supa
        >>> from supa_datasets import in_split
        >>> showers = supa.simulate(1000)
        >>> test = showers[in_split(showers.index, "test")]
        >>> len(test)
        94
    """
    try:
        values = np.array(list(fractions.values()), dtype=np.float64)
    except (AttributeError, TypeError, ValueError):
        values = np.array([np.nan])
    if not (values >= 0).all() or abs(values.sum() - 1) > 1e-9:
        raise ValueError(f"fractions must be non-negative and add up to 1, got {format_value(fractions)}.")
    if split == "all":
        return np.ones(len(index), dtype=np.bool_)
    if split not in fractions:
        raise ValueError(
            f"split must be one of {', '.join(fractions)} or all, got {format_value(split)}."
            f"{did_you_mean(split, [*fractions, 'all'])}"
        )
    number = list(fractions).index(split)
    edges = np.append(np.concatenate([[0.0], np.cumsum(values)])[:-1], 1.0)
    place = to_unit(splitmix64(index.astype(np.uint64)))
    return np.asarray((place >= edges[number]) & (place < edges[number + 1]))
