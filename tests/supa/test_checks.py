"""Helpers for messages."""

import pytest

from supa.checks import counted


@pytest.mark.parametrize(
    ("number", "expected"),
    [(0, "0 layers"), (1, "1 layer"), (2, "2 layers"), (1234, "1,234 layers"), (-1, "-1 layers")],
)
def test_a_noun_agrees_with_its_number(number, expected):
    assert counted(number, "layer") == expected


def test_an_irregular_plural_is_given():
    assert counted(1, "class", "classes") == "1 class"
    assert counted(0, "class", "classes") == "0 classes"
