"""Profiles and spectra of many showers, with the exact expectation where there is one."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from supa.arrays import FloatArray
from supa.checks import counted
from supa.expectations import Expectation, NoClosedFormError, expectation
from supa.plotting.style import COLOURS, INK, LINES, MARKERS, deduplicate_labels, hide_frame, remark
from supa.running_moments import RunningMoments
from supa.showers import Showers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class _Profiles:
    """Sums over showers of what the profile picture shows; energies as fractions of the incident energy."""

    def __init__(self, first: Showers) -> None:
        self.run = first.run
        config = first.config
        self.count = self.num_hits = 0
        self.moments = {"hits": RunningMoments(), "energy": RunningMoments()}
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
                self.moments[name].add(sums)
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
    for label, sample in zip(deduplicate_labels(labels), samples, strict=True):
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
        line, named = LINES[number % len(LINES)], number == 0
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
                line = LINES[number % len(LINES)]
                axes.plot([], [], color=INK, linestyle=line, linewidth=1.2, label=label)
    for axes in (grid[1, 0], grid[1, 1]):
        if axes.get_legend_handles_labels()[1]:
            axes.legend(frameon=False, fontsize=8)
    grid[1, 0].set(xlabel="distance from the axis (length unit)", ylabel="energy fraction per bin")
    grid[1, 1].set(xlabel="hit energy / incident energy", ylabel="hits per shower and bin", xscale="log")
    _plot_layer_shares(grid[1, 2], drawn, exact)
    for axes in grid.flat:
        hide_frame(axes)
    figure.suptitle(_title(drawn, exact), fontsize=12, color=INK)
    return figure


def _use_logarithms(axes: "Axes", drawn: bool, samples: dict[str, _Profiles], **scales: str) -> None:
    """Make axes logarithmic, or say why nothing is drawn on them."""
    if drawn:
        axes.set(**scales)
        return
    hits = any(profiles.num_hits for profiles in samples.values())
    remark(axes, "nothing in this range" if hits else "no hits")


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
        mean, error = profiles.moments[name].mean, profiles.moments[name].standard_error
        slices, seen = np.arange(len(mean)), mean > 0
        if exact is not None and number == 0:
            values = exact.hits if name == "hits" else exact.energy
            axes.stairs(
                np.where(values > 0, values, np.nan),
                np.arange(len(mean) + 1) - 0.5,
                color=INK,
                linewidth=1.2,
                label="exact" if len(drawn) == 1 else f"exact, {label}",
            )
        axes.errorbar(
            slices[seen] + 0.12 * (number - (len(drawn) - 1) / 2),
            mean[seen],
            error[seen],
            fmt=MARKERS[number % len(MARKERS)],
            markersize=3.5,
            color=COLOURS[number % len(COLOURS)],
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
        remark(axes, "the hits' slices are not known")


def _plot_multiplicity(axes: "Axes", drawn: dict[str, _Profiles], exact: Expectation | None) -> None:
    most = max(len(profiles.multiplicity) for profiles in drawn.values())
    step = max(1, round(most / 60))
    edges = np.arange(0, most + step, step)
    for number, (label, profiles) in enumerate(drawn.items()):
        counts = np.pad(profiles.multiplicity, (0, most - len(profiles.multiplicity)))
        density = np.add.reduceat(counts, edges[:-1]) / profiles.count / step
        colour, mean = COLOURS[number % len(COLOURS)], np.average(np.arange(most), weights=counts)
        if len(drawn) == 1:
            axes.stairs(density, edges - 0.5, fill=True, alpha=0.45, color=colour)
            axes.axvline(mean, color=colour, label=f"mean, {_labelled(label, drawn)}")
        else:
            axes.stairs(density, edges - 0.5, color=colour, linewidth=1.2, label=f"{label}, mean {mean:.2f}")
    if exact is not None:
        axes.axvline(exact.total_hits, color=INK, linestyle="--", label=f"mean, exact: {exact.total_hits:.2f}")
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
            color=COLOURS[layer % len(COLOURS)],
            linewidth=1.2,
            linestyle=linestyle,
            label=f"layer {layer}" if named and len(histograms) <= len(COLOURS) else None,
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
            color=[COLOURS[(k if alone else number) % len(COLOURS)] for k in layers],
            alpha=0.75,
            label=_labelled(label, drawn),
        )
    if exact is not None:
        number_of = np.arange(len(exact.layer_energy))
        axes.plot(number_of, exact.layer_energy, "_", color=INK, markersize=26, markeredgewidth=1.5, label="exact")
    axes.set(xlabel="layer", ylabel="energy / incident energy")
    filled = exact is not None or any(profiles.layer_energy.any() for profiles in drawn.values())
    _use_logarithms(axes, filled, drawn, yscale="log")
    layers = np.arange(max(profiles.run.config.num_layers for profiles in drawn.values()))
    axes.set_xticks(layers if len(layers) <= 2 * len(COLOURS) else layers[:: len(layers) // 10])
    axes.legend(frameon=False, fontsize=8)
