"""Pictures of showers: one in three dimensions, the image of a layer, the profiles of many, and errors of energies."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from supa.arrays import FloatArray
from supa.bins import MOST_SEPARATE, distinct_bins
from supa.cells import Cartesian, Cells
from supa.checks import check_int, counted
from supa.expectations import Expectation, NoClosedFormError, expectation
from supa.image_cells import image_cells
from supa.showers import Showers
from supa.texts import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LAYER_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito: safe for all eyes
_INK = "#333333"
_LINES = ("-", "--", ":", "-.")
_MARKERS = ("o", "s", "^", "D")
_MANY_LAYERS = len(_LAYER_COLOURS)


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
    middle = dz * np.mean(shower.config.readout_layers, axis=1)
    z = np.where(np.isnan(shower.z), middle[shower.layer], shower.z)
    figure = Figure(figsize=(9, 5.2), layout="constrained")
    axes: Any = figure.add_subplot(projection="3d", computed_zorder=False)
    if shower.particles is not None:
        tree = shower.particles
        parent: Any = tree["parent"]
        child = np.flatnonzero(parent >= 0)
        points = np.column_stack([np.multiply(tree["slice"], dz), tree["x"], tree["y"]])
        weight = _relative_log(np.asarray(tree["energy"], dtype=np.float64)[child])
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
            weight = _relative_log(shower.energy.astype(np.float64))[chosen]
            axes.scatter(
                z[chosen],
                shower.x[chosen],
                shower.y[chosen],
                s=16 + 56 * weight,
                color=_LAYER_COLOURS[layer % _MANY_LAYERS],
                edgecolors="white",
                linewidths=0.3,
                depthshade=False,
                label=f"layer {layer}: {_hits(int(chosen.sum()))}, {shower.energy[chosen].sum():.3g} GeV",
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
        axis._axinfo["grid"].update(color="#e6e6e6", linewidth=0.5)
    title = f"{_one(shower)}: {shower.incident_energy[0]:.4g} GeV, {_hits(shower.hits.num_rows)}"
    if not shower.slices_known:
        title += "\nThe hits' slices are not known; the hits are drawn in the middle of their layers."
    axes.set_title(title, fontsize=11, color=_INK)
    if shower.hits.num_rows:
        legend = axes.legend(loc="upper left", fontsize=8, frameon=False)
        for handle in legend.legend_handles:
            handle.set_sizes([36])
    return figure


def _one(shower: Showers) -> str:
    """Name one shower."""
    run = shower.run
    return f"shower {shower.index[0]}, {f'seed {run.seed}' if run.seed is not None else f'{run.engine}'}"


def _relative_log(energy: FloatArray) -> FloatArray:
    """Energies on a logarithmic scale from 0 (a thousandth of the largest, or less) to 1 (the largest)."""
    if not len(energy) or not energy.max() > 0:
        return np.zeros(len(energy))
    return np.asarray(np.clip(1 + np.log10(np.maximum(energy / energy.max(), 1e-3)) / 3, 0, 1))


def _hits(number: int) -> str:
    return counted(number, "hit") if number else "no hits"


def plot_image(sample: Showers | Iterable[Showers], layer: int, *, cells: Cells | None = None) -> "Figure":
    """Draw the energy in the cells of one readout layer: of one shower, or the mean over showers.

    Args:
        sample: showers, or an iterable over chunks, of one config.
        layer: the readout layer.
        cells: rectangular or polar cells; by default those that ``supa.image_cells.image_cells`` chooses for the first
            hits of the layer: the showers' own cells where every hit is at the centre of one, else squares.

    Returns:
        A matplotlib figure; energies in GeV on a logarithmic scale of colours, cells without energy are empty.

    Raises:
        ValueError: there is no shower, no such layer, or the showers are of several configs.

    Example:
        >>> plot_image(showers[3], layer=0).savefig("image.png")
    """
    from matplotlib.figure import Figure

    image = _Image(layer, cells)
    for chunk in [sample] if isinstance(sample, Showers) else sample:
        image.add(chunk)
    if not image.count:
        raise ValueError("There is no shower to draw.")
    figure = Figure(figsize=(6.4, 5.6), layout="constrained")
    axes: Any = figure.subplots()
    axes.set(xlabel="x (length unit)", ylabel="y (length unit)", aspect="equal")
    image.draw(figure, axes)
    axes.set_title(image.title(), fontsize=10, color=_INK)
    return figure


class _Image:
    """Sums of the energy in the cells of one layer, over showers."""

    def __init__(self, layer: int, cells: Cells | None) -> None:
        self.layer, self.cells = layer, cells
        self.count = self.num_hits = 0
        self.energy = self.outside = 0.0
        self.sums: FloatArray = np.zeros(0)
        self.first: Showers | None = None

    def add(self, showers: Showers) -> None:
        if self.first is None:
            check_int(0, showers.config.num_layers - 1, "layer", self.layer)
            self.first = showers[:1]
        if showers.config != self.first.config:
            raise ValueError("Showers of different configs cannot be drawn as one sample; draw each on its own.")
        if not len(self.first):
            self.first = showers[:1]
        self.count += len(showers)
        chosen = showers.layer == self.layer
        if not chosen.any():
            return
        if self.cells is None:
            self.cells = image_cells(showers, self.layer)
        cell = self.cells.cell(showers.x[chosen], showers.y[chosen])
        energy = showers.energy[chosen].astype(np.float64)
        size = self.cells.shape[0] * self.cells.shape[1]
        sums = np.bincount(cell[cell >= 0], energy[cell >= 0], minlength=size).astype(np.float64)
        self.sums = sums if not len(self.sums) else self.sums + sums
        self.outside += energy[cell < 0].sum()
        self.energy += energy.sum()
        self.num_hits += len(energy)

    def title(self) -> str:
        assert self.first is not None
        hits = f"{_hits(self.num_hits)} in layer {self.layer}"
        if self.count == 1:
            title = f"{_one(self.first)}: {self.first.incident_energy[0]:.4g} GeV, {hits}"
        else:
            title = f"mean of {self.count:,} showers, {hits}"
        if not self.outside:
            return title
        share = 100 * self.outside / self.energy
        return f"{title}\n{share:.2g} % of the layer's energy lies outside the picture"

    def draw(self, figure: "Figure", axes: "Axes") -> None:
        from matplotlib.colors import LogNorm

        mean = self.sums / self.count
        if not mean.any():
            _remark(axes, "no hits in this layer" if not self.num_hits else "no energy in these cells")
            return
        assert self.cells is not None
        x, y, values = _mesh(self.cells, mean.reshape(self.cells.shape))
        most = float(mean.max())
        scale = LogNorm(max(min(float(mean[mean > 0].min()), most / 10), most * 1e-6), most)
        colours = axes.pcolormesh(x, y, np.where(values > 0, values, np.nan), norm=scale, cmap="viridis")
        label = "energy in a cell (GeV)" if self.count == 1 else "mean energy of a shower in a cell (GeV)"
        figure.colorbar(colours, ax=axes, label=label, shrink=0.9)


def _mesh(cells: Cells, values: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Give the corners of the cells along x and y, and the values between them."""
    if isinstance(cells, Cartesian):
        return (*np.meshgrid(cells.x_edges, cells.y_edges, indexing="ij"), values)
    steps = -(-180 // cells.num_alpha)  # so that a wide angle is drawn as an arc
    alpha = np.linspace(-np.pi, np.pi, steps * cells.num_alpha + 1)[:, None]
    return cells.r_edges * np.cos(alpha), cells.r_edges * np.sin(alpha), np.repeat(values, steps, axis=0)


class _Profiles:
    """Sums over showers of what the profile picture shows; energies as fractions of the incident energy."""

    def __init__(self, first: Showers) -> None:
        self.run = first.run
        config = first.config
        self.count = self.num_hits = 0
        self.moments = {name: np.zeros((2, config.num_slices)) for name in ("hits", "energy")}
        self.slices_known = True
        self.layer_energy = np.zeros(config.num_layers)
        self.radius_edges = np.linspace(0, 20 * config.slice_spacing / 2, 61)
        self.energy_edges = np.logspace(-8, 0, 97)
        self.multiplicity = np.zeros(0, dtype=np.int64)
        self.radius = np.zeros((config.num_layers, len(self.radius_edges) - 1))
        self.spectrum = np.zeros((config.num_layers, len(self.energy_edges) - 1))

    def add(self, showers: Showers) -> None:
        config = self.run.config
        if showers.config != config:
            raise ValueError("Showers of different configs cannot be drawn as one sample; draw each on its own.")
        n, slices = len(showers), config.num_slices
        shower = showers.hits.group_of_row()
        fraction = showers.energy / showers.incident_energy[shower]
        self.layer_energy += np.bincount(showers.layer, weights=fraction, minlength=config.num_layers)
        self.slices_known &= showers.slices_known
        if self.slices_known:
            cell = shower * slices + showers.slice
            for name, weights in (("hits", None), ("energy", fraction)):
                sums = np.bincount(cell, weights=weights, minlength=n * slices).reshape(n, slices)
                self.moments[name] += [sums.sum(axis=0), np.square(sums).sum(axis=0)]
        self.count += n
        self.num_hits += showers.hits.num_rows
        counts = np.bincount(showers.num_hits)
        self.multiplicity = np.pad(self.multiplicity, (0, max(0, len(counts) - len(self.multiplicity))))
        self.multiplicity[: len(counts)] += counts
        radius = np.hypot(showers.x, showers.y)
        for layer in range(config.num_layers):
            chosen = showers.layer == layer
            self.radius[layer] += np.histogram(radius[chosen], self.radius_edges, weights=fraction[chosen])[0]
            self.spectrum[layer] += np.histogram(fraction[chosen], self.energy_edges)[0]

    def mean_and_error(self, name: str) -> tuple[FloatArray, FloatArray]:
        total, squares = self.moments[name]
        mean = total / self.count
        return mean, np.sqrt(np.maximum(squares / self.count - mean**2, 0) / self.count)


def plot_profiles(*samples: Showers | Iterable[Showers], labels: Sequence[str] | None = None) -> "Figure":
    """Draw the longitudinal and lateral profiles and the hits' spectra, with the exact expectation where there is one.

    Of several samples the exact expectation is that of the first.

    Args:
        samples: showers, or iterables over chunks; each sample of one config.
        labels: a name for each sample, where there are several.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: a sample has no shower or is of several configs, or the samples or labels do not fit together.
    """
    from matplotlib.figure import Figure

    labels = [f"sample {k}" for k in range(len(samples))] if labels is None else list(labels)
    if not samples or len(labels) != len(samples):
        raise ValueError(f"{len(labels)} labels were given for {len(samples)} samples; give one for each.")
    drawn = {}
    for label, sample in zip(_told_apart(labels), samples, strict=True):
        profiles: _Profiles | None = None
        for chunk in [sample] if isinstance(sample, Showers) else sample:
            profiles = profiles or _Profiles(chunk)
            profiles.add(chunk)
        if profiles is None or profiles.count == 0:
            raise ValueError(f"There is no shower to draw{f' in {label}' if len(samples) > 1 else ''}.")
        drawn[label] = profiles
    figure = Figure(figsize=(11, 7.5), layout="constrained")
    grid: Any = figure.subplots(2, 3)
    exact = _expectation_of(next(iter(drawn.values())))
    for axes, name, text in (
        (grid[0, 0], "hits", "hits per shower"),
        (grid[0, 1], "energy", "energy / incident energy"),
    ):
        _plot_longitudinal(axes, drawn, name, text, exact)
    _plot_multiplicity(grid[0, 2], drawn, exact)
    for number, profiles in enumerate(drawn.values()):
        line, named = _LINES[number % len(_LINES)], number == 0
        for axes, histograms, edges in (
            (grid[1, 0], profiles.radius, profiles.radius_edges),
            (grid[1, 1], profiles.spectrum, profiles.energy_edges),
        ):
            _plot_layers(axes, histograms, edges, profiles.count, linestyle=line, named=named)
    _use_logarithms(grid[1, 0], any(profiles.radius.any() for profiles in drawn.values()), drawn, yscale="log")
    _use_logarithms(grid[1, 1], any(profiles.spectrum.any() for profiles in drawn.values()), drawn, yscale="log")
    if len(drawn) > 1:
        for axes in (grid[1, 0], grid[1, 1]):
            for number, label in enumerate(drawn):
                line = _LINES[number % len(_LINES)]
                axes.plot([], [], color=_INK, linestyle=line, linewidth=1.2, label=label)
    for axes in (grid[1, 0], grid[1, 1]):
        if axes.get_legend_handles_labels()[1]:
            axes.legend(frameon=False, fontsize=8)
    grid[1, 0].set(xlabel="distance from the axis (length unit)", ylabel="energy fraction per bin")
    grid[1, 1].set(xlabel="hit energy / incident energy", ylabel="hits per shower and bin", xscale="log")
    _plot_layer_shares(grid[1, 2], drawn, exact)
    for axes in grid.flat:
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(_title(drawn, exact), fontsize=12, color=_INK)
    return figure


def _use_logarithms(axes: "Axes", drawn: bool, samples: dict[str, _Profiles], **scales: str) -> None:
    """Make axes logarithmic, or say why nothing is drawn on them."""
    if drawn:
        axes.set(**scales)
        return
    hits = any(profiles.num_hits for profiles in samples.values())
    _remark(axes, "nothing in this range" if hits else "no hits")


def _remark(axes: "Axes", words: str) -> None:
    """Say on axes why nothing is drawn."""
    axes.text(0.5, 0.5, words, transform=axes.transAxes, ha="center", va="center", fontsize=9, color=_INK)
    axes.tick_params(which="both", left=False, bottom=False, labelleft=False, labelbottom=False)


def _told_apart(labels: Sequence[str]) -> list[str]:
    """Number labels that are equal, and take them as they are: a dollar begins no formula."""
    return [literal(f"{label} ({k})" if labels.count(label) > 1 else label) for k, label in enumerate(labels)]


def literal(text: str) -> str:
    """Write a user's text for matplotlib, which reads what stands between dollars as a formula.

    Args:
        text: the text.

    Returns:
        The text, its dollars and what is not printable escaped.
    """
    return printable(text).replace("$", r"\$")


def _title(drawn: dict[str, _Profiles], exact: Expectation | None) -> str:
    if len(drawn) > 1:
        return "; ".join(f"{label}: {counted(profiles.count, 'shower')}" for label, profiles in drawn.items())
    (profiles,) = drawn.values()
    run = profiles.run
    # The config of imported showers is that which they imitate; their own energies may be others.
    imported = run.engine == "imported"
    kind = "" if imported else f" at {run.config.spectrum} GeV, keep={run.keep}"
    showers = counted(profiles.count, "imported shower" if imported else "shower")
    without = "" if profiles.num_hits else ", no hits"
    return f"{showers}{kind}{without}{'' if exact else '; no closed form with a critical energy'}"


def _expectation_of(profiles: _Profiles) -> Expectation | None:
    try:
        return expectation(profiles.run.config, keep=profiles.run.keep)
    except NoClosedFormError:
        return None


def _plot_longitudinal(
    axes: "Axes", drawn: dict[str, _Profiles], name: str, text: str, exact: Expectation | None
) -> None:
    lowest = np.inf
    for number, (label, profiles) in enumerate(drawn.items()):
        if not profiles.slices_known:
            continue
        mean, error = profiles.mean_and_error(name)
        slices, seen = np.arange(len(mean)), mean > 0
        if exact is not None and number == 0:
            values = exact.hits if name == "hits" else exact.energy
            axes.stairs(
                np.where(values > 0, values, np.nan),
                np.arange(len(mean) + 1) - 0.5,
                color=_INK,
                linewidth=1.2,
                label="exact" if len(drawn) == 1 else f"exact, {label}",
            )
        axes.errorbar(
            slices[seen] + 0.12 * (number - (len(drawn) - 1) / 2),
            mean[seen],
            error[seen],
            fmt=_MARKERS[number % len(_MARKERS)],
            markersize=3.5,
            color=_LAYER_COLOURS[number % _MANY_LAYERS],
            label=_labelled(label, drawn),
        )
        lowest = min(lowest, mean[seen].min(initial=np.inf))
    axes.set(xlabel="slice", ylabel=text)
    if not any(profiles.num_hits for profiles in drawn.values()) and exact is None:
        _use_logarithms(axes, False, drawn)
    elif axes.get_legend_handles_labels()[1]:
        axes.set(yscale="log", ylim=(max(min(lowest, 1.0) / 3, 1e-12) if np.isfinite(lowest) else 1e-6, None))
        axes.legend(frameon=False, fontsize=8)
    else:
        _remark(axes, "the hits' slices are not known")


def _plot_multiplicity(axes: "Axes", drawn: dict[str, _Profiles], exact: Expectation | None) -> None:
    most = max(len(profiles.multiplicity) for profiles in drawn.values())
    step = max(1, round(most / 60))
    edges = np.arange(0, most + step, step)
    for number, (label, profiles) in enumerate(drawn.items()):
        counts = np.pad(profiles.multiplicity, (0, most - len(profiles.multiplicity)))
        density = np.add.reduceat(counts, edges[:-1]) / profiles.count / step
        colour, mean = _LAYER_COLOURS[number % _MANY_LAYERS], np.average(np.arange(most), weights=counts)
        if len(drawn) == 1:
            axes.stairs(density, edges - 0.5, fill=True, alpha=0.45, color=colour)
            axes.axvline(mean, color=colour, label=f"mean, {_labelled(label, drawn)}")
        else:
            axes.stairs(density, edges - 0.5, color=colour, linewidth=1.2, label=f"{label}, mean {mean:.2f}")
    if exact is not None:
        axes.axvline(exact.total_hits, color=_INK, linestyle="--", label=f"mean, exact: {exact.total_hits:.2f}")
    axes.set(xlabel="hits of a shower", ylabel="share of showers per hit")
    axes.locator_params(axis="x", integer=True)
    axes.legend(frameon=False, fontsize=8)


def _plot_layers(
    axes: "Axes", histograms: FloatArray, edges: FloatArray, count: int, *, linestyle: str, named: bool
) -> None:
    for layer, histogram in enumerate(histograms):
        if not histogram.any():
            continue
        axes.stairs(
            np.where(histogram > 0, histogram / count, np.nan),
            edges,
            color=_LAYER_COLOURS[layer % _MANY_LAYERS],
            linewidth=1.2,
            linestyle=linestyle,
            label=f"layer {layer}" if named and len(histograms) <= _MANY_LAYERS else None,
        )


def _labelled(label: str, drawn: dict[str, _Profiles]) -> str:
    """Name a sample in a legend."""
    name = label if len(drawn) > 1 else "imported" if drawn[label].run.engine == "imported" else "simulated"
    return name if drawn[label].num_hits else f"{name}: no hits"


def _plot_layer_shares(axes: "Axes", drawn: dict[str, _Profiles], exact: Expectation | None) -> None:
    width = 0.8 / len(drawn)
    for number, (label, profiles) in enumerate(drawn.items()):
        layers = np.arange(profiles.run.config.num_layers)
        alone = len(drawn) == 1
        axes.bar(
            layers + width * (number - (len(drawn) - 1) / 2),
            profiles.layer_energy / profiles.count,
            width=width,
            color=[_LAYER_COLOURS[(k if alone else number) % _MANY_LAYERS] for k in layers],
            alpha=0.75,
            label=_labelled(label, drawn),
        )
    if exact is not None:
        number_of = np.arange(len(exact.layer_energy))
        axes.plot(number_of, exact.layer_energy, "_", color=_INK, markersize=26, markeredgewidth=1.5, label="exact")
    axes.set(xlabel="layer", ylabel="energy / incident energy")
    filled = exact is not None or any(profiles.layer_energy.any() for profiles in drawn.values())
    _use_logarithms(axes, filled, drawn, yscale="log")
    layers = np.arange(max(profiles.run.config.num_layers for profiles in drawn.values()))
    axes.set_xticks(layers if len(layers) <= 2 * _MANY_LAYERS else layers[:: len(layers) // 10])
    axes.legend(frameon=False, fontsize=8)


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
            "color": _LAYER_COLOURS[number % _MANY_LAYERS], "marker": _MARKERS[number % len(_MARKERS)], "markersize": 5,
            "linewidth": 1.4, "label": name,
        }  # fmt: skip
        grid[0].plot(centre, middle, **style)
        grid[1].plot(centre, error, **style)
    grid[0].axhline(1, color=_INK, linewidth=0.8, linestyle=":")
    grid[0].set(ylabel="median of predicted / true energy")
    grid[1].set(ylabel="rms of ln (predicted / true energy)", ylim=(0, None))
    grid[1].legend(frameon=False, fontsize=9)
    for axes in grid:
        axes.set(xscale="log", xlabel="incident energy (GeV)")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.spines[["top", "right"]].set_visible(False)
    return figure
