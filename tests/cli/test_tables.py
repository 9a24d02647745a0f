"""Tables on the terminal: complete at every width, in every encoding and for every name."""

import io
import sys

import pytest

from supa_cli.tables import print_facts, print_table, with_error

HEADER = ["", "first", "second", "third"]
ROWS = [["a row", "0.001234", "12,345,678", "-0.5 ± 0.1"], ["another row", "1", "-", "∞"]]


def _printed(capsys, monkeypatch, columns):
    if columns is None:
        monkeypatch.delenv("COLUMNS", raising=False)
    else:
        monkeypatch.setenv("COLUMNS", str(columns))
    print_table(HEADER, ROWS, title="A title")
    return capsys.readouterr().out


@pytest.mark.parametrize("columns", [10, 20, 30, 40, 60, 80, 200, None])
def test_no_number_is_truncated(capsys, monkeypatch, columns):
    text = _printed(capsys, monkeypatch, columns)
    for cell in [*HEADER[1:], *(cell for row in ROWS for cell in row)]:
        assert cell in text
    assert "…" not in text
    if columns and columns >= 30:  # the first column and the widest other one
        assert max(map(len, text.splitlines())) <= columns


def test_columns_that_do_not_fit_are_printed_below_with_row_names(capsys, monkeypatch):
    assert _printed(capsys, monkeypatch, 34).splitlines() == [
        "A title",
        "                first      second",
        "---------------------------------",
        "a row        0.001234  12,345,678",
        "another row         1           -",
        "",
        "                  third",
        "-----------------------",
        "a row        -0.5 ± 0.1",
        "another row           ∞",
        "",
    ]


def test_a_pipe_has_unlimited_width(capsys, monkeypatch):
    lines = _printed(capsys, monkeypatch, None).splitlines()
    assert lines[1].split() == ["first", "second", "third"]
    assert len(lines) == 6


def test_wide_characters_and_markup_keep_their_columns(capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    print_table(["", "n"], [["簇射", "1"], ["[red]", "2"]])
    assert capsys.readouterr().out.splitlines()[2:4] == ["簇射   1", "[red]  2"]


def test_long_facts_are_not_truncated(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    print_facts([("file", "x" * 100), ("config", "")])
    assert capsys.readouterr().out == f"file    {'x' * 100}\nconfig\n"


def test_the_sign_of_an_error_can_be_encoded(monkeypatch):
    assert with_error(0.5, 0.1) == "0.5 ± 0.1"
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert with_error(0.5, 0.1) == "0.5 +- 0.1"
    assert with_error(0.5, float("nan")) == "0.5"
    assert with_error(float("inf"), 0.1) == "inf"
    assert with_error(-0.0, 0.1) == "0 +- 0.1"
