"""The progress of a generation in shards, and what it did."""

from dataclasses import dataclass
from typing import NamedTuple


class ShardProgress(NamedTuple):
    """State of a running generation, as passed to the ``progress`` function of `generate_shards`.

    Args:
        done: Number of finished shards.
        total: Number of all shards.
        workers: Number of workers that are alive.
        lost: Number of workers that have left since the start.
        failures: Number of failed tasks, which are repeated.

    Example:
        >>> from supa_datasets import ShardProgress
        >>> state = ShardProgress(done=3, total=12, workers=2, lost=1, failures=0)
        >>> state.done / state.total
        0.25
    """

    done: int
    total: int
    workers: int
    lost: int
    failures: int


@dataclass(frozen=True)
class ShardReport:
    """Result of `generate_shards`.

    Args:
        shards: Number of files of the dataset.
        showers: Number of showers of the dataset.
        hits: Number of hits of the dataset.
        bytes: Size of all files.
        simulated: Names of the files that were simulated. All others existed.
        simulated_showers: Number of showers in these files.
        replaced: Reason for each existing file that was replaced, because it was damaged.
        failures: Reason for each failure of a task, which was then repeated.
        lost: Number of workers that left during the run. Others made their shards.

    Example:
        >>> from supa_datasets import ShardReport
        >>> report = ShardReport(
        ...     shards=4, showers=1000, hits=70319, bytes=1_335_296, simulated=("shard-00002.h5",),
        ...     simulated_showers=250, replaced=(), failures=(), lost=0,
        ... )
        >>> len(report.simulated), report.shards
        (1, 4)
    """

    shards: int
    showers: int
    hits: int
    bytes: int
    simulated: tuple[str, ...]
    simulated_showers: int
    replaced: tuple[str, ...]
    failures: tuple[str, ...]
    lost: int
