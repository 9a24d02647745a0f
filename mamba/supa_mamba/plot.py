"""Pictures of how good an encoder is."""

from typing import TYPE_CHECKING, Any

import numpy as np

from supa.arrays import FloatArray
from supa.bins import distinct_bins
from supa.checks import counted
from supa.plotting import plot_resolution
from supa.plotting.style import COLOURS, INK, MARKERS, hide_frame, literal
from supa_mamba.evaluation import Evaluation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BINS = 8
_LEAST = 10
"""Showers of a bin, at least."""


def plot_evaluation(evaluation: Evaluation) -> "Figure":
    """Draw how good an encoder is, beside others.

    Args:
        evaluation: of at least ten showers.

    Returns:
        A matplotlib figure. Of energies: bias and error over the true energy. Of classes: accuracy over the number of
        hits, and the counts by true class and answer, unless the classes may be exchanged.

    Raises:
        ValueError: there are fewer than ten showers.
    """
    from matplotlib.figure import Figure

    showers = len(evaluation.counts)
    if showers < _LEAST:
        given = f"{counted(showers, 'shower')} {'was' if showers == 1 else 'were'} given"
        raise ValueError(f"{given}, but a picture needs at least {_LEAST}.")
    bins = min(_BINS, showers // _LEAST)
    if not evaluation.reading.classes:
        energies = {who: np.exp(answer) for who, answer in evaluation.answers.items() if who != "one value for all"}
        return plot_resolution(np.exp(evaluation.target.astype(np.float64)), energies, bins)
    both = evaluation.reading.task != "primary"
    figure = Figure(figsize=(9.5 if both else 5, 3.9), layout="constrained")
    grid: Any = figure.subplots(1, 2 if both else 1, squeeze=False)
    _plot_over_counts(grid[0, 0], evaluation, bins)
    if both:
        _plot_confusion(grid[0, 1], evaluation)
    return figure


def _plot_over_counts(axes: "Axes", evaluation: Evaluation, bins: int) -> None:
    parts = distinct_bins(evaluation.counts, bins, least=_LEAST)
    middle = [evaluation.counts[part].mean() for part in parts]
    for number, who in enumerate(evaluation.answers):
        share = _right_shares(evaluation, who)
        axes.plot(
            middle,
            [share[part].mean() for part in parts],
            color=COLOURS[number % len(COLOURS)],
            marker=MARKERS[number % len(MARKERS)],
            markersize=5,
            linewidth=1.4,
            label=who,
        )
    accuracy = "accuracy up to exchange" if evaluation.reading.task == "primary" else "accuracy"
    axes.set(xlabel="number of hits", ylabel=accuracy, ylim=(0, 1.02))
    hide_frame(axes)
    axes.legend(frameon=False, fontsize=9)


def _right_shares(evaluation: Evaluation, who: str) -> FloatArray:
    """Give the share of right answers of each shower."""
    right = evaluation.right(who)
    if evaluation.reading.about.level == "shower":
        return right
    shower = np.arange(len(evaluation.counts)).repeat(evaluation.counts)
    shares = np.bincount(shower, right, len(evaluation.counts)) / np.maximum(evaluation.counts, 1)
    return np.asarray(shares, dtype=np.float64)


def _plot_confusion(axes: "Axes", evaluation: Evaluation) -> None:
    counts, names = evaluation.confusion(), [literal(name) for name in evaluation.reading.classes]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(*shares.shape):
        colour = "white" if shares[row, column] > 0.6 else INK
        axes.text(column, row, f"{shares[row, column]:.2f}", ha="center", va="center", fontsize=8, color=colour)
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="answer", ylabel="truth")
