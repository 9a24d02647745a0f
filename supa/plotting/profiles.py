"""Profiles and spectra of samples of showers, together with their exact expectations."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from supa.arrays import FloatArray
from supa.checks import counted
from supa.expectations import Expectation, NoClosedFormError, expectation
from supa.plotting.style import (
    COLOURS,
    INK,
    LINES,
    MARKERS,
    deduplicate_labels,
    hide_frame,
    remark,
    use_log_scale,
)
from supa.running_moments import RunningMoments
from supa.showers import Showers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class _Profiles:
    """Sums over showers for the figure of profiles; energies are fractions of the incident energy."""

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
            raise ValueError(
                "Showers of different configs cannot be drawn as one sample; draw each config as its own sample."
            )
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
    """Draw profiles and spectra of one or several samples, together with the exact expectation.

    The panels show hits and energy per slice, the number of hits per shower, the energy as a function of the distance
    from the axis, the spectrum of hit energies, and the energy per layer. The exact expectation is that of the first
    sample. It is not drawn if the config has a critical energy, because it then has no closed form.

    Args:
        samples: Showers, or iterables over chunks of showers. All showers of a sample have the same config.
        labels: Label of each sample; "sample 0", "sample 1", ... by default. A single sample needs no label.

    Returns:
        A ``matplotlib.figure.Figure`` with six panels.

    Raises:
        ValueError: If a sample contains no shower or several configs, or if the number of labels differs from the
            number of samples.

    Example:
        >>> import supa
        >>> from supa.plotting import plot_profiles
        >>> standard, dense = supa.simulate(200, seed=1), supa.simulate(50, "dense", seed=1)
        >>> plot_profiles(standard, dense, labels=["standard", "dense"]).savefig("profiles.png")
    """
    from matplotlib.figure import Figure

    labels = [f"sample {k}" for k in range(len(samples))] if labels is None else list(labels)
    if not samples or len(labels) != len(samples):
        raise ValueError(
            f"{counted(len(labels), 'label')} for {counted(len(samples), 'sample')}: give one label for each sample."
        )
    drawn = {}
    for label, sample in zip(deduplicate_labels(labels), samples, strict=True):
        profiles: _Profiles | None = None
        for chunk in [sample] if isinstance(sample, Showers) else sample:
            profiles = profiles or _Profiles(chunk)
            profiles.add(chunk)
        if profiles is None or profiles.count == 0:
            raise ValueError(f"There is no shower to draw{f' in {label}' if len(samples) > 1 else ''}.")
        drawn[label] = profiles
    figure = Figure(figsize=(11, 7), layout="constrained")
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
    filled = [any(getattr(profiles, name).any() for profiles in drawn.values()) for name in ("radius", "spectrum")]
    if len(drawn) > 1:
        for axes in (grid[1, 0], grid[1, 1]):
            for number, label in enumerate(drawn):
                line = LINES[number % len(LINES)]
                axes.plot([], [], color=INK, linestyle=line, linewidth=1.2, label=label)
    grid[1, 0].set(xlabel="distance from the axis (length unit)", ylabel="energy fraction per bin")
    grid[1, 1].set(xlabel="hit energy / incident energy", ylabel="hits per shower and bin", xlim=(1e-8, 1))
    use_log_scale(grid[1, 1], "x")
    for axes, drawn_on in zip((grid[1, 0], grid[1, 1]), filled, strict=True):
        _finish_log_axes(axes, drawn_on, drawn)
    _plot_layer_shares(grid[1, 2], drawn, exact)
    for axes in grid.flat:
        hide_frame(axes)
    figure.suptitle(_title(drawn, exact), fontsize=12, color=INK)
    return figure


def _finish_log_axes(axes: "Axes", drawn: bool, samples: dict[str, _Profiles], lowest: float | None = None) -> None:
    """Make the vertical axis logarithmic and add a legend above the curves, or write why nothing is drawn."""
    if not drawn:
        hits = any(profiles.num_hits for profiles in samples.values())
        remark(axes, "nothing in this range" if hits else "no hits")
        return
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    low = low if lowest is None else lowest
    labels = axes.get_legend_handles_labels()[1]
    # Each line of the legend takes about 7 % of the height.
    free = 0.05 + 0.07 * len(labels) if labels else 0.05
    axes.set_ylim(low, high * max((high / low) ** (free / (1 - free)), 1.2))
    use_log_scale(axes, "y")
    if labels:
        axes.legend(frameon=False, fontsize=8, loc="upper right", markerscale=0.6)


def _title(drawn: dict[str, _Profiles], exact: Expectation | None) -> str:
    if len(drawn) > 1:
        return "; ".join(f"{label}: {counted(profiles.count, 'shower')}" for label, profiles in drawn.items())
    (profiles,) = drawn.values()
    run = profiles.run
    # Imported showers may have other energies than the config that they imitate.
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
    axes.set(xlabel="slice", ylabel=text, xlim=(-0.5, None))
    if axes.get_legend_handles_labels()[1]:
        _finish_log_axes(axes, True, drawn, max(min(lowest, 1.0) / 3, 1e-12) if np.isfinite(lowest) else 1e-6)
    elif any(profiles.num_hits for profiles in drawn.values()):
        remark(axes, "slices are not recorded")
    else:
        _finish_log_axes(axes, False, drawn)


def _plot_multiplicity(axes: "Axes", drawn: dict[str, _Profiles], exact: Expectation | None) -> None:
    most = max(len(profiles.multiplicity) for profiles in drawn.values())
    step = max(1, round(most / 60))
    edges = np.arange(0, most + step, step)
    for number, (label, profiles) in enumerate(drawn.items()):
        counts = np.pad(profiles.multiplicity, (0, most - len(profiles.multiplicity)))
        density = np.add.reduceat(counts, edges[:-1]) / profiles.count / step
        colour, mean = COLOURS[number % len(COLOURS)], np.average(np.arange(most), weights=counts)
        axes.stairs(density, edges - 0.5, fill=len(drawn) == 1, alpha=0.45 if len(drawn) == 1 else 1, color=colour)
        # Markers at different heights, since lines at equal means would hide each other.
        axes.plot(
            mean,
            density.max(initial=0) * (0.5 - 0.1 * number),
            MARKERS[number % len(MARKERS)],
            color=colour,
            markeredgecolor="white",
            markersize=8,
            linestyle="",
            label=f"{_labelled(label, drawn)}: mean {mean:.2f}",
        )
    if exact is not None:
        axes.axvline(exact.total_hits, color=INK, linestyle="--", label=f"exact: mean {exact.total_hits:.2f}", zorder=1)
    axes.set(xlabel="hits per shower", ylabel="fraction of showers per number of hits")
    axes.set_ylim(0, axes.get_ylim()[1] * (1.05 + 0.08 * (len(drawn) + 1)))
    axes.locator_params(axis="x", integer=True)
    axes.legend(frameon=False, fontsize=8, loc="upper right")


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
    """Return the name of a sample for a legend."""
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
            label=None if alone else _labelled(label, drawn),
        )
        if alone:  # the bars have the colours of their layers
            axes.fill_between([], [], color="#8c8c8c", alpha=0.75, label=_labelled(label, drawn))
    if exact is not None:
        number_of = np.arange(len(exact.layer_energy))
        axes.plot(number_of, exact.layer_energy, "_", color=INK, markersize=26, markeredgewidth=1.5, label="exact")
    axes.set(xlabel="layer", ylabel="energy / incident energy")
    filled = exact is not None or any(profiles.layer_energy.any() for profiles in drawn.values())
    _finish_log_axes(axes, filled, drawn)
    layers = np.arange(max(profiles.run.config.num_layers for profiles in drawn.values()))
    axes.set_xticks(layers if len(layers) <= 2 * len(COLOURS) else layers[:: len(layers) // 10])
