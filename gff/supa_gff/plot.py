"""Plots of a training, and of predicted classes of hits."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from supa.arrays import FloatArray, IntArray
from supa.plotting.style import COLOURS, INK, MARKERS, hide_frame

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from supa_learning.training_state import Epoch


def plot_scores(histories: Mapping[str, Sequence["Epoch"]]) -> "Figure":
    """Plot how each layer separates positive from negative labels during training: one row for each method.

    Args:
        histories: the epochs of trainings by name, from ``TrainingState.history``; not of regression.

    Returns:
        A matplotlib figure: mean positive and negative scores over the epochs of each layer.

    Raises:
        ValueError: there is no epoch.
    """
    from matplotlib.figure import Figure

    tables = {name: _score_table(epochs) for name, epochs in histories.items()}
    if not tables or any(len(table) == 0 for table in tables.values()):
        raise ValueError("There is no epoch to draw in some of the histories; train first.")
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
        axes.set_xlabel("epoch of the layer")
    grid[0, 0].legend(frameon=False, fontsize=9)
    return figure


def _score_table(epochs: Sequence["Epoch"]) -> FloatArray:
    """Return rows of layer, epoch, mean positive score and mean negative score."""
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
    """Draw the hits of one shower from the side, in a panel for each classification; the first one is the true one.

    Args:
        depth: (hits,) float64 z, length unit.
        across: (hits,) float64 transverse coordinate, length unit.
        panels: (hits,) int64 class of each hit, by the name of the classification; rings mark differences to the first.
        classes: names of the classes.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: there are no hits or no panels, or their lengths differ.
    """
    from matplotlib.figure import Figure

    if not panels or len(depth) == 0 or any(len(values) != len(depth) for values in (across, *panels.values())):
        raise ValueError("There must be at least one hit, with one position and, in each panel, one class.")
    figure = Figure(figsize=(3.6 * len(panels) + 0.5, 4.0), layout="constrained")
    grid: Any = figure.subplots(1, len(panels), squeeze=False, sharex=True, sharey=True)
    # Hits of a slice have the same depth; a small shift keeps them from hiding each other.
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
            label="wrong" if wrong.any() else None,
        )  # fmt: skip
        right = "" if values is first else f": {1 - wrong.mean():.0%} right"
        axes.set_title(f"{name}{right}", fontsize=11, color=INK)
        axes.set_xlabel("depth (length unit)")
        hide_frame(axes)
    grid[0, 0].set_ylabel("across, u (length unit)")
    handles, labels = grid[0, -1].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, fontsize=9, loc="outside lower center", ncols=len(labels))
    return figure
