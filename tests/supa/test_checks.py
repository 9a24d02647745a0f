"""Parts of error messages."""

import pytest

import supa
from supa.checks import check_name, counted, did_you_mean


@pytest.mark.parametrize(
    ("number", "expected"),
    [(0, "0 layers"), (1, "1 layer"), (2, "2 layers"), (1234, "1,234 layers"), (-1, "-1 layers")],
)
def test_a_noun_agrees_with_its_number(number, expected):
    assert counted(number, "layer") == expected


def test_irregular_plurals():
    assert counted(1, "class", "classes") == "1 class"
    assert counted(0, "class", "classes") == "0 classes"


@pytest.mark.parametrize(
    ("given", "question"),
    [("standart", " Did you mean 'standard'?"), ("DENSE", " Did you mean 'dense'?"), ("x", ""), (3, ""), ("", "")],
)
def test_suggestion_is_the_most_similar_name(given, question):
    assert did_you_mean(given, ["standard", "dense"]) == question


def test_check_name_accepts_only_allowed_names():
    check_name(["standard", "dense"], "a preset", "dense")
    for wrong in ("dens", 3, None, ["dense"]):
        with pytest.raises(ValueError, match="was given, but a preset is one of standard, dense"):
            check_name(["standard", "dense"], "a preset", wrong)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: supa.preset("standart"), "standard"),
        (lambda: supa.simulate(1, "densse"), "dense"),
        (lambda: supa.simulate(1, keep="complet"), "complete"),
        (lambda: supa.ShowerConfig(frame="refrence"), "reference"),
        (lambda: supa.preset("standard").replace(num_slice=3), "num_slices"),
    ],
)
def test_errors_suggest_similar_names(call, name):
    with pytest.raises(ValueError, match=f"Did you mean '{name}'"):
        call()
