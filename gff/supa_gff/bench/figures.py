"""Figure of benchmark results: accuracy against time and memory."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from supa.plotting.style import COLOURS, INK, MARKERS, hide_frame, literal
from supa_gff.bench.results import Result
from supa_gff.bench.scores import scores_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOURS = (*COLOURS, INK)
_MEGABYTE = 1e6


def plot_results(results: Sequence[Result]) -> "Figure":
    """Plot accuracy against time and against peak memory, with a point for each method and convolution.

    Args:
        results: Results of one configuration for each dataset, method and convolution.

    Returns:
        A matplotlib figure with one row of panels for each dataset. Error bars are the sample standard deviation over
        the folds.

    Raises:
        ValueError: If no job succeeded.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    scores = scores_of(results)
    sets = [name for name in scores.sets if any((row, name) in scores.cells for row in scores.rows)]
    if not sets:
        raise ValueError("There is nothing to plot, since no job succeeded.")
    figure = Figure(figsize=(11, 0.7 + 2.9 * len(sets)), layout="constrained")
    grid: Any = figure.subplots(len(sets), 2, sharey="row", squeeze=False)
    methods = list(dict.fromkeys(method for method, _ in scores.rows))
    convs = list(dict.fromkeys(conv for _, conv in scores.rows))
    handles: dict[str, Any] = {}
    for line, name in zip(grid, sets, strict=True):
        for row in scores.rows:
            cell = scores.cells.get((row, name))
            if cell is None:
                continue
            label = literal(f"{row[0]} ({row[1]})" if row[1] else row[0])
            for axes, x in zip(line, (cell.wall_seconds, cell.memory_bytes / _MEGABYTE), strict=True):
                handles[label] = axes.errorbar(
                    max(x, 1e-3),
                    cell.mean,
                    None if np.isnan(cell.deviation) else cell.deviation,
                    color=_COLOURS[methods.index(row[0]) % len(_COLOURS)],
                    marker=MARKERS[
                        (convs.index(row[1]) + len(convs) * (methods.index(row[0]) // len(_COLOURS))) % len(MARKERS)
                    ],
                    markersize=6,
                    elinewidth=0.9,
                    capsize=2.5,
                    linestyle="none",
                )
        for axes in line:
            axes.set_xscale("log")
            low, high = axes.get_xlim()
            axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if high > 30 * low else (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.grid(alpha=0.25, linewidth=0.6)
            hide_frame(axes)
            axes.tick_params(labelsize=8)
        line[0].set_title(literal(name), fontsize=10, color=INK, loc="left")
        line[0].set_ylabel("test accuracy (%)", fontsize=9)
    grid[-1][0].set_xlabel("median time to train and test (s)", fontsize=9)
    grid[-1][1].set_xlabel("median peak memory to train and test (MB)", fontsize=9)
    figure.legend(handles.values(), handles.keys(), loc="outside right upper", fontsize=8, frameon=False)
    figure.suptitle(literal("; ".join(sorted({r.machine for r in results}))), fontsize=7.5, color=INK)
    return figure
