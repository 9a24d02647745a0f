"""Bias and error of energy estimates."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from supa.arrays import FloatArray
from supa.bins import MOST_SEPARATE, distinct_bins
from supa.checks import counted
from supa.plotting.style import COLOURS, INK, MARKERS, hide_frame, use_log_scale

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_resolution(energy: FloatArray, predicted: Mapping[str, FloatArray], bins: int = 8) -> "Figure":
    """Draw the bias and the error of energy estimates in bins of the true energy.

    Args:
        energy: (showers,) true incident energies, GeV.
        predicted: (showers,) predicted energies, GeV, by the name of the estimator.
        bins: Maximum number of bins, which contain about equally many showers. If there are at most 20 different
            energies, each energy is a bin.

    Returns:
        A ``matplotlib.figure.Figure`` with two panels: the median of predicted over true energy, and the root mean
        square of the logarithm of that ratio, which includes both bias and spread.

    Raises:
        ValueError: If there are fewer than ten showers per bin.

    Example:
        >>> import numpy as np
        >>> from supa.plotting import plot_resolution
        >>> rng = np.random.default_rng(0)
        >>> energy = rng.uniform(1, 100, 1000)
        >>> figure = plot_resolution(energy, {"smeared": energy * rng.lognormal(0, 0.1, 1000)})
        >>> figure.savefig("resolution.png")
    """
    from matplotlib.figure import Figure

    if len(energy) < 10 * bins:
        raise ValueError(f"At least {10 * bins:,} showers are needed for {counted(bins, 'bin')}, got {len(energy):,}.")
    figure = Figure(figsize=(9, 4), layout="constrained")
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
    grid[1].set(ylabel="rms of ln(predicted / true energy)", ylim=(0, None))
    for axes in grid:
        axes.set(xlabel="true incident energy (GeV)")
        use_log_scale(axes, "x")
        hide_frame(axes)
    if predicted:
        # Above the panels, where no curve passes behind it.
        figure.legend(*grid[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False)
    return figure
