"""Results as scores: a row for each method and convolution, a column for each set."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from supa.arrays import FloatArray
from supa_gff.bench.results import Result


@dataclass(frozen=True, eq=False)
class Cell:
    """Scores of a row on a set.

    Args:
        folds: (folds,) test accuracy of each fold in percent, the mean of its seeds; NaN if there is none.
        complete: whether every fold is there, with the same number of seeds.
        test_over_train: mean number of tested over mean number of training items.
        wall_seconds: median of a training and test; the mean would show every pause of a shared machine.
        memory_bytes: median peak of a training and test.
    """

    folds: FloatArray
    complete: bool
    test_over_train: float
    wall_seconds: float
    memory_bytes: float

    @property
    def mean(self) -> float:
        """Mean over the existing folds."""
        return float(np.nanmean(self.folds))

    @property
    def deviation(self) -> float:
        """Sample standard deviation over the existing folds; NaN for a single one."""
        there = self.folds[~np.isnan(self.folds)]
        return float(there.std(ddof=1)) if len(there) > 1 else float("nan")


@dataclass(frozen=True, eq=False)
class Scores:
    """The cells of a comparison.

    Args:
        rows: (method, convolution) in the order of the results.
        sets: names of the sets in that order.
        cells: by row and set; without an entry if no job succeeded.
    """

    rows: tuple[tuple[str, str], ...]
    sets: tuple[str, ...]
    cells: dict[tuple[tuple[str, str], str], Cell]

    def complete(self, row: tuple[str, str], name: str) -> Cell | None:
        """Return a cell if it is complete.

        Args:
            row: its method and convolution.
            name: its set.

        Returns:
            The cell; None where something is missing.
        """
        cell = self.cells.get((row, name))
        return cell if cell is not None and cell.complete else None


def scores_of(results: Sequence[Result]) -> Scores:
    """Sum results up.

    Args:
        results: results of one configuration for each set, method and convolution; failed ones count as missing.

    Returns:
        The scores.

    Raises:
        ValueError: results of several configurations are mixed.
    """
    grouped: dict[tuple[tuple[str, str], str], list[Result]] = defaultdict(list)
    for result in results:
        grouped[(result.job.method, result.job.conv), result.job.dataset].append(result)
    cells = {}
    for (row, name), members in grouped.items():
        if len({(r.job.settings, r.job.folds) for r in members}) > 1:
            raise ValueError(f"{members[0].job.row} on {name}: results of several configurations cannot be summed up.")
        cell = _cell(members)
        if cell is not None:
            cells[row, name] = cell
    rows = tuple(dict.fromkeys(row for row, _ in grouped))
    return Scores(rows, tuple(dict.fromkeys(name for _, name in grouped)), cells)


def _cell(results: Sequence[Result]) -> Cell | None:
    num_folds = results[0].job.folds
    of_fold: list[list[float]] = [[] for _ in range(num_folds)]
    sizes, costs = [], []
    # The order of the file is that in which processes ended; a sum must not depend on it.
    for result in sorted(results, key=lambda r: (r.job.fold, r.job.seed)):
        if result.measured is not None:
            of_fold[result.job.fold].append(result.measured.test_accuracy)
            sizes.append(result.measured.sizes or (1, 0, 1))
            costs.append(result.measured.cost)
    if not sizes:
        return None
    train, _, test = np.mean(sizes, axis=0)
    known = [cost for cost in costs if cost is not None]
    return Cell(
        folds=np.array([np.mean(values) if values else np.nan for values in of_fold]),
        complete=len(sizes) == len(results) and len({len(values) for values in of_fold}) == 1,
        test_over_train=float(test / train),
        wall_seconds=float(np.median([cost.wall_seconds for cost in known])) if known else float("nan"),
        memory_bytes=float(np.median([cost.peak_memory_bytes for cost in known])) if known else float("nan"),
    )
