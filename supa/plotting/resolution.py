"""How well energies are predicted."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from supa.arrays import FloatArray
from supa.bins import MOST_SEPARATE, distinct_bins
from supa.plotting.style import COLOURS, INK, MARKERS, hide_frame

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_resolution(energy: FloatArray, predicted: Mapping[str, FloatArray], bins: int = 8) -> "Figure":
    """Draw how well energies are predicted: bias and error in bins of the true energy.

    Args:
        energy: (showers,) true incident energy, GeV.
        predicted: (showers,) predicted energies in GeV by the name of the estimator.
        bins: number of bins of about equal size, at most; at most 20 different energies have a bin each.

    Returns:
        A matplotlib figure: median of predicted over true energy, and root mean square of the logarithm of that
        ratio, which counts bias and spread.

    Raises:
        ValueError: there are fewer than ten showers a bin.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

    if len(energy) < 10 * bins:
        raise ValueError(f"{len(energy)} showers were given, but {bins} bins need at least {10 * bins}.")
    figure = Figure(figsize=(9, 3.7), layout="constrained")
    grid: Any = figure.subplots(1, 2, sharex=True)
    parts = distinct_bins(energy, bins, least=10, separate=MOST_SEPARATE)
    centre = [float(np.exp(np.log(energy[part]).mean())) for part in parts]
    for number, (name, values) in enumerate(predicted.items()):
        ratio = np.log(values / energy)
        middle = np.exp([np.median(ratio[part]) for part in parts])
        error = np.sqrt([np.square(ratio[part]).mean() for part in parts])
        style = {
            "color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)], "markersize": 5,
            "linewidth": 1.4, "label": name,
        }  # fmt: skip
        grid[0].plot(centre, middle, **style)
        grid[1].plot(centre, error, **style)
    grid[0].axhline(1, color=INK, linewidth=0.8, linestyle=":")
    grid[0].set(ylabel="median of predicted / true energy")
    grid[1].set(ylabel="rms of ln (predicted / true energy)", ylim=(0, None))
    grid[1].legend(frameon=False, fontsize=9)
    for axes in grid:
        axes.set(xscale="log", xlabel="incident energy (GeV)")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        hide_frame(axes)
    return figure
