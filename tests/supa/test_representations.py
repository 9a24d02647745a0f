"""Objects are readable when they are printed and in notebooks."""

import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

import supa
from supa.html_table import html_table


class _Cells(HTMLParser):
    """Collects the texts of the cells, and checks that every element is closed."""

    def __init__(self, text):
        super().__init__()
        self.texts, self._open = [], []
        self.feed(text)
        assert not self._open

    def handle_starttag(self, tag, _attributes):
        self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_data(self, text):
        self.texts.append(text)


def test_cells_are_escaped():
    text = html_table([("<script>", "a & b")], header=("<b>", "c"), caption="<i>")
    assert "<script>" not in text
    assert _Cells(text).texts == ["<i>", "<b>", "c", "<script>", "a & b"]


def test_expectations_print_as_a_table():
    exact = supa.expectation("standard")
    lines = str(exact).splitlines()
    assert len(lines) < 15
    assert lines[1].split() == ["mean", "std.", "deviation", "unit"]
    assert "hits, layer 1                  50.573         29.9396  hits" in lines
    assert any(line.startswith("energy, layer 0") and line.endswith("incident energy") for line in lines)
    cells = _Cells(exact._repr_html_()).texts
    assert cells[0].startswith("Expectation of standard")
    assert "50.573" in cells
    many = supa.ShowerConfig(readout_layers=[(s, s) for s in range(7, 28)])
    assert str(supa.expectation(many)).endswith("... and 13 more layers")
    assert "... and 13 more layers" in supa.expectation(many)._repr_html_()


@pytest.mark.parametrize("number", [0, 1, 5])
def test_showers_are_a_table_with_a_thumbnail_of_a_single_one(number):
    showers = supa.simulate(number, seed=2, record="particles")
    text = showers._repr_html_()
    cells = _Cells(text).texts
    assert cells[0] == {0: "0 showers", 1: "Shower 0", 5: "5 showers"}[number]
    assert "standard" in cells
    assert text.count("<circle") == (showers.hits.num_rows if number == 1 else 0)


def test_a_thumbnail_of_hits_without_slices_is_drawn():
    zeros = np.zeros(3)
    shower = supa.from_hits(
        "standard", offset=[0, 3], incident_energy=[65.0], x=zeros, y=zeros, energy=zeros, layer=[0, 1, 2]
    )
    text = shower._repr_html_()
    assert text.count("<circle") == 3
    assert "nan" not in text


def test_settings_show_what_differs_from_the_defaults():
    assert repr(supa.ShowerConfig()) == "ShowerConfig()"
    config = supa.preset("reference")
    assert repr(config) == "ShowerConfig(num_slices=24, frame='reference')"
    assert eval(repr(config), {"ShowerConfig": supa.ShowerConfig}) == config
    cells = _Cells(config._repr_html_()).texts
    assert cells[cells.index("num_slices") + 1 :][:2] == ["24", "changed"]
    assert cells.count("changed") == 2


def test_a_comparison_is_a_table():
    comparison = supa.compare(
        supa.simulate(100, seed=1), supa.simulate(100, "dense", seed=2), names=("<true>", "b"), multivariate=False
    )
    cells = _Cells(comparison._repr_html_()).texts
    assert cells[0].startswith("The samples differ (joint p = ")
    assert "<true>" in cells
    assert comparison.observables[0].name in cells
    assert cells[-1].startswith("... and ")


def test_a_file_is_a_table(tmp_path):
    supa_datasets = pytest.importorskip("supa_datasets")
    path = tmp_path / "a&b.h5"
    supa_datasets.save(supa.simulate(3, seed=2), path)
    with supa_datasets.ShowerFile(path) as file:
        cells = _Cells(file._repr_html_()).texts
        assert cells[0] == f"ShowerFile {path}"
        assert cells[cells.index("showers") + 1] == "3"
        assert "open" in cells
    assert "closed" in _Cells(file._repr_html_()).texts


def test_a_representation_does_not_load_matplotlib():
    code = "import supa, sys; supa.simulate(1)._repr_html_(); print('matplotlib' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
