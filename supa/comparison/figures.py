"""Figures of a comparison: histograms with ratios, correlations and example showers."""

from typing import TYPE_CHECKING, Any

import numpy as np

from supa.arrays import FloatArray
from supa.checks import counted
from supa.comparison.results import Comparison, ObservableResult
from supa.comparison.sample_statistics import HIT_BINS, SampleStatistics
from supa.number_format import format_number
from supa.plotting.style import COLOURS, DIVERGING, GENERATED_COLOUR, INK, TRUE_COLOUR, hide_frame, literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = 3
_ROWS = 2
_WIDTH = 9.0  # inches
_FONT_SIZE = 9.5
_LABEL_CHARACTERS = 34  # as many as fit below a panel; longer labels are smaller
_MOST_BINS = 40
_FINE_BINS = 4  # number of bins of a hit histogram in one bin of the figure
_RATIOS = (0.5, 1.5)
_SMALLEST_LOG_RANGE = 30.0


def histogram_figures(comparison: Comparison) -> list["Figure"]:
    """Draw overlaid histograms of every observable and their ratios, with the largest differences first.

    Args:
        comparison: The comparison.

    Returns:
        Figures of at most six observables each.
    """
    from matplotlib.figure import Figure

    figures, page = [], _COLUMNS * _ROWS
    for start in range(0, len(comparison.observables), page):
        results = comparison.observables[start : start + page]
        rows = -(-len(results) // _COLUMNS)
        height = 3.5 * rows + 0.35
        figure = Figure(figsize=(_WIDTH, height))
        grid = figure.add_gridspec(
            rows,
            _COLUMNS,
            left=0.08,
            right=0.985,
            top=1 - 0.9 / height,
            bottom=0.55 / height,
            hspace=0.42,
            wspace=0.38,
        )
        for number, result in enumerate(results):
            pair = grid[number // _COLUMNS, number % _COLUMNS].subgridspec(2, 1, height_ratios=[2.6, 1], hspace=0.14)
            upper, lower = figure.add_subplot(pair[0]), figure.add_subplot(pair[1])
            _plot_histograms(upper, lower, result, comparison)
        handles, labels = figure.axes[0].get_legend_handles_labels()
        band = figure.axes[1].patches[:1]
        figure.legend(
            [*handles, *band],
            [*labels, f"statistical error of {literal(comparison.true.name)}"][: len(handles) + len(band)],
            loc="upper left",
            bbox_to_anchor=(0.07, 1.0),
            ncols=3,
            frameon=False,
            fontsize=_FONT_SIZE + 0.5,
        )
        figures.append(figure)
    return figures


def _plot_histograms(upper: "Axes", lower: "Axes", result: ObservableResult, comparison: Comparison) -> None:
    first, second = comparison.statistics["true"], comparison.statistics["generated"]
    edges, (true, generated), (error1, error2) = _histograms(result, first, second)
    upper.stairs(true, edges, fill=True, color=TRUE_COLOUR, alpha=0.45, label=literal(comparison.true.name))
    upper.stairs(generated, edges, color=GENERATED_COLOUR, linewidth=1.4, label=literal(comparison.generated.name))
    if not true.any() and not generated.any():
        words = "no hits in this range" if result.level == "hit" else "undefined in all showers"
        upper.text(0.5, 0.5, words, transform=upper.transAxes, ha="center", fontsize=_FONT_SIZE, color=INK)
        upper.set_yticks([])
    elif result.level == "hit" and _range_of([true, generated]) > _SMALLEST_LOG_RANGE:
        _use_log_scale(upper)
    else:
        upper.set_ylim(0, 1.08 * max(true.max(), generated.max()))
        upper.locator_params(axis="y", nbins=5)
    _plot_ratio(lower, edges, (true, generated), (error1, error2))
    for axes in (upper, lower):
        axes.set_xlim(edges[0], edges[-1])
        hide_frame(axes)
        axes.tick_params(labelsize=_FONT_SIZE - 0.5)
    upper.tick_params(labelbottom=False)
    lower.ticklabel_format(axis="x", useOffset=False)
    lower.locator_params(axis="x", nbins=4)
    title = (
        f"{result.name}\n$p$ = {format_number(result.p_value, 3)},  $W_1$ = {format_number(result.distance.value, 3)}"
    )
    upper.set_title(title, fontsize=_FONT_SIZE, color=INK, loc="left", linespacing=1.3)
    upper.set_ylabel("fraction of hits" if result.level == "hit" else "fraction of showers", fontsize=_FONT_SIZE)
    lower.set_xlabel(result.label, fontsize=_FONT_SIZE * min(1.0, _LABEL_CHARACTERS / len(result.label)))
    lower.set_ylabel("ratio", fontsize=_FONT_SIZE)


def _plot_ratio(
    axes: "Axes", edges: FloatArray, fractions: tuple[FloatArray, FloatArray], errors: tuple[FloatArray, FloatArray]
) -> None:
    """Draw the ratio of the generated to the true histogram; triangles mark ratios outside the axis."""
    true, generated = fractions
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(true > 0, generated / true, np.nan)
        band, error = (np.where(true > 0, values / true, np.nan) for values in errors)
    low, high = _RATIOS
    centres = (edges[1:] + edges[:-1]) / 2
    axes.stairs(1 + band, edges, baseline=1 - band, fill=True, color=TRUE_COLOUR, alpha=0.35)
    axes.axhline(1, color=INK, linewidth=0.7)
    inside = (ratio >= low) & (ratio <= high)
    style: dict[str, Any] = {"color": GENERATED_COLOUR, "markersize": 3, "linewidth": 0.8}
    axes.errorbar(centres[inside], ratio[inside], error[inside], fmt=".", **style)
    for marker, place, outside in (("v", low + 0.06, ratio < low), ("^", high - 0.06, ratio > high)):
        axes.plot(centres[outside], np.full(np.count_nonzero(outside), place), marker, linestyle="", **style)
    axes.set_ylim(low, high)


def _range_of(histograms: list[FloatArray]) -> float:
    """Return the largest over the smallest filled bin."""
    filled = np.concatenate(histograms)
    filled = filled[filled > 0]
    return float(filled.max() / filled.min()) if len(filled) else 1.0


def _use_log_scale(axes: "Axes") -> None:
    """Use a logarithmic y axis with labels at powers of ten only."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(numticks=5))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _histograms(
    result: ObservableResult, first: SampleStatistics, second: SampleStatistics
) -> tuple[FloatArray, tuple[FloatArray, FloatArray], tuple[FloatArray, FloatArray]]:
    """Return the edges, the fractions per bin and their standard errors.

    Entries outside the edges count in the denominator.
    """
    if result.level == "hit":
        name = result.name.removeprefix("hit ")
        assert first.edges is not None
        edges = first.edges[name]
        coarse = np.arange(0, len(edges) - 1, _FINE_BINS if len(edges) == HIT_BINS + 1 else 1)
        shares, errors = [], []
        for sample in (first, second):
            groups = sample.hit_counts[name]
            total = max(groups.sum(), 1)
            bins = np.add.reduceat(groups[:, 1:-1], coarse, axis=1)
            shares.append(bins.sum(axis=0) / total)
            errors.append(bins.std(axis=0) * np.sqrt(len(groups)) / total)
        return np.append(edges[coarse], edges[-1]), (shares[0], shares[1]), (errors[0], errors[1])
    columns = [sample.columns[result.name] for sample in (first, second)]
    edges = _edges(columns)
    counts = [np.histogram(column[~np.isnan(column)], edges)[0] for column in columns]
    sizes = [max(len(column), 1) for column in columns]
    shares = [count / size for count, size in zip(counts, sizes, strict=True)]
    errors = [np.sqrt(count) / size for count, size in zip(counts, sizes, strict=True)]
    return edges, (shares[0], shares[1]), (errors[0], errors[1])


def _edges(columns: list[FloatArray]) -> FloatArray:
    """Choose at most about forty bins of equal width for the central 99.8 % of both samples together."""
    values = np.concatenate([column[~np.isnan(column)] for column in columns])
    if not len(values):
        return np.array([0.0, 1.0])
    low, high = np.quantile(values, [0.001, 0.999])
    if low == high:  # nearly all values are equal: one bin with empty bins at its sides
        width = 0.1 * max(abs(low), 1.0)
        return np.asarray(low + width * (np.arange(4) - 1.5))
    step = _step_of(values[(values >= low) & (values <= high)])
    if step > 0:
        width = step * max(1, int(np.ceil((round((high - low) / step) + 1) / _MOST_BINS)))
        return np.asarray(np.arange(low - step / 2, high + width, width))
    return np.linspace(low, high, _MOST_BINS + 1)


def _step_of(values: FloatArray) -> float:
    """Return the step of discrete values such as counts and occupancies, or 0 for continuous values.

    Bins of discrete values need a width of a whole number of steps. Otherwise their contents alternate.
    """
    distinct, counts = np.unique(values, return_counts=True)
    if len(distinct) < 2 or np.median(counts) < 2:
        return 0.0
    gaps = np.diff(distinct)
    step = float(gaps.min())
    multiples = np.round((distinct - distinct[0]) / step)
    discrete = np.abs(distinct - distinct[0] - step * multiples).max() < 0.01 * step
    return step if discrete and multiples[-1] > 1 else 0.0


def correlation_figure(comparison: Comparison) -> "Figure":
    """Draw the correlations between the observables of each sample, and their difference.

    Args:
        comparison: The comparison.

    Returns:
        The figure.
    """
    from matplotlib.figure import Figure

    first, second = comparison.statistics["true"], comparison.statistics["generated"]
    names = [
        name
        for name in first.columns
        if name in second.columns and all(_varies(s.columns[name]) for s in (first, second))
    ]
    if not names:
        figure = Figure(figsize=(6, 2))
        figure.text(0.5, 0.5, "no observable varies in both samples", ha="center", fontsize=10, color=INK)
        return figure
    true, generated = (_correlations(sample, names) for sample in (first, second))
    width = max(_WIDTH, 2.9 + 0.135 * len(names))
    figure = Figure(figsize=(width, 1.35 * width), layout="constrained")
    grid: Any = figure.subplot_mosaic([["true", "generated"], ["difference", "difference"]], height_ratios=[1, 2.2])
    titles = {"true": literal(comparison.true.name), "generated": literal(comparison.generated.name)}
    titles["difference"] = f"difference: {titles['generated']} - {titles['true']}"
    values = {"true": true, "generated": generated, "difference": generated - true}
    for key, axes in grid.items():
        reach = max(0.05, float(np.nanmax(np.abs(values[key])))) if key == "difference" else 1.0
        image = axes.imshow(values[key], vmin=-reach, vmax=reach, cmap=DIVERGING, interpolation="nearest")
        axes.set_title(titles[key], fontsize=_FONT_SIZE + 1, color=INK)
        axes.tick_params(length=0)
        if key == "difference":
            axes.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
            axes.set_yticks(range(len(names)), names, fontsize=8)
        else:
            axes.set_xticks([])
            axes.set_yticks([])
        bar = figure.colorbar(image, ax=axes, shrink=0.8 if key == "difference" else 0.9)
        bar.set_label("difference of correlations" if key == "difference" else "correlation", fontsize=_FONT_SIZE)
        bar.ax.tick_params(labelsize=_FONT_SIZE - 0.5)
    return figure


def _varies(column: FloatArray) -> bool:
    defined = column[~np.isnan(column)]
    return len(defined) > 1 and defined.min() < defined.max()


def _correlations(sample: SampleStatistics, names: list[str]) -> FloatArray:
    """Compute the correlation of each pair of observables over the showers in which both are defined."""
    values = np.column_stack([sample.columns[name] for name in names])
    defined = ~np.isnan(values)
    spread = np.nanstd(values, axis=0)
    normal = np.where(defined, (values - np.nanmean(values, axis=0)) / spread, 0.0)
    pairs = defined.T.astype(np.float64) @ defined
    # Each pair has its own means and standard deviations, as in any table of correlations.
    sums, squares, products = normal.T @ defined, (normal**2).T @ defined, normal.T @ normal
    with np.errstate(divide="ignore", invalid="ignore"):
        means = sums / pairs
        covariance = products / pairs - means * means.T
        variance = squares / pairs - means**2
        return np.asarray(np.clip(covariance / np.sqrt(variance * variance.T), -1, 1))


def example_figure(comparison: Comparison) -> "Figure":
    """Draw some showers of each sample: x against depth, or x against y if the depths of hits are unknown.

    Args:
        comparison: The comparison.

    Returns:
        The figure.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, 5.0), layout="constrained")
    grid: Any = figure.subplots(2, 4, sharex=True, sharey=True)
    samples = (comparison.statistics["true"], comparison.statistics["generated"])
    known = all(shower.slices_known for sample in samples for shower in sample.examples)
    layers: dict[int, Any] = {}
    for row, (sample, facts) in enumerate(zip(samples, (comparison.true, comparison.generated), strict=True)):
        for axes, shower in zip(grid[row], sample.examples, strict=False):
            along = shower.z if known else shower.y
            fraction = shower.energy / shower.incident_energy[0]
            size = 4 + 40 * np.clip(1 + np.log10(np.maximum(fraction, 1e-4)) / 4, 0, 1)
            for layer in range(shower.config.num_layers):
                chosen = shower.layer == layer
                layers[layer] = axes.scatter(
                    along[chosen],
                    shower.x[chosen],
                    s=size[chosen],
                    color=COLOURS[layer % len(COLOURS)],
                    linewidths=0,
                    alpha=0.8,
                )
            title = f"shower {shower.index[0]}: {counted(shower.hits.num_rows, 'hit')}"
            axes.set_title(title, fontsize=_FONT_SIZE, color=INK)
            hide_frame(axes)
            axes.tick_params(labelsize=_FONT_SIZE - 0.5)
        grid[row, 0].set_ylabel(f"{literal(facts.name)}\nx (length unit)", fontsize=_FONT_SIZE)
    for axes in grid[1]:
        axes.set_xlabel("depth (length unit)" if known else "y (length unit)", fontsize=_FONT_SIZE)
    legend: Any = figure.legend(
        layers.values(),
        [f"layer {layer}" for layer in layers],
        loc="outside lower center",
        ncols=min(len(layers), 6),
        frameon=False,
        fontsize=_FONT_SIZE,
        title="The area of a hit increases with the logarithm of its energy.",
        title_fontsize=_FONT_SIZE,
    )
    for handle in legend.legend_handles:
        handle.set_sizes([30])
    return figure
