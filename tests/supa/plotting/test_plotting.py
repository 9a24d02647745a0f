"""Figures show the data of their showers."""

import numpy as np
import pytest

import supa
from supa.plotting import plot_image, plot_profiles, plot_resolution, plot_shower
from supa.plotting.image_cells import image_cells


@pytest.mark.parametrize("record", ["hits", "particles"])
def test_every_hit_of_a_shower_is_drawn(record):
    shower = supa.simulate(1, "two-primaries", seed=3, record=record)
    figure = plot_shower(shower)
    space, profile, front = figure.axes
    drawn = [collection for collection in space.collections if hasattr(collection, "_offsets3d")]
    assert sum(len(collection._offsets3d[0]) for collection in drawn) == shower.hits.num_rows
    assert not any(collection.get_clip_on() for collection in space.collections)
    assert sum(len(collection.get_offsets()) for collection in front.collections) == shower.hits.num_rows
    assert sum(bar.get_height() for bar in profile.patches) == pytest.approx(shower.energy.sum())
    titles = [legend.get_title().get_text() for legend in figure.legends]
    assert titles == ["Colour: readout layer", "Size: hit energy", "Width: particle energy"][: 2 + (record != "hits")]


def test_only_one_shower_is_drawn():
    with pytest.raises(ValueError, match="plot_shower draws one shower, got 2"):
        plot_shower(supa.simulate(2))


def test_profiles_do_not_depend_on_the_chunks():
    whole = plot_profiles(supa.simulate(200))
    chunks = plot_profiles(supa.stream(200, chunk_size=30))
    for one, other in zip(whole.axes, chunks.axes, strict=True):
        for line, twin in zip(one.lines, other.lines, strict=True):
            assert list(line.get_ydata()) == pytest.approx(list(twin.get_ydata()), rel=1e-9)
    assert "200 showers" in whole.get_suptitle()


def test_profiles_need_showers_of_one_config():
    with pytest.raises(ValueError, match="There is no shower to draw"):
        plot_profiles(supa.simulate(0))
    with pytest.raises(ValueError, match="different configs"):
        plot_profiles([supa.simulate(5), supa.simulate(5, "dense")])


def test_bias_and_error_are_computed_per_bin():
    energy = np.repeat([1.0, 10.0], 101)
    spread = np.linspace(-0.5, 0.5, 101)
    predicted = np.concatenate([np.exp(spread), 20 * np.exp(0.1 * spread)])
    figure = plot_resolution(energy, {"a": predicted}, bins=2)
    bias, error = figure.axes
    np.testing.assert_allclose(bias.lines[0].get_xydata(), [[1, 1], [10, 2]], rtol=1e-6)
    # The variance of 2 k + 1 equidistant values at distance d is d^2 k (k + 1) / 3.
    variance = 0.01**2 * 50 * 51 / 3
    expected = np.sqrt([variance, 0.1**2 * variance + np.log(2) ** 2])
    np.testing.assert_allclose(error.lines[0].get_ydata(), expected, rtol=1e-6)
    with pytest.raises(ValueError, match="At least 2,020 showers are needed for 202 bins, got 202"):
        plot_resolution(energy, {"a": predicted}, bins=202)


def test_a_single_energy_is_one_point():
    figure = plot_resolution(np.full(100, 65.0), {"a": np.linspace(60, 70, 100)})
    assert [len(axes.lines[0].get_xdata()) for axes in figure.axes] == [1, 1]


# ---------------------------------------------------------------------- few hits, and imported hits


def _imported(counts, preset="standard", **columns):
    rows = sum(counts)
    hits = {"x": np.zeros(rows), "y": np.zeros(rows), "energy": np.ones(rows), "layer": np.zeros(rows, int)} | columns
    incident = np.full(len(counts), 65.0)
    return supa.from_hits(preset, offset=np.cumsum([0, *counts]), incident_energy=incident, **hits)


def _words(figure) -> str:
    texts = [text.get_text() for axes in figure.axes for text in [*axes.texts, axes.title]]
    labels = [label for axes in figure.axes for label in axes.get_legend_handles_labels()[1]]
    return "; ".join([figure.get_suptitle(), *texts, *labels])


@pytest.mark.parametrize(
    ("showers", "words"),
    [
        (_imported([0, 0]), "2 imported showers, no hits"),
        (_imported([0], "critical"), "1 imported shower, no hits; no closed form"),
        (supa.simulate(5, "critical", energy=0.05), "5 showers at 0.05 GeV"),
        (_imported([1]), "slices are not recorded"),
        (_imported([2, 0], energy=np.zeros(2)), "nothing in this range"),
        (_imported([1, 1], x=np.full(2, 1e6)), "nothing in this range"),
    ],
    ids=["no hits", "no hits, no closed form", "small", "one", "no energy", "far away"],
)
def test_profiles_of_few_hits_are_drawn_without_warnings(showers, words):
    figure = plot_profiles(showers)
    figure.draw_without_rendering()
    assert words in _words(figure)
    if showers.hits.num_rows == 0 and showers.run.engine == "imported":
        assert _words(figure).count("no hits") >= 4


def test_samples_with_different_layers_and_without_hits_share_a_figure():
    figure = plot_profiles(supa.simulate(20), supa.simulate(20, "single-layer"), _imported([0]))
    figure.draw_without_rendering()
    assert "sample 2: no hits" in _words(figure)


