"""Showers that occur in two samples, found by a hash of their hits."""

import numpy as np

from supa import Showers, stream
from supa.arrays import Array, UInt64Array
from supa_datasets.benchmark_tasks.cells import binned
from supa_datasets.benchmark_tasks.task import BenchmarkTask
from supa_datasets.loaders.splitmix import splitmix64

_FEWEST_HITS = 3
"""Showers with fewer hits may be equal by chance. A shower without splits has one hit, on the axis."""


def shared_showers(sample: Showers, task: BenchmarkTask, indices: range) -> tuple[int, int]:
    """Find the showers of a sample whose hits are those of a shower of a range of a task, in any order.

    Args:
        sample: The sample, in the form in which the task compares it.
        task: The task.
        indices: Indices of showers of the task.

    Returns:
        Position of the first such shower in the sample (-1 if there is none), and the number of such showers.
    """
    given = _hashes(sample)
    counted = sample.num_hits >= _FEWEST_HITS
    shared = np.zeros(len(sample), dtype=np.bool_)
    for chunk in stream(len(indices), task.config, seed=task.seed, first=indices.start):
        known = binned(task, chunk)
        shared |= counted & np.isin(given, _hashes(known)[known.num_hits >= _FEWEST_HITS])
    return (int(shared.argmax()) if shared.any() else -1), int(shared.sum())


def _hashes(showers: Showers) -> UInt64Array:
    """Return a hash of the hits of each shower, in single precision as in files."""
    x, y, energy = (_bits(showers.hits[name]) for name in ("x", "y", "energy"))
    sums = np.concatenate([[np.uint64(0)], np.cumsum(splitmix64(x ^ splitmix64(y ^ splitmix64(energy))))])
    return np.asarray(sums[showers.offset[1:]] - sums[showers.offset[:-1]])


def _bits(values: Array) -> UInt64Array:
    return values.astype(np.float32).view(np.uint32).astype(np.uint64)
