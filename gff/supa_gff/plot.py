"""Plots of training scores and of predicted hit classes."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from supa.arrays import FloatArray, IntArray
from supa.plotting.style import COLOURS, INK, MARKERS, hide_frame

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from supa_learning.training_state import Epoch


def plot_scores(histories: Mapping[str, Sequence["Epoch"]]) -> "Figure":
    """Plot the mean scores of positive and negative labels over the epochs of each layer.

    Args:
        histories: Epochs of each training run, from ``TrainingState.history``, by the name of the method. Each run must
            train a classifier.

    Returns:
        A matplotlib figure with one row of panels for each method and one column for each layer.

    Raises:
        ValueError: If a history has no epochs.
    """
    from matplotlib.figure import Figure

    tables = {name: _score_table(epochs) for name, epochs in histories.items()}
    if not tables or any(len(table) == 0 for table in tables.values()):
        raise ValueError("Each history must contain at least one epoch of a layer; train the network first.")
    layers = sorted({int(layer) for table in tables.values() for layer in table[:, 0]})
    figure = Figure(figsize=(2.9 * len(layers) + 0.6, 2.3 * len(tables) + 0.5), layout="constrained")
    grid: Any = figure.subplots(len(tables), len(layers), squeeze=False, sharey="row")
    for row, (name, table) in zip(grid, tables.items(), strict=True):
        for axes, layer in zip(row, layers, strict=True):
            own = table[table[:, 0] == layer]
            for column, label, colour, line in ((2, "positive", COLOURS[0], "-"), (3, "negative", COLOURS[1], "--")):
                axes.plot(own[:, 1] + 1, own[:, column], color=colour, linestyle=line, linewidth=1.6, label=label)
            axes.fill_between(own[:, 1] + 1, own[:, 2], own[:, 3], color=COLOURS[0], alpha=0.08, linewidth=0)
            hide_frame(axes)
            axes.xaxis.get_major_locator().set_params(integer=True)
        row[0].set_ylabel(f"{name}\nmean score")
    for axes, layer in zip(grid[0], layers, strict=True):
        axes.set_title(f"layer {layer + 1}", fontsize=11, color=INK)
    for axes in grid[-1]:
        axes.set_xlabel("epoch")
    grid[0, 0].legend(frameon=False, fontsize=9)
    return figure


def _score_table(epochs: Sequence["Epoch"]) -> FloatArray:
    """Return an array with the columns layer, epoch, mean positive score and mean negative score."""
    rows = [
        (int(part.removeprefix("layer")), epoch.epoch, figures["positive"], figures["negative"])
        for epoch in epochs
        for part, figures in epoch.train.items()
        if part.startswith("layer")
    ]
    return np.array(rows, dtype=np.float64).reshape(-1, 4)


def plot_hit_classes(
    depth: FloatArray, across: FloatArray, panels: Mapping[str, IntArray], classes: Sequence[str]
) -> "Figure":
    """Plot the hits of one shower from the side, coloured by class, with one panel for each classification.

    The first panel is the reference. In the other panels, rings mark the hits whose class differs from it.

    Args:
        depth: (hits,) float64 coordinate z along the beam, in length units.
        across: (hits,) float64 transverse coordinate, in length units.
        panels: (hits,) int64 class of each hit, by the title of the panel.
        classes: Names of the classes.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: If there are no hits or no panels, or the lengths of the arrays differ.
    """
    from matplotlib.figure import Figure

    if not panels or len(depth) == 0 or any(len(values) != len(depth) for values in (across, *panels.values())):
        raise ValueError("There must be at least one hit and one panel, and all arrays must have the same length.")
    figure = Figure(figsize=(3.6 * len(panels) + 0.5, 4.0), layout="constrained")
    grid: Any = figure.subplots(1, len(panels), squeeze=False, sharex=True, sharey=True)
    # Hits of a slice have the same depth. A small random shift prevents overlapping markers.
    shift = np.random.default_rng(0).uniform(-0.6, 0.6, len(depth))
    first = next(iter(panels.values()))
    for axes, (name, values) in zip(grid[0], panels.items(), strict=True):
        for number, label in enumerate(classes):
            chosen = values == number
            axes.scatter(
                (depth + shift)[chosen],
                across[chosen],
                s=20,
                marker=MARKERS[number % len(MARKERS)],
                color=COLOURS[number % len(COLOURS)],
                edgecolors="white",
                linewidths=0.4,
                label=label,
            )
        wrong = values != first
        axes.scatter(
            (depth + shift)[wrong], across[wrong], s=62, facecolors="none", edgecolors=INK, linewidths=0.7,
            label="misclassified" if wrong.any() else None,
        )  # fmt: skip
        right = "" if values is first else f": {1 - wrong.mean():.0%} correct"
        axes.set_title(f"{name}{right}", fontsize=11, color=INK)
        axes.set_xlabel("depth $z$ (length units)")
        hide_frame(axes)
    grid[0, 0].set_ylabel("transverse coordinate $u$ (length units)")
    handles, labels = grid[0, -1].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, fontsize=9, loc="outside lower center", ncols=len(labels))
    return figure