def test_a_shower_without_hits_or_slices_is_drawn():
    assert plot_shower(_imported([0])).get_suptitle() == "Shower 0, imported: 65 GeV, no hits"
    barren = supa.simulate(40, "critical", energy=0.05, record="particles")
    plot_shower(barren[int(np.argmin(barren.particles.counts))]).draw_without_rendering()
    config = supa.preset("standard")
    figure = plot_shower(_imported([2], layer=[1, 2]))
    assert "Slices are not recorded; hits are drawn in the middle of their layers" in _words(figure)
    depths = [float(collection._offsets3d[0][0]) for collection in figure.axes[0].collections]
    assert depths == [config.slice_spacing * sum(config.readout_layers[layer]) / 2 for layer in (1, 2)]


# ---------------------------------------------------------------------- images


def _drawn(figure):
    return np.ma.filled(figure.axes[0].collections[0].get_array(), np.nan)


def test_an_image_is_the_mean_energy_in_each_cell():
    showers = supa.simulate(60, seed=2)
    edges = np.linspace(-4, 4, 9)
    expected = showers.image((edges, edges), layer=1).mean(axis=0)
    for sample in (showers, [showers[:25], showers[25:25], showers[25:]]):
        figure = plot_image(sample, 1, cells=supa.Cartesian(edges, edges))
        np.testing.assert_allclose(np.nan_to_num(_drawn(figure)), expected, rtol=1e-12)
    inside, hits = 60 * expected.sum(), showers.layer == 1
    outside = 100 * (1 - inside / showers.energy[hits].sum())
    title = figure.axes[0].get_title()
    assert title.startswith(f"mean of 60 showers, {hits.sum():,} hits in layer 1")
    assert f"{outside:.2g} % of the layer's energy is outside the image" in title
    one = plot_image(showers[3], 0)
    assert one.axes[0].get_title().startswith("shower 3, seed 2: 65 GeV, ")
    assert one.axes[1].get_ylabel() == "energy per cell (GeV)"
    np.testing.assert_allclose(np.nansum(_drawn(one)), showers[3].energy[showers[3].layer == 0].sum(), rtol=1e-6)


def test_segmented_showers_are_drawn_in_their_own_cells():
    rng = np.random.default_rng(3)
    for part in (
        supa.Cartesian(np.linspace(-10, 10, 13), np.linspace(-15, 15, 7)),
        supa.Polar([0, 0.5, 1, 2, 4, 9], 6),
    ):
        centres = [values.astype(np.float32) for values in part.centres()]
        cell = rng.integers(0, len(centres[0]), 400)
        showers = _imported([100] * 4, x=centres[0][cell], y=centres[1][cell])
        found = image_cells(showers, 0)
        assert found.shape == part.shape
        for mine, theirs in zip(vars(found).values(), vars(part).values(), strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-5)
        counts = np.bincount(cell, minlength=len(centres[0])).reshape(part.shape)
        drawn = np.nan_to_num(_drawn(plot_image(showers, 0)))
        steps = drawn.shape[0] // part.shape[0]
        np.testing.assert_allclose(drawn[::steps], counts / 4, rtol=1e-6)


def test_continuous_hits_are_drawn_in_squares():
    showers = supa.simulate(300)
    for layer in range(3):
        cells = image_cells(showers, layer)
        widths = np.concatenate([np.diff(cells.x_edges), np.diff(cells.y_edges)])
        np.testing.assert_allclose(widths, widths[0], rtol=1e-6)
        chosen = showers.layer == layer
        assert (cells.cell(showers.x[chosen], showers.y[chosen]) >= 0).mean() > 0.98
        assert 20 <= min(cells.shape) <= max(cells.shape) <= 70


@pytest.mark.parametrize(
    ("showers", "words"),
    [
        (_imported([0, 0]), "no hits in this layer"),
        (_imported([1], layer=[2]), "no hits in this layer"),
        (_imported([2], energy=[0, 0]), "no energy in these cells"),
        (_imported([1]), "1 hit in layer 0"),
        (_imported([9], energy=np.full(9, 1e-25), x=np.arange(9)), "9 hits in layer 0"),
    ],
    ids=["empty", "another layer", "no energy", "one", "line"],
)
def test_images_of_few_hits_are_drawn_without_warnings(showers, words):
    figure = plot_image(showers, 0)
    figure.draw_without_rendering()
    assert words in _words(figure)


def test_an_image_needs_a_shower_and_a_layer():
    for sample, layer, message in (
        (supa.simulate(0), 0, "There is no shower to draw"),
        (supa.simulate(2), 3, "layer: 3 was given, but it must be a whole number from 0 to 2"),
        ([supa.simulate(2), supa.simulate(2, "dense")], 0, "different configs"),
    ):
        with pytest.raises(ValueError, match=message):
            plot_image(sample, layer)


def test_ticks_of_logarithmic_axes_are_plain_numbers_or_powers_of_ten():
    figure = plot_resolution(np.geomspace(3, 40, 200), {"a": np.geomspace(3, 40, 200)})
    figure.draw_without_rendering()
    low, high = figure.axes[0].get_xlim()
    ticks = figure.axes[0].get_xticklabels(which="both")
    labels = [tick.get_text() for tick in ticks if low <= tick.get_position()[0] <= high]
    assert {"5", "10", "20"} <= set(labels)
    assert not any("times" in label or "cdot" in label for label in labels)
