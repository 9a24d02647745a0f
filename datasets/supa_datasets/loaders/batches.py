"""A batch sampler that groups items of similar size."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from supa.arrays import IntArray
from supa.checks import counted

_POOL_BATCHES = 64
"""Items are sorted by size within pools of this many batches. Larger pools make the epochs more alike; smaller pools
need more padding."""


class BucketSampler(Sampler[list[int]]):
    """Sample batches of items of similar size, for the argument ``batch_sampler`` of a PyTorch ``DataLoader``.

    The order of the batches depends only on the seed and the epoch. With ``shuffle``, each iteration is a new epoch;
    call `set_epoch` to choose the next one when a training is resumed.

    Args:
        sizes: (items,) integers, number of points of each item.
        batch_size: Maximum number of items per batch; None for no limit.
        max_points: Maximum number of points per batch including padding, which is the number of items times the size
            of the largest item; None for no limit. Give at least one of the two limits.
        shuffle: Whether to draw a new order in each epoch and to group items by size. If False, the items keep their
            order.
        seed: Random seed of the orders.

    Raises:
        ValueError: If no limit was given, a limit is not a positive integer, or a single item exceeds ``max_points``.

    Example:
        >>> import numpy as np
        >>> from supa_datasets import BucketSampler
        >>> sampler = BucketSampler(np.array([5, 90, 6, 80]), batch_size=2, shuffle=True, seed=0)
        >>> sorted(sorted(batch) for batch in sampler)
        [[0, 2], [1, 3]]
    """

    def __init__(
        self,
        sizes: IntArray,
        batch_size: int | None = None,
        *,
        max_points: int | None = None,
        shuffle: bool = False,
        seed: int = 0,
    ) -> None:
        for name, limit in (("batch_size", batch_size), ("max_points", max_points)):
            if limit is not None and (not isinstance(limit, int | np.integer) or limit < 1):
                raise ValueError(f"{name} must be a positive integer, got {limit!r}.")
        if batch_size is None and max_points is None:
            raise ValueError("Give batch_size, max_points, or both.")
        largest = int(sizes.max(initial=0))
        if max_points is not None and largest > max_points:
            raise ValueError(
                f"max_points must be at least the size of the largest item, {counted(largest, 'point')}, got "
                f"{max_points}."
            )
        self._sizes = np.asarray(sizes, dtype=np.int64)
        self._batch_size = batch_size or len(sizes) or 1
        # Without a batch size, use the number of items of mean size that fit into a batch.
        usual = self._batch_size if max_points is None else max(1, int(max_points / max(1.0, self._sizes.mean())))
        self._pool = min(self._batch_size, usual) * _POOL_BATCHES if len(sizes) else 1
        self._max_points = max_points
        self._shuffle = shuffle
        self._seed = seed
        self._epoch = 0
        self._lengths: dict[int, int] = {}

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration.

        Args:
            epoch: Number of the epoch, from 0.
        """
        self._epoch = epoch

    def __len__(self) -> int:
        """Return the number of batches of the next iteration."""
        if self._epoch not in self._lengths:
            self._lengths = {self._epoch: len(self._batches(self._epoch))}
        return self._lengths[self._epoch]

    def __iter__(self) -> Iterator[list[int]]:
        batches = self._batches(self._epoch)
        self._epoch += self._shuffle
        yield from (batch.tolist() for batch in batches)

    def _batches(self, epoch: int) -> list[IntArray]:
        if not self._shuffle:
            return self._cut(np.arange(len(self._sizes)))
        random = np.random.default_rng([self._seed, epoch])
        order = random.permutation(len(self._sizes))
        batches = []
        for start in range(0, len(order), self._pool):
            members = order[start : start + self._pool]
            batches += self._cut(members[np.argsort(self._sizes[members], kind="stable")])
        return [batches[k] for k in random.permutation(len(batches))]

    def _cut(self, order: IntArray) -> list[IntArray]:
        if self._max_points is None:
            return [order[k : k + self._batch_size] for k in range(0, len(order), self._batch_size)]
        batches, start, largest = [], 0, 0
        for stop, size in enumerate(self._sizes[order]):
            largest = max(largest, int(size))
            if stop - start == self._batch_size or largest * (stop - start + 1) > self._max_points:
                batches.append(order[start:stop])
                start, largest = stop, int(size)
        return [*batches, order[start:]] if start < len(order) else batches
