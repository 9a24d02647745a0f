"""One shower in three dimensions, with its depth profile and its front view."""

from typing import TYPE_CHECKING, Any

import numpy as np

from supa.plotting.encoding import COLOURS, energy_decades, relative_log
from supa.plotting.geometry import hit_depths, hit_slices
from supa.plotting.style import GRID, INK, hide_frame, hits_text, shower_name
from supa.showers import Showers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_GREY = "#8c8c8c"
_MOST_LEGEND_LAYERS = 8


def plot_shower(shower: Showers) -> "Figure":
    """Draw one shower: in three dimensions with its tree, its energy per slice, and its view from the front.

    Colours show the readout layer, marker sizes the energy of a hit, and line widths the energy of a particle. The tree
    is drawn if the particles were recorded. Hits of imported showers without a slice are drawn in the middle of their
    layer, and the title says so. For a figure that can be rotated, see `plot_interactive`.

    Args:
        shower: Showers of length one.

    Returns:
        A ``matplotlib.figure.Figure``.

    Raises:
        ValueError: If ``shower`` does not contain exactly one shower.

    Example:
        >>> import supa
        >>> from supa.plotting import plot_shower
        >>> showers = supa.simulate(5, seed=1, record="particles")
        >>> plot_shower(showers[3]).savefig("shower.png")
    """
    from matplotlib.figure import Figure

    if len(shower) != 1:
        raise ValueError(f"plot_shower draws one shower, got {len(shower):,}; select one, such as showers[0].")
    figure = Figure(figsize=(11, 6.4))
    space: Any = figure.add_axes((-0.045, 0.275, 0.86, 0.74), projection="3d", computed_zorder=False)
    profile = figure.add_axes((0.065, 0.09, 0.57, 0.185))
    front = figure.add_axes((0.725, 0.09, 0.265, 0.45))
    _draw_space(space, shower)
    _draw_profile(profile, shower)
    _draw_front(front, shower)
    _add_legends(figure, shower)
    title = f"{shower_name(shower)}: {shower.incident_energy[0]:.4g} GeV, {hits_text(shower.hits.num_rows)}"
    if not shower.slices_known:
        title += "\nSlices are not recorded; hits are drawn in the middle of their layers."
    figure.suptitle(title[0].upper() + title[1:], x=0.02, y=0.975, ha="left", fontsize=13, color=INK)
    return figure


def _draw_space(axes: Any, shower: Showers) -> None:
    from mpl_toolkits.mplot3d.art3d import Line3DCollection

    z, spacing = hit_depths(shower), shower.config.slice_spacing
    if shower.particles is not None:
        tree = shower.particles
        parent: Any = tree["parent"]
        child = np.flatnonzero(parent >= 0)
        points = np.column_stack([np.multiply(tree["slice"], spacing), tree["x"], tree["y"]])
        energy = np.asarray(tree["energy"], dtype=np.float64)
        weight = relative_log(energy[child], float(energy.max(initial=0.0)))
        if len(child):
            axes.add_collection3d(
                Line3DCollection(
                    np.stack([points[parent[child]], points[child]], axis=1),
                    colors=[(0.35, 0.35, 0.35, 0.25 + 0.45 * w) for w in weight],
                    linewidths=_line_width(weight),
                    zorder=1,
                )
            )
    for layer, chosen, size in _hits_by_layer(shower):
        axes.scatter(
            z[chosen],
            shower.x[chosen],
            shower.y[chosen],
            s=size,
            color=COLOURS[layer % len(COLOURS)],
            edgecolors="white",
            linewidths=0.4,
            depthshade=False,
            label=f"layer {layer}",
            zorder=2,
        )
    xlim, ylim = _limits(shower)
    deepest = float(z.max(initial=0.0)) or spacing * (shower.config.num_slices - 1)  # the full depth without a hit
    axes.set(xlim=(0, spacing + deepest), ylim=xlim, zlim=ylim)
    axes.set_box_aspect((2.6, 1, 1), zoom=1.33)
    axes.view_init(elev=15, azim=-112)
    axes.set(xlabel="depth (length unit)", ylabel="x (length unit)", zlabel="y (length unit)")
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        axis.set_pane_color((1, 1, 1, 0))
        axis._axinfo["grid"].update(color=GRID, linewidth=0.6)
        axis.label.set(size=10, color=INK)
        axis.line.set_color("#b0b0b0")
    axes.tick_params(labelsize=9, colors=INK, pad=0)
    axes.xaxis.labelpad, axes.yaxis.labelpad, axes.zaxis.labelpad = 8, 2, 0
    axes.locator_params(axis="y", nbins=4)
    axes.locator_params(axis="z", nbins=5)
    for collection in axes.collections:
        collection.set_clip_on(False)  # the flat rectangle behind a rotated box would cut off its corners


