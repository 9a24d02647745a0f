"""Interactive figures contain the data of their showers, and their pages work in a browser."""

import builtins
from pathlib import Path

import numpy as np
import pytest

import supa
from supa.plotting import plot_interactive, write_page

BROWSER = Path("/usr/bin/chromium")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
]  # fmt: skip


@pytest.fixture
def showers():
    pytest.importorskip("plotly", reason="plotly is not installed")
    return supa.simulate(8, "two-primaries", seed=3, record="particles")


def _traces(figure, kind, scene="scene"):
    return [t for t in figure.data if (t.name or "").startswith(f"{kind}, slice") and (t.scene or "scene") == scene]


def test_every_hit_is_drawn_once_with_its_values(showers):
    shower = showers[2]
    figure = plot_interactive(shower)
    traces = _traces(figure, "hits")
    rows = np.concatenate([[row[0] for row in trace.customdata] for trace in traces])
    assert sorted(rows) == list(range(shower.hits.num_rows))
    for axis, values in (("x", shower.z), ("y", shower.x), ("z", shower.y)):
        np.testing.assert_allclose(np.concatenate([trace[axis] for trace in traces]), values[rows], rtol=1e-4)
    for column, values in enumerate((shower.energy, shower.layer, shower.primary), 1):
        drawn = [row[column] for trace in traces for row in trace.customdata]
        np.testing.assert_allclose(drawn, values[rows], rtol=1e-4)
    sizes = np.concatenate([trace.marker.size for trace in traces])
    order = np.argsort(shower.energy[rows])
    assert (np.diff(sizes[order]) >= 0).all()
    assert sizes.max() > 2 * sizes.min()


def test_every_edge_of_the_tree_joins_a_particle_to_its_parent(showers):
    shower = showers[0]
    parent = shower.particles["parent"]
    figure = plot_interactive(shower)
    ends = {tuple(np.round(p, 3)) for t in _traces(figure, "tree") for p in _points(t)[1::3]}
    starts = {tuple(np.round(p, 3)) for t in _traces(figure, "tree") for p in _points(t)[::3]}
    points = np.column_stack([2.0 * shower.particles["slice"], shower.particles["x"], shower.particles["y"]])
    assert sum(len(_points(t)) for t in _traces(figure, "tree")) == 3 * (parent >= 0).sum()
    np.testing.assert_allclose(sorted(ends), sorted({tuple(p) for p in points[parent >= 0]}), atol=2e-3)
    assert len(starts) == len(np.unique(parent[parent >= 0]))
    assert not _traces(plot_interactive(supa.simulate(1)), "tree")


def _points(trace):
    columns = [np.array([np.nan if v is None else v for v in trace[axis]], float) for axis in "xyz"]
    return np.column_stack(columns)


def test_the_slider_shows_the_slices_up_to_its_value(showers):
    figure = plot_interactive(showers[:2])
    (slider,) = figure.layout.sliders
    assert slider.active == len(slider.steps) - 1
    for last, step in enumerate(slider.steps):
        assert step.label == f"{last} (depth 0 to {2 * last})"
        changes, traces = step.args
        for shown, number in zip(changes["visible"], traces, strict=True):
            assert shown == (int(figure.data[number].name.split()[-1]) <= last)
    assert all(slider.steps[-1].args[0]["visible"])


def test_buttons_colour_the_hits_by_layer_or_primary(showers):
    shower = showers[1]
    figure = plot_interactive(shower)
    by_layer, by_primary = figure.layout.updatemenus[0].buttons
    for button, column in ((by_layer, 2), (by_primary, 3)):
        changes, traces = button.args
        colour_of = {}
        for number, colours, shown in zip(traces, changes["marker.color"], changes["showlegend"], strict=True):
            trace = figure.data[number]
            if trace.customdata is None:  # an entry of the legend
                if shown:
                    assert colour_of[int(trace.name.split()[-1])] == {colours}
                continue
            assert not shown
            for row, colour in zip(trace.customdata, colours, strict=True):
                colour_of.setdefault(row[column], set()).add(colour)
        assert len(set.union(*colour_of.values())) == len(colour_of) > 1
    groups = {trace.legendgrouptitle.text for trace in figure.data if trace.showlegend}
    assert groups == {"Colour: layer", "Size: hit energy"}


def test_showers_side_by_side_share_their_axes(showers):
    figure = plot_interactive(showers[[3, 5, 6]])
    scenes = list(figure.select_scenes())
    assert len(scenes) == 3
    assert len({tuple(scene.yaxis.range) for scene in scenes}) == 1
    assert scenes[0].xaxis.title.text == "depth (length unit)"
    for number, index in enumerate((3, 5, 6)):
        drawn = _traces(figure, "hits", f"scene{number + 1 if number else ''}")
        assert sum(len(trace.x) for trace in drawn) == showers.num_hits[index]
        assert figure.layout.annotations[number].text.startswith(f"Shower {index}, seed 3: 65 GeV")
    assert figure.layout.title.text == "3 showers of two-primaries"


