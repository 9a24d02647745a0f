"""Batches of items of different sizes: which items come together."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from supa.arrays import IntArray
from supa.checks import counted

_POOL_BATCHES = 64
"""Showers are sorted by size within pools of so many batches: more would make epochs alike, fewer would pad more."""


class BucketSampler(Sampler[list[int]]):
    """Batches of items of like size, in an order that depends on the seed and the epoch alone.

    With ``shuffle`` every iteration is a new epoch; ``set_epoch`` names the next one, for a resumed training.

    Args:
        sizes: (items,) points of each item.
        batch_size: items of a batch, at most.
        max_points: points of a batch with padding, at most: items times the largest of them.
        shuffle: a new order in each epoch; else the items come in their own order, and only ``max_points`` bounds a
            batch.
        seed: names the orders.

    Raises:
        ValueError: neither limit was given, or an item alone exceeds it.
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
                raise ValueError(f"{name}: {limit!r} was given, but it must be a whole number of at least 1.")
        if batch_size is None and max_points is None:
            raise ValueError("Give batch_size, max_points, or both.")
        largest = int(sizes.max(initial=0))
        if max_points is not None and largest > max_points:
            raise ValueError(
                f"max_points: {max_points} was given, but the largest item has {counted(largest, 'point')}; give at "
                "least that."
            )
        self._sizes = np.asarray(sizes, dtype=np.int64)
        self._batch_size = batch_size or len(sizes) or 1
        # Without a batch size, that of a batch of mean showers.
        usual = self._batch_size if max_points is None else max(1, int(max_points / max(1.0, self._sizes.mean())))
        self._pool = min(self._batch_size, usual) * _POOL_BATCHES if len(sizes) else 1
        self._max_points = max_points
        self._shuffle = shuffle
        self._seed = seed
        self._epoch = 0
        self._lengths: dict[int, int] = {}

    def set_epoch(self, epoch: int) -> None:
        """Name the epoch of the next iteration.

        Args:
            epoch: its number, from 0.
        """
        self._epoch = epoch

    def __len__(self) -> int:
        """Number of batches of the next iteration."""
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
