"""Pictures show what they are given."""

import numpy as np
import pytest

import supa
from supa.plot import plot_profiles, plot_resolution, plot_shower


@pytest.mark.parametrize("record", ["hits", "particles"])
def test_every_hit_of_a_shower_is_drawn(record):
    shower = supa.simulate(1, "two-primaries", seed=3, record=record)
    (axes,) = plot_shower(shower).axes
    drawn = [collection for collection in axes.collections if hasattr(collection, "_offsets3d")]
    assert sum(len(collection._offsets3d[0]) for collection in drawn) == shower.hits.num_rows
    assert not any(collection.get_clip_on() for collection in axes.collections)


def test_only_one_shower_is_drawn():
    with pytest.raises(ValueError, match="2 showers were given, but this draws one"):
        plot_shower(supa.simulate(2))


def test_profiles_are_those_of_all_chunks():
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


def test_bias_and_error_are_those_of_each_bin():
    energy = np.repeat([1.0, 10.0], 101)
    spread = np.linspace(-0.5, 0.5, 101)
    predicted = np.concatenate([np.exp(spread), 20 * np.exp(0.1 * spread)])
    figure = plot_resolution(energy, {"a": predicted}, bins=2)
    bias, error = figure.axes
    np.testing.assert_allclose(bias.lines[0].get_xydata(), [[1, 1], [10, 2]], rtol=1e-6)
    # The variance of 2 k + 1 values d apart is d^2 k (k + 1) / 3.
    variance = 0.01**2 * 50 * 51 / 3
    expected = np.sqrt([variance, 0.1**2 * variance + np.log(2) ** 2])
    np.testing.assert_allclose(error.lines[0].get_ydata(), expected, rtol=1e-6)
    with pytest.raises(ValueError, match="need at least 2020"):
        plot_resolution(energy, {"a": predicted}, bins=202)
