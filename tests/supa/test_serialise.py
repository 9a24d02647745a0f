"""Config: validation by annotations, and round trips through JSON and TOML."""

import math
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

import pytest

from supa.checks import check_int
from supa.serialise import Config


@dataclass(frozen=True)
class Circle(Config):
    radius: float = 1.0
    centre: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Square:
    """Plain dataclass, which is validated as a field of a Config."""

    side: float
    rounded: bool = False


@dataclass(frozen=True)
class Point:
    pass


@dataclass(frozen=True)
class Drawing(Config):
    name: str
    shape: Circle | Square | Point | None = Point()  # frozen
    frame: Square = Square(10.0)  # frozen
    holes: tuple[Circle, ...] = ()
    shapes: tuple[Circle | Square, ...] = ()
    style: Literal["plain", "dashed"] | None = "plain"
    copies: Annotated[int, partial(check_int, 1, 9)] | None = 2
    scale: float = 1.0
    filled: bool = True
    labels: tuple[str, ...] = ()


FULL = Drawing(
    name='a "quoted"\\ \n\x7f\x01 name é 😀 #',
    shape=Square(2.0, rounded=True),
    holes=(Circle(), Circle(0.5, (1e-300, -2.0))),
    shapes=(Square(1.0), Circle(3.0)),
    style=None,
    copies=None,
    scale=math.inf,
    filled=False,
    labels=("x", "y, z"),
)


@pytest.mark.parametrize("drawing", [FULL, Drawing("none", None), Drawing("x", Circle()), Drawing("", scale=1e-5)])
def test_configs_survive_a_round_trip(tmp_path, drawing):
    assert Drawing.from_dict(drawing.to_dict()) == drawing
    assert Drawing.from_json(drawing.to_json()) == drawing
    assert Drawing.from_toml(drawing.to_toml()) == drawing
    for suffix, text in ((".json", drawing.to_json()), (".toml", drawing.to_toml())):
        (tmp_path / f"drawing{suffix}").write_text(text, encoding="utf-8")
        assert Drawing.from_file(tmp_path / f"drawing{suffix}") == drawing
        partial_settings = Drawing.settings_from_file(tmp_path / f"drawing{suffix}")
        assert Drawing.from_dict({**partial_settings, "copies": 7}) == drawing.replace(copies=7)


def test_plain_values_name_the_class_only_if_several_are_allowed():
    plain = FULL.to_dict()
    assert plain["shape"] == {"part": "Square", "side": 2.0, "rounded": True}
    assert plain["frame"] == {"side": 10.0, "rounded": False}
    assert plain["holes"][1] == {"radius": 0.5, "centre": [1e-300, -2.0]}
    assert [shape["part"] for shape in plain["shapes"]] == ["Square", "Circle"]
    assert Drawing("x").to_dict()["shape"] == {"part": "Point"}


def test_values_are_converted_to_the_type_of_their_field():
    drawing = Drawing("x", Circle(2, [1, 2]), labels=["a"])
    assert repr(drawing.shape) == "Circle(radius=2.0, centre=(1.0, 2.0))"
    assert drawing.labels == ("a",)
    assert hash(drawing) == hash(Drawing("x", Circle(2.0, (1.0, 2.0)), labels=("a",)))


def test_none_is_written_as_text_and_missing_settings_have_defaults():
    assert Drawing.from_toml('name = "x"\nshape = "none"\nstyle = "none"').to_toml().count('"none"') == 2
    assert Drawing.from_toml('name = "none"') == Drawing("none")