def test_hits_without_slices_are_drawn_in_the_middle_of_their_layers():
    pytest.importorskip("plotly", reason="plotly is not installed")
    shower = supa.from_hits(
        "standard", offset=[0, 2], incident_energy=[65.0], x=[1.0, 2.0], y=[0.0, 0.0], energy=[1.0, 0.0], layer=[0, 2]
    )
    figure = plot_interactive(shower)
    assert "slices not recorded" in figure.layout.title.text
    assert [trace.x[0] for trace in _traces(figure, "hits")] == [13, 45]
    assert "slice not recorded" in _traces(figure, "hits")[0].hovertemplate
    plot_interactive(supa.from_hits("standard", offset=[0, 0], incident_energy=[65.0], x=[], y=[], energy=[], layer=[]))


@pytest.mark.parametrize("number", [0, 7])
def test_the_number_of_showers_is_limited(showers, number):
    with pytest.raises(ValueError, match=f"shows 1 to 6 showers, got {number}"):
        plot_interactive(showers[:number])


def test_a_missing_package_is_one_clear_error(monkeypatch):
    real = builtins.__import__

    def without_plotly(name, *arguments, **named):
        if name.partition(".")[0] == "plotly":
            raise ImportError(name)
        return real(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", without_plotly)
    with pytest.raises(ValueError, match=r"need the package plotly: pip install 'supa-showers\[display\]'"):
        plot_interactive(supa.simulate(1))


def test_a_title_cannot_inject_markup_into_the_page(showers, tmp_path):
    figure = plot_interactive(showers[0])
    figure.layout.title.text = "</title><script>alert(1)</script>"
    write_page(figure, tmp_path / "a.html")
    page = (tmp_path / "a.html").read_text()
    assert "<script>alert(1)" not in page
    assert page.startswith("<!doctype html>")


# ---------------------------------------------------------------------- in a browser

# Returns where the first hit of a trace is on the screen.
POSITION = """(number) => {
  const plot = document.getElementById("showers"), scene = plot._fullLayout.scene._scene;
  const trace = plot._fullData[number], camera = scene.glplot.cameraParams;
  const times = (m, v) => [0, 1, 2, 3].map(r => [0, 1, 2, 3].reduce((sum, c) => sum + m[4 * c + r] * v[c], 0));
  const point = [...["x", "y", "z"].map((axis, k) => trace[axis][0] * scene.dataScale[k]), 1];
  const [x, y, , w] = times(camera.projection, times(camera.view, times(camera.model, point)));
  const box = scene.container.getBoundingClientRect();
  return [box.left + box.width * (0.5 + 0.5 * x / w), box.top + box.height * (0.5 - 0.5 * y / w)];
}"""
VISIBLE = "document.getElementById('showers').data.filter(t => t.visible !== false && / slice /.test(t.name)).length"


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
    if not BROWSER.exists():
        pytest.skip(f"{BROWSER} is not installed")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=str(BROWSER), args=FLAGS)
        yield opened
        opened.close()


@pytest.mark.slow
def test_a_page_works_in_a_browser(showers, tmp_path, browser):
    write_page(plot_interactive(showers[1]), tmp_path / "shower.html")
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    errors, requests = [], []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: requests.append(request.url.partition(":")[0]))
    page.goto((tmp_path / "shower.html").as_uri())
    page.wait_for_selector("#showers canvas")
    page.wait_for_timeout(1000)
    assert page.title().startswith("Shower 1, seed 3: 65 GeV")
    all_traces = page.evaluate(VISIBLE)

    # Hovering over a hit shows its values.
    numbers = page.evaluate("document.getElementById('showers').data.map(t => /^hits/.test(t.name || ''))")
    last = len(numbers) - 1 - numbers[::-1].index(True)
    x, y = page.evaluate(POSITION, last)
    for shift in (12, 4, 1, 0):
        page.mouse.move(x + shift, y)
        page.wait_for_timeout(200)
    text = page.locator("#showers .hovertext").first.text_content()
    assert "GeV" in text
    assert "layer" in text
    assert "(length unit)" in text

    # The slider hides deep slices, and the button changes the legend.
    rail = page.locator("#showers .slider-rail-touch-rect").bounding_box()
    page.mouse.click(rail["x"] + 0.5 * rail["width"], rail["y"] + rail["height"] / 2)
    page.wait_for_timeout(500)
    assert 0 < page.evaluate(VISIBLE) < all_traces
    assert page.get_by_text("primary 1", exact=True).count() == 0
    page.get_by_text("Colour by primary").click()
    page.get_by_text("primary 1", exact=True).wait_for()

    # On a phone the page is not wider than the screen.
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_timeout(1000)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate("document.getElementById('showers').layout.legend.orientation") == "h"
    assert errors == []
    assert set(requests) <= {"file", "blob", "data"}
    page.close()
