"""Showers of an image task: one hit for each cell with energy."""

from supa import Showers
from supa_datasets.benchmark_tasks.task import BenchmarkTask
from supa_datasets.conversion.cells import pieces, showers_of


def binned(task: BenchmarkTask, showers: Showers) -> Showers:
    """Return showers in the form in which a task compares them.

    Args:
        task: The task.
        showers: Showers with hits, or with one hit for each cell already.

    Returns:
        For an image task, showers with one hit at the centre of each cell with energy; the energy outside of the cells
        is left out. For other tasks the same showers.
    """
    grid = task.grid
    if grid is None or not len(showers):
        return showers
    return Showers.concatenate(
        showers_of(grid, part.config, grid.energies(part), part.incident_energy, int(part.index[0]))
        for part in pieces(showers, grid.num_cells)
    )
