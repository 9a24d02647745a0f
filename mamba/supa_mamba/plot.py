"""Plots of an evaluation."""

from typing import TYPE_CHECKING, Any

import numpy as np

from supa.arrays import FloatArray
from supa.bins import distinct_bins
from supa.checks import counted
from supa.plotting import plot_resolution
from supa.plotting.style import COLOURS, FRACTIONS, INK, MARKERS, hide_frame, literal
from supa_mamba.evaluation import LABELS, Evaluation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BINS = 8
_LEAST = 10
"""Minimum number of showers per bin."""


def plot_evaluation(evaluation: Evaluation) -> "Figure":
    """Plot an evaluation.

    Args:
        evaluation: Evaluation of at least ten showers.

    Returns:
        A matplotlib figure. For energies it shows bias and error against the true energy. For classes it shows the
        accuracy against the number of hits and, unless the classes are interchangeable, the confusion matrix.

    Raises:
        ValueError: If there are fewer than ten showers.
    """
    from matplotlib.figure import Figure

    showers = len(evaluation.counts)
    if showers < _LEAST:
        given = f"{counted(showers, 'shower')} {'was' if showers == 1 else 'were'} given"
        raise ValueError(f"{given}, but a plot needs at least {_LEAST}.")
    bins = min(_BINS, showers // _LEAST)
    if not evaluation.encoding.classes:
        energies = {
            LABELS[estimator]: np.exp(values)
            for estimator, values in evaluation.predictions.items()
            if estimator != "constant"
        }
        return plot_resolution(np.exp(evaluation.target.astype(np.float64)), energies, bins)
    both = evaluation.encoding.name != "primary"
    figure = Figure(figsize=(9.5 if both else 5, 3.9), layout="constrained")
    grid: Any = figure.subplots(1, 2 if both else 1, squeeze=False)
    _plot_over_counts(grid[0, 0], evaluation, bins)
    if both:
        _plot_confusion(grid[0, 1], evaluation)
    return figure


def _plot_over_counts(axes: "Axes", evaluation: Evaluation, bins: int) -> None:
    parts = distinct_bins(evaluation.counts, bins, least=_LEAST)
    middle = [evaluation.counts[part].mean() for part in parts]
    for number, estimator in enumerate(evaluation.predictions):
        share = _correct_fractions(evaluation, estimator)
        axes.plot(
            middle,
            [share[part].mean() for part in parts],
            color=COLOURS[number % len(COLOURS)],
            marker=MARKERS[number % len(MARKERS)],
            markersize=5,
            linewidth=1.4,
            label=LABELS[estimator],
        )
    accuracy = "accuracy up to exchange" if evaluation.encoding.name == "primary" else "accuracy"
    axes.set(xlabel="number of hits", ylabel=accuracy, ylim=(0, 1.02))
    hide_frame(axes)
    axes.legend(frameon=False, fontsize=9)


def _correct_fractions(evaluation: Evaluation, estimator: str) -> FloatArray:
    """Return the fraction of correct predictions of each shower."""
    correct = evaluation.correct(estimator)
    if evaluation.encoding.task.level == "shower":
        return correct
    shower = np.arange(len(evaluation.counts)).repeat(evaluation.counts)
    shares = np.bincount(shower, correct, len(evaluation.counts)) / np.maximum(evaluation.counts, 1)
    return np.asarray(shares, dtype=np.float64)


def _plot_confusion(axes: "Axes", evaluation: Evaluation) -> None:
    counts, names = evaluation.confusion(), [literal(name) for name in evaluation.encoding.classes]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap=FRACTIONS, vmin=0, vmax=1)
    for row, column in np.ndindex(*shares.shape):
        colour = "white" if shares[row, column] > 0.6 else INK
        axes.text(column, row, f"{shares[row, column]:.2f}", ha="center", va="center", fontsize=8, color=colour)
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="predicted class", ylabel="true class")