def _draw_profile(axes: "Axes", shower: Showers) -> None:
    """Draw the energy in each slice, coloured by layer."""
    slices, spacing = hit_slices(shower), shower.config.slice_spacing
    for layer, chosen, _ in _hits_by_layer(shower):
        used, place = np.unique(slices[chosen], return_inverse=True)
        sums = np.bincount(place, shower.energy[chosen])
        axes.bar(used * spacing, sums, width=0.8 * spacing, color=COLOURS[layer % len(COLOURS)])
    axes.set(xlabel="depth (length unit)", ylabel="energy (GeV)")
    axes.set_title("energy per slice", fontsize=9, color=INK)
    deepest = float(slices.max(initial=0)) or shower.config.num_slices - 1
    axes.set_xlim(0, spacing * (deepest + 1))
    _tidy(axes)


def _draw_front(axes: "Axes", shower: Showers) -> None:
    """Draw the hits along the shower's direction."""
    for layer, chosen, size in _hits_by_layer(shower):
        axes.scatter(
            shower.x[chosen],
            shower.y[chosen],
            s=0.6 * size,
            color=COLOURS[layer % len(COLOURS)],
            edgecolors="white",
            linewidths=0.3,
            alpha=0.85,
        )
    xlim, ylim = _limits(shower)
    axes.set(xlim=xlim, ylim=ylim, aspect="equal", xlabel="x (length unit)")
    axes.set_ylabel("y (length unit)")
    axes.set_title("view from the front", fontsize=9, color=INK)
    axes.locator_params(nbins=5)
    _tidy(axes)


def _tidy(axes: "Axes") -> None:
    hide_frame(axes)
    axes.tick_params(labelsize=9, colors=INK)
    axes.xaxis.label.set(size=9.5, color=INK)
    axes.yaxis.label.set(size=9.5, color=INK)


def _add_legends(figure: "Figure", shower: Showers) -> None:
    """Explain the colours of the layers, the sizes of the markers and the widths of the lines."""
    from matplotlib.lines import Line2D

    def dot(size: float, colour: str, label: str) -> Line2D:
        return Line2D([], [], linestyle="", marker="o", markersize=size**0.5, color=colour, label=label)

    layers = []
    for layer, chosen, _ in _hits_by_layer(shower):
        text = f"layer {layer}: {hits_text(int(chosen.sum()))}, {shower.energy[chosen].sum():.3g} GeV"
        layers.append(dot(60, COLOURS[layer % len(COLOURS)], text))
    hidden = len(layers) - _MOST_LEGEND_LAYERS
    if hidden > 0:
        layers[_MOST_LEGEND_LAYERS:] = [dot(0, "white", f"... and {hidden} more layers")]
    legends = [("Colour: readout layer", layers)]
    largest = float(shower.energy.max(initial=0.0))
    if largest > 0:
        sizes = _size(relative_log(np.array(energy_decades(largest)), largest))
        entries = zip(energy_decades(largest), sizes.tolist(), strict=True)
        legends.append(("Size: hit energy", [dot(size, _GREY, f"{energy:.3g} GeV") for energy, size in entries]))
    if shower.particles is not None:
        most = float(np.max(shower.particles["energy"], initial=0.0))
        widths = _line_width(relative_log(np.array(energy_decades(most)), most))
        lines = [
            Line2D([], [], color=_GREY, linewidth=width, label=f"{energy:.3g} GeV")
            for energy, width in zip(energy_decades(most), widths.tolist(), strict=True)
        ]
        legends.append(("Width: particle energy", lines))
    for number, (title, handles) in enumerate(legends):
        if not handles:
            continue
        place = [(0.715, 0.99), (0.715, 0.81), (0.835, 0.81)][number]
        legend = figure.legend(
            handles=handles,
            title=title,
            loc="upper left",
            bbox_to_anchor=place,
            fontsize=9,
            title_fontsize=9,
            frameon=False,
            alignment="left",
            labelcolor=INK,
        )
        legend.get_title().set(color=INK, weight="bold")


def _hits_by_layer(shower: Showers) -> list[tuple[int, Any, Any]]:
    """Return (layer, mask of its hits, sizes of their markers) of each layer with hits."""
    energy = shower.energy.astype(np.float64)
    size = _size(relative_log(energy, float(energy.max(initial=0.0))))
    masks = ((layer, shower.layer == layer) for layer in range(shower.config.num_layers))
    return [(layer, chosen, size[chosen]) for layer, chosen in masks if chosen.any()]


def _size(weight: Any) -> Any:
    return 12 + 78 * weight**1.5


def _line_width(weight: Any) -> Any:
    return 0.5 + 2.0 * weight


def _limits(shower: Showers) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the limits of x and of y, which have equal lengths and include the axis."""
    ends = [(float(values.min(initial=0.0)), float(values.max(initial=0.0))) for values in (shower.x, shower.y)]
    half = 0.53 * max(1.0, *(high - low for low, high in ends))
    x, y = (((low + high) / 2 - half, (low + high) / 2 + half) for low, high in ends)
    return x, y
