"""One shower in three dimensions."""

from typing import TYPE_CHECKING, Any

import numpy as np

from supa.plotting.geometry import hit_depths, relative_log
from supa.plotting.style import COLOURS, GRID, INK, hits_text, shower_name
from supa.showers import Showers

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_shower(shower: Showers) -> "Figure":
    """Draw one shower in three dimensions: its hits and, where recorded, its tree.

    A hit of an imported shower that knows only its layer is drawn in the middle of that layer, and the title says so.

    Args:
        shower: Showers of length one.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: it is not one shower.
    """
    from matplotlib.figure import Figure
    from mpl_toolkits.mplot3d.art3d import Line3DCollection

    if len(shower) != 1:
        raise ValueError(f"{len(shower)} showers were given, but this draws one; choose one, such as showers[0].")
    dz = shower.config.slice_spacing
    z = hit_depths(shower)
    figure = Figure(figsize=(9, 5.2), layout="constrained")
    axes: Any = figure.add_subplot(projection="3d", computed_zorder=False)
    if shower.particles is not None:
        tree = shower.particles
        parent: Any = tree["parent"]
        child = np.flatnonzero(parent >= 0)
        points = np.column_stack([np.multiply(tree["slice"], dz), tree["x"], tree["y"]])
        weight = relative_log(np.asarray(tree["energy"], dtype=np.float64)[child], float(np.max(tree["energy"])))
        if len(child):
            axes.add_collection3d(
                Line3DCollection(
                    np.stack([points[parent[child]], points[child]], axis=1),
                    colors=[(0.2, 0.2, 0.2, 0.3 + 0.5 * w) for w in weight],
                    linewidths=0.5 + 1.8 * weight,
                    zorder=1,
                )
            )
    for layer in range(shower.config.num_layers):
        chosen = shower.layer == layer
        if chosen.any():
            weight = relative_log(shower.energy.astype(np.float64), float(shower.energy.max()))[chosen]
            axes.scatter(
                z[chosen],
                shower.x[chosen],
                shower.y[chosen],
                s=16 + 56 * weight,
                color=COLOURS[layer % len(COLOURS)],
                edgecolors="white",
                linewidths=0.3,
                depthshade=False,
                label=f"layer {layer}: {hits_text(int(chosen.sum()))}, {shower.energy[chosen].sum():.3g} GeV",
                zorder=2,
            )
    reach = max(1.0, float(np.abs(np.concatenate([shower.x, shower.y])).max(initial=0.0)))
    deepest = float(z.max(initial=0.0)) or dz * (shower.config.num_slices - 1)  # the whole depth where there is no hit
    axes.set(xlim=(0, dz + deepest), ylim=(-reach, reach), zlim=(-reach, reach))
    axes.set_box_aspect((2.2, 1, 1), zoom=1.25)
    axes.view_init(elev=14, azim=-72)
    axes.set(xlabel="depth (length unit)", ylabel="x (length unit)", zlabel="y (length unit)")
    axes.locator_params(axis="y", nbins=4)
    axes.locator_params(axis="z", nbins=5)
    for collection in axes.collections:
        collection.set_clip_on(False)  # the flat rectangle behind a rotated box would cut off its corners
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        axis.set_pane_color((1, 1, 1, 0))
        axis._axinfo["grid"].update(color=GRID, linewidth=0.5)
    title = f"{shower_name(shower)}: {shower.incident_energy[0]:.4g} GeV, {hits_text(shower.hits.num_rows)}"
    if not shower.slices_known:
        title += "\nThe hits' slices are not known; the hits are drawn in the middle of their layers."
    axes.set_title(title, fontsize=11, color=INK)
    if shower.hits.num_rows:
        legend = axes.legend(loc="upper left", fontsize=8, frameon=False)
        for handle in legend.legend_handles:
            handle.set_sizes([36])
    return figure
