"""Pictures of a comparison: overlaid histograms with ratios, correlations, example showers."""

from typing import TYPE_CHECKING, Any

import numpy as np

from supa.arrays import FloatArray
from supa.checks import counted
from supa.comparison.results import Comparison, ObservableResult
from supa.comparison.sample_statistics import HIT_BINS, SampleStatistics
from supa.plotting.style import COLOURS, DIVERGING, GENERATED_COLOUR, INK, TRUE_COLOUR, hide_frame, literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = 4
_FINE_BINS = 4  # of a histogram of hits in one that is drawn
_ROWS = 3


def histogram_figures(comparison: Comparison) -> list["Figure"]:
    """Draw every observable as overlaid histograms with their ratio, those that differ most first.

    Args:
        comparison: the comparison.

    Returns:
        Figures of at most twelve observables.
    """
    from matplotlib.figure import Figure

    figures, page = [], _COLUMNS * _ROWS
    for start in range(0, len(comparison.observables), page):
        results = comparison.observables[start : start + page]
        rows = -(-len(results) // _COLUMNS)
        height = 3.6 * rows
        figure = Figure(figsize=(14, height))
        grid = figure.add_gridspec(
            rows, _COLUMNS, left=0.05, right=0.98, top=1 - 0.3 / height, bottom=0.5 / height, hspace=0.32, wspace=0.24
        )
        for number, result in enumerate(results):
            pair = grid[number // _COLUMNS, number % _COLUMNS].subgridspec(2, 1, height_ratios=[3, 1], hspace=0.12)
            upper, lower = figure.add_subplot(pair[0]), figure.add_subplot(pair[1])
            _plot_histograms(upper, lower, result, comparison, legend=number == 0)
        figures.append(figure)
    return figures


def _plot_histograms(
    upper: "Axes", lower: "Axes", result: ObservableResult, comparison: Comparison, *, legend: bool
) -> None:
    first, second = comparison.statistics["true"], comparison.statistics["generated"]
    edges, (true, generated), (error1, error2) = _histograms(result, first, second)
    width = np.diff(edges)
    upper.stairs(true / width, edges, fill=True, color=TRUE_COLOUR, alpha=0.45, label=literal(comparison.true.name))
    upper.stairs(
        generated / width, edges, color=GENERATED_COLOUR, linewidth=1.3, label=literal(comparison.generated.name)
    )
    if not true.any() and not generated.any():
        words = "no hits in this range" if result.level == "hit" else "nowhere defined"
        upper.text(0.5, 0.5, words, transform=upper.transAxes, ha="center", fontsize=8, color=INK)
        upper.set_yticks([])
    elif result.level == "hit":
        upper.set_yscale("log")
    else:
        upper.set_ylim(0, None)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(true > 0, generated / true, np.nan)
        band = np.where(true > 0, error1 / true, np.nan)
        error = np.where(true > 0, error2 / true, np.nan)
    lower.stairs(1 + band, edges, baseline=1 - band, fill=True, color=TRUE_COLOUR, alpha=0.35)
    lower.axhline(1, color=INK, linewidth=0.7)
    lower.errorbar(
        (edges[1:] + edges[:-1]) / 2, ratio, error, fmt=".", markersize=2.5, color=GENERATED_COLOUR, linewidth=0.7
    )
    lower.set_ylim(0.5, 1.5)
    for axes in (upper, lower):
        axes.set_xlim(edges[0], edges[-1])
        hide_frame(axes)
        axes.tick_params(labelsize=7)
    upper.tick_params(labelbottom=False)
    lower.ticklabel_format(axis="x", useOffset=False)
    lower.locator_params(axis="x", nbins=5)
    upper.set_title(f"{result.name}    p = {result.p_value:.3g}", fontsize=8.5, color=INK, loc="left")
    lower.set_xlabel(result.label, fontsize=7.5)
    lower.set_ylabel("ratio", fontsize=7)
    if legend:
        upper.legend(frameon=False, fontsize=7)


def _histograms(
    result: ObservableResult, first: SampleStatistics, second: SampleStatistics
) -> tuple[FloatArray, tuple[FloatArray, FloatArray], tuple[FloatArray, FloatArray]]:
    """Return edges, shares and their standard errors; what lies outside the picture counts in the shares."""
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
    """Return about forty bins of equal width over what both samples mostly fill."""
    values = np.concatenate([column[~np.isnan(column)] for column in columns])
    if not len(values):
        return np.array([0.0, 1.0])
    low, high = np.quantile(values, [0.001, 0.999])
    if low == high:
        low, high = values.min(), values.max()
    if low == high:
        return np.array([low - 0.5, low + 0.5])
    if (values == np.round(values)).all():
        step = max(1, int(np.ceil((high - low + 1) / 40)))
        return np.arange(low, high + step + 1, step) - 0.5
    return np.linspace(low, high, 41)


def correlation_figure(comparison: Comparison) -> "Figure":
    """Draw the correlations between observables: of both samples, and how they differ.

    Args:
        comparison: the comparison.

    Returns:
        A figure.
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
    size = 2.5 + 0.13 * len(names)
    figure = Figure(figsize=(3 * size + 1.5, size + 1.8), layout="constrained")
    grid: Any = figure.subplots(1, 3)
    titles = (literal(comparison.true.name), literal(comparison.generated.name), "difference")
    for axes, values, title in zip(grid, (true, generated, generated - true), titles, strict=True):
        reach = max(0.05, float(np.nanmax(np.abs(values)))) if title == "difference" else 1.0
        image = axes.imshow(values, vmin=-reach, vmax=reach, cmap=DIVERGING, interpolation="nearest")
        axes.set_title(title, fontsize=10, color=INK)
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=5.5)
        axes.set_yticks(range(len(names)), names if axes is grid[0] else [""] * len(names), fontsize=5.5)
        figure.colorbar(image, ax=axes, shrink=0.7).ax.tick_params(labelsize=7)
    return figure


def _varies(column: FloatArray) -> bool:
    defined = column[~np.isnan(column)]
    return len(defined) > 1 and defined.min() < defined.max()


def _correlations(sample: SampleStatistics, names: list[str]) -> FloatArray:
    """Correlate each pair of observables over the showers that define both."""
    values = np.column_stack([sample.columns[name] for name in names])
    defined = ~np.isnan(values)
    spread = np.nanstd(values, axis=0)
    normal = np.where(defined, (values - np.nanmean(values, axis=0)) / spread, 0.0)
    pairs = defined.T.astype(np.float64) @ defined
    # Means and spreads are those of the pairs' own showers, as in every table of correlations.
    sums, squares, products = normal.T @ defined, (normal**2).T @ defined, normal.T @ normal
    with np.errstate(divide="ignore", invalid="ignore"):
        means = sums / pairs
        covariance = products / pairs - means * means.T
        variance = squares / pairs - means**2
        return np.asarray(np.clip(covariance / np.sqrt(variance * variance.T), -1, 1))


def example_figure(comparison: Comparison) -> "Figure":
    """Draw some showers of each sample: hits by depth, or in the plane where depths are not known.

    Args:
        comparison: the comparison.

    Returns:
        A figure.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 5.6), layout="constrained")
    grid: Any = figure.subplots(2, 4, sharex=True, sharey=True)
    samples = (comparison.statistics["true"], comparison.statistics["generated"])
    known = all(shower.slices_known for sample in samples for shower in sample.examples)
    for row, (sample, facts) in enumerate(zip(samples, (comparison.true, comparison.generated), strict=True)):
        name = literal(facts.name)
        for axes, shower in zip(grid[row], sample.examples, strict=False):
            along = shower.z if known else shower.y
            share = shower.energy / shower.incident_energy[0]
            size = 4 + 40 * np.clip(1 + np.log10(np.maximum(share, 1e-4)) / 4, 0, 1)
            for layer in range(shower.config.num_layers):
                chosen = shower.layer == layer
                axes.scatter(
                    along[chosen],
                    shower.x[chosen],
                    s=size[chosen],
                    color=COLOURS[layer % len(COLOURS)],
                    linewidths=0,
                    alpha=0.8,
                )
            axes.set_title(f"{name} {shower.index[0]}: {counted(shower.hits.num_rows, 'hit')}", fontsize=8.5, color=INK)
            hide_frame(axes)
            axes.tick_params(labelsize=7)
        grid[row, 0].set_ylabel("x (length unit)", fontsize=8)
    for axes in grid[1]:
        axes.set_xlabel("depth (length unit)" if known else "y (length unit)", fontsize=8)
    return figure