MISTAKES = {
    "unknown": ({"nam": "x"}, "'nam' is not a setting of Drawing; choose from name, shape.* Did you mean 'name'[?]$"),
    "not a name": ({1: "x"}, "1 is not a setting of Drawing"),
    "missing": ({}, "^name: nothing was given, but Drawing needs it[.]$"),
    "missing within": ({"name": "x", "frame": {}}, "^frame: side: nothing was given, but Square needs it[.]$"),
    "no table": ([], r"^\[\] was given, but it must be a table of settings of Drawing[.]$"),
    "string": ({"name": 3}, "^name: 3 was given, but it must be a string[.]$"),
    "number": ({"name": "x", "scale": "1"}, "^scale: '1' was given, but it must be a number[.]$"),
    "boolean": ({"name": "x", "scale": True}, "scale: True was given, but it must be a number"),
    "beyond floats": ({"name": "x", "scale": 10**400}, "scale: a whole number of 401 digits was given"),
    "whole": ({"name": "x", "filled": 1}, "filled: 1 was given, but it must be True or False"),
    "literal": (
        {"name": "x", "style": "dashd"},
        "style: 'dashd' was given, but it must be 'plain', 'dashed' or None. Did you mean 'dashed'[?]",
    ),
    "check": ({"name": "x", "copies": 10}, "copies: 10 was given, but it must be a whole number from 1 to 9"),
    "check of a type": ({"name": "x", "copies": "a"}, "copies: 'a' was given, but it must be a whole number from 1"),
    "class": ({"name": "x", "shape": "Circle"}, r"it must be Circle\(...\), Square\(...\), Point\(...\) or None"),
    "tag": ({"name": "x", "shape": {"part": "circle"}}, "shape: part: 'circle' was given, .* Did you mean 'Circle'"),
    "no tag": ({"name": "x", "shape": {"radius": 1}}, "shape: part: None was given, but it must be 'Circle', 'Sq"),
    "wrong class": ({"name": "x", "shapes": [{"part": "Point"}]}, "it must be 'Circle' or 'Square'"),
    "within": ({"name": "x", "shape": {"part": "Circle", "radius": "a"}}, "^shape: radius: 'a' was given"),
    "within a plain one": ({"name": "x", "frame": {"side": 1, "rounded": 0}}, "^frame: rounded: 0 was given"),
    "entries": ({"name": "x", "labels": ["a", 1]}, "it must be a list, each a string"),
    "length": ({"name": "x", "holes": [{"centre": [1, 2, 3]}]}, "it must be a list of 2 entries, each a number"),
    "no list": ({"name": "x", "labels": "abc"}, "labels: 'abc' was given, but it must be a list"),
    "no table in a list": ({"name": "x", "holes": [1]}, r"it must be a list, each Circle\(...\)"),
}


@pytest.mark.parametrize(("values", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_invalid_values_raise_a_clear_error(values, message):
    with pytest.raises(ValueError, match=message):
        Drawing.from_dict(values)


def test_constructor_and_replace_validate_values():
    with pytest.raises(ValueError, match=r"^style: 'wavy' was given, but it must be 'plain', 'dashed' or None[.]$"):
        Drawing("x", style="wavy")
    with pytest.raises(ValueError, match=r"^copies: 0 was given"):
        FULL.replace(copies=0)
    with pytest.raises(ValueError, match="'colour' is not a setting of Drawing"):
        FULL.replace(colour="red")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.yaml", b"", "a.yaml: the file must end in .json or .toml"),
        ("absent.toml", None, "absent.toml: the file cannot be read"),
        ("a.toml", b'name = "\xff"', "a.toml: the file cannot be read .*utf-8"),
        ("a.toml", b"name = ", "a.toml: The text is not valid TOML"),
        ("a.toml", b'name = "x"\nname = "y"', "a.toml: The text is not valid TOML: Cannot overwrite"),
        ("a.toml", b"a = " + b"[" * 100_000, "a.toml: The text is not valid TOML"),
        ("a.toml", b"a = 1" + b"0" * 5000, "a.toml: The text is not valid TOML"),
        ("a.json", b"{", "a.json: The text is not valid JSON"),
        ("a.json", b"[" * 100_000, "a.json: The text is not valid JSON"),
        ("a.json", b'{"name": "x", "frame": {"side": 1, "side": 2}}', "the key 'side' is given twice"),
        ("a.json", b"[1]", r"a.json: \[1\] was given, but it must be a table of settings of Drawing"),
        ("a.toml", b"nam = 1", "a.toml: 'nam' is not a setting of Drawing"),
    ],
)
def test_invalid_files_raise_a_clear_error(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    for read in (Drawing.from_file, Drawing.settings_from_file):
        with pytest.raises(ValueError, match=message):
            read(tmp_path / name)
