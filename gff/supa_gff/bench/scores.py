"""Summary of results by method, convolution and dataset."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from supa.arrays import FloatArray
from supa_gff.bench.results import Result


@dataclass(frozen=True, eq=False)
class Cell:
    """Scores of one method and convolution on one dataset.

    Args:
        folds: (folds,) float64 test accuracy of each fold in percent, averaged over seeds. NaN if the fold is missing.
        complete: Whether every fold has a result, with the same number of seeds.
        test_over_train: Ratio of the mean number of test items to the mean number of training items.
        wall_seconds: Median time of a job in seconds. Pauses of a shared machine affect the median less than the mean.
        memory_bytes: Median peak memory of a job in bytes.
        energy_joules: Median energy of a job in joules. NaN if it is unknown.
        parameters: Largest number of trained parameters of a job.
        seed_deviation: Sample standard deviation over seeds of the mean accuracy over folds. NaN for one seed, or if a
            fold is missing.
    """

    folds: FloatArray
    complete: bool
    test_over_train: float
    wall_seconds: float
    memory_bytes: float
    energy_joules: float
    parameters: int
    seed_deviation: float

    @property
    def mean(self) -> float:
        """Mean over the existing folds."""
        return float(np.nanmean(self.folds))

    @property
    def deviation(self) -> float:
        """Sample standard deviation over the existing folds. NaN for a single fold."""
        existing = self.folds[~np.isnan(self.folds)]
        return float(existing.std(ddof=1)) if len(existing) > 1 else float("nan")


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of all methods, convolutions and datasets of a comparison.

    Args:
        rows: Pairs of method and convolution, in the order of the results.
        sets: Names of the datasets, in the order of the results.
        cells: Scores by row and dataset. A cell is missing if no job succeeded.
    """

    rows: tuple[tuple[str, str], ...]
    sets: tuple[str, ...]
    cells: dict[tuple[tuple[str, str], str], Cell]

    def complete(self, row: tuple[str, str], name: str) -> Cell | None:
        """Return the scores of a row on a dataset, if they are complete.

        Args:
            row: Method and convolution.
            name: Name of the dataset.

        Returns:
            The cell. None if it is missing or incomplete.
        """
        cell = self.cells.get((row, name))
        return cell if cell is not None and cell.complete else None


def scores_of(results: Sequence[Result]) -> Scores:
    """Summarise results.

    Args:
        results: Results of one configuration for each dataset, method and convolution. Failed jobs count as missing.

    Returns:
        The scores.

    Raises:
        ValueError: If results of several configurations are mixed.
    """
    grouped: dict[tuple[tuple[str, str], str], list[Result]] = defaultdict(list)
    for result in results:
        grouped[(result.job.method, result.job.conv), result.job.dataset].append(result)
    cells = {}
    for (row, name), members in grouped.items():
        if len({(r.job.settings, r.job.folds) for r in members}) > 1:
            raise ValueError(f"The results of {members[0].job.row} on {name} have several configurations.")
        cell = _cell(members)
        if cell is not None:
            cells[row, name] = cell
    rows = tuple(dict.fromkeys(row for row, _ in grouped))
    return Scores(rows, tuple(dict.fromkeys(name for _, name in grouped)), cells)


def _cell(results: Sequence[Result]) -> Cell | None:
    num_folds = results[0].job.folds
    of_fold: list[list[float]] = [[] for _ in range(num_folds)]
    of_seed: dict[int, list[float]] = defaultdict(list)
    sizes, costs, parameters = [], [], []
    # The order of the file depends on the run times of the processes. The rounding of sums must not depend on it.
    for result in sorted(results, key=lambda r: (r.job.fold, r.job.seed)):
        if result.measured is not None:
            of_fold[result.job.fold].append(result.measured.test_accuracy)
            of_seed[result.job.seed].append(result.measured.test_accuracy)
            parameters.append(result.measured.parameters)
            sizes.append(result.measured.sizes or (1, 0, 1))
            costs.append(result.measured.cost)
    if not sizes:
        return None
    train, _, test = np.mean(sizes, axis=0)
    known = [cost for cost in costs if cost is not None]
    joules = [cost.energy_joules for cost in known if cost.energy_joules is not None]
    complete = len(sizes) == len(results) and len({len(values) for values in of_fold}) == 1
    means = [np.mean(values) for values in of_seed.values()]
    return Cell(
        folds=np.array([np.mean(values) if values else np.nan for values in of_fold]),
        complete=complete,
        test_over_train=float(test / train),
        wall_seconds=float(np.median([cost.wall_seconds for cost in known])) if known else float("nan"),
        memory_bytes=float(np.median([cost.peak_memory_bytes for cost in known])) if known else float("nan"),
        energy_joules=float(np.median(joules)) if joules else float("nan"),
        parameters=max(parameters),
        seed_deviation=float(np.std(means, ddof=1)) if complete and len(means) > 1 else float("nan"),
    )
