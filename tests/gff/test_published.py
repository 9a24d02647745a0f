"""Tests of the published results."""

import pytest

from supa_datasets import BENCHMARKS
from supa_gff.bench.published import PUBLISHED, published


def _value(method: str, conv: str, layers: int | None, task: str, name: str) -> float:
    (row,) = [r for r in PUBLISHED if (r.method, r.conv, r.layers, r.task) == (method, conv, layers, task)]
    return row.values[name]


@pytest.mark.parametrize(
    ("row", "value"),
    [
        (("GFF", "gcn", None, "graph", "MUTAG"), 71.0),
        (("best of 6 backprop GNNs", "", None, "graph", "IMDB-BINARY"), 71.2),
        (("BP", "gcn", 2, "node", "CitationFull-CiteSeer"), 94.28),
        (("BP", "gcn", 4, "node", "GitHub"), 86.34),
        (("SF", "gcn", 4, "node", "CitationFull-Cora_ML"), 88.48),
        (("FF-LA", "gcn", 2, "node", "CitationFull-Cora_ML"), 63.77),
        (("SymBa", "gat", 4, "node", "PubMed"), 89.53),
        (("SF-Top-To-Input", "sage", 4, "node", "Amazon-Photo"), 92.92),
        (("FL-FF", "gcn", 4, "link", "PubMed"), 96.86),
        (("BP", "gcn", 1, "link", "Amazon-Photo"), 82.41),
        (("FL-CE", "gat", 4, "link", "GitHub"), 82.10),
    ],
)
def test_values_equal_the_sources(row, value):
    assert _value(*row) == value


def test_every_row_is_complete():
    names = [(r.method, r.conv, r.layers, r.task) for r in PUBLISHED]
    assert len(set(names)) == len(names)
    for row in PUBLISHED:
        assert row.source
        assert row.values
        assert set(row.errors) <= set(row.values)
        assert all(0 < v < 100 for v in row.values.values())
        assert set(row.values) <= {*BENCHMARKS, "GitHub", "REDDIT-MULTI-5K"}
    assert all(row.caveat for row in PUBLISHED if row.method != "majority class")


def test_rows_are_selected_by_task_and_dataset():
    assert [row.method for row in published("graph", ("COX2",))] == ["GFF", "majority class"]
    assert {row.task for row in published("node", ("PubMed",))} == {"node"}
    assert published("graph", ("Cora",)) == ()
