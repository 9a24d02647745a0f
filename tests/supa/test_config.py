"""ShowerConfig and the distributions of the initial conditions: round trips and error messages."""

import json
import math

import pytest
from hypothesis import given
from strategies import configs

from supa import PRESETS, EnergySpectrum, PrimaryCount, ShowerConfig, preset, preset_name


@given(configs())
def test_configs_survive_a_round_trip_through_json_and_toml(config):
    assert ShowerConfig.from_json(config.to_json()) == config
    assert ShowerConfig.from_toml(config.to_toml()) == config
    assert ShowerConfig.from_dict(config.to_dict()) == config
    assert hash(ShowerConfig.from_json(config.to_json())) == hash(config)


@pytest.mark.parametrize("ending", [".json", ".toml"])
def test_config_is_read_from_a_file(tmp_path, ending):
    path = tmp_path / f"physics{ending}"
    config = preset("two-primaries")
    path.write_text(config.to_json() if ending == ".json" else config.to_toml())
    assert ShowerConfig.from_file(path) == config


@pytest.mark.parametrize("text", ['{"num_slices": 4, "num_slices": 4}', '{"deviation": 0.1, "a": {"x": 1, "x": 2}}'])
def test_repeated_keys_raise_an_error(tmp_path, text):
    name = "num_slices" if "num" in text else "x"
    path = tmp_path / "physics.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"physics.json: .* the key '{name}' is given twice; remove one"):
        ShowerConfig.from_file(path)
    path.with_suffix(".toml").write_text("num_slices = 4\nnum_slices = 4\n")
    with pytest.raises(ValueError, match=r"physics\.toml: .*not valid TOML"):
        ShowerConfig.from_file(path.with_suffix(".toml"))


INVALID = {
    "num_slices": [0, 63, 2.5, True, "12"],
    "slice_spacing": [0, -1, math.nan, math.inf, "2", 10**400, 1e31],
    "stop_amplitude": [-0.1, 1.1, None],
    "stop_scale": [0, -27],
    "stop_exponent": [-1, math.inf],
    "first_stop_slice": [-1, 29, 7.0],
    "split_early": [-0.1, 1.5, math.nan],
    "split_late": [2],
    "split_late_rule": ["sometimes", None],
    "opening_angle": [(0, 0.1), (0.1, 2), 0.1, (0.1, 0.2, 0.3), ("a", "b")],
    "deviation": [0.5, -0.1],
    "energy_sharing": ["unfair"],
    "readout_layers": [(), ((5, 8),), ((8, 5), (9, 27)), ((5, 10), (9, 27)), ((5, 27), (30, 40)), 3, ((5.0, 27),)],
    "frame": ["lab"],
    "critical_energy": [-1, math.nan],
    "incident_energy": [
        0,
        -5,
        "a",
        "1:",
        "100:1",
        "log:5",
        "1:2:3",
        "10,,20",
        [],
        [1, -2],
        True,
        math.nan,
        None,
        "",
        {},
    ],
    "polar_angle": [(0.2, 0.1), (-0.1, 0), (0, 1.6), 0.5],
    "azimuth": [(1, 0), (0, 7)],
    "impact_spread": [-1, math.inf],
    "num_primaries": [
        0,
        256,
        1.5,
        "poisson:0",
        "poisson:1e-9",
        10**400,
        "poisson:1000",
        "poisson:x",
        "many",
        True,
        None,
    ],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in INVALID.items() for value in values])
def test_invalid_constants_raise_a_clear_error(name, value):
    with pytest.raises(ValueError, match=r".") as caught:
        ShowerConfig(**{name: value})
    message = str(caught.value)
    assert name in message or name.replace("_", " ") in message
    assert message.endswith(".")
    assert "\n" not in message


def test_every_constant_has_an_invalid_example():
    assert INVALID.keys() == json.loads(ShowerConfig().to_json()).keys()


def test_an_energy_cut_off_needs_layers_from_the_first_slice():
    with pytest.raises(ValueError, match="slice 0, which is not in any layer"):
        ShowerConfig(critical_energy=1.0)


@pytest.mark.parametrize(
    ("reader", "text", "message"),
    [
        (ShowerConfig.from_json, "{", "not valid JSON"),
        (ShowerConfig.from_json, "[" * 100_000, "not valid JSON"),
        (ShowerConfig.from_json, None, "not valid JSON"),
        (ShowerConfig.from_dict, None, "None was given, but it must be a table of settings of ShowerConfig"),
        (ShowerConfig.from_json, "[1]", "must be a table of settings"),
        (ShowerConfig.from_json, '{"slices": 3}', "'slices' is not a setting of ShowerConfig"),
        (ShowerConfig.from_toml, "a = = 1", "not valid TOML"),
        (ShowerConfig.from_toml, "[physics]\nnum_slices = 3", "'physics' is not a setting"),
    ],
)
def test_invalid_text_raises_a_clear_error(reader, text, message):
    with pytest.raises(ValueError, match=message):
        reader(text)


def test_unreadable_files_raise_a_clear_error(tmp_path):
    with pytest.raises(ValueError, match=r"must end in \.json or \.toml"):
        ShowerConfig.from_file(tmp_path / "physics.yaml")
    with pytest.raises(ValueError, match="cannot be read"):
        ShowerConfig.from_file(tmp_path / "absent.toml")
    (tmp_path / "bad.toml").write_text("num_slices = 0")
    with pytest.raises(ValueError, match=r"bad\.toml: num_slices: 0 was given"):
        ShowerConfig.from_file(tmp_path / "bad.toml")


@pytest.mark.parametrize(
    ("law", "values"), [("fixed", 5), ("even", (1,)), ("fixed", (None,)), ("fixed", (1, 2)), ("list", ())]
)
def test_invalid_spectra_raise_a_clear_error(law, values):
    with pytest.raises(ValueError, match="incident energy: "):
        EnergySpectrum(law, values)


@pytest.mark.parametrize(("law", "value"), [("fixed", "1"), ("fixed", None), ("even", 1), ("poisson", "2")])
def test_invalid_numbers_of_primaries_raise_a_clear_error(law, value):
    with pytest.raises(ValueError, match="num_primaries: "):
        PrimaryCount(law, value)


def test_a_stop_probability_that_overflows_is_1():
    from supa.physics import fate_probabilities

    stop, _ = fate_probabilities(ShowerConfig(stop_scale=1e-20, stop_exponent=100))
    assert stop[7:].tolist() == [1.0] * 21


@pytest.mark.parametrize(
    ("value", "law", "values", "mean"),
    [
        (65, "fixed", (65.0,), 65.0),
        ("65", "fixed", (65.0,), 65.0),
        ("1:100", "uniform", (1.0, 100.0), 50.5),
        ("log:1:100", "log-uniform", (1.0, 100.0), 99 / math.log(100)),
        ("10,20,50", "list", (10.0, 20.0, 50.0), 80 / 3),
        ([10, 20, 50], "list", (10.0, 20.0, 50.0), 80 / 3),
        ([7], "fixed", (7.0,), 7.0),
    ],
)
def test_spectra_are_parsed_and_formatted(value, law, values, mean):
    spectrum = EnergySpectrum.parse(value)
    assert (spectrum.law, spectrum.values) == (law, values)
    assert spectrum.mean == pytest.approx(mean)
    assert EnergySpectrum.parse(str(spectrum)) == spectrum


def test_probabilities_of_the_number_of_primaries():
    assert PrimaryCount.parse(3).probabilities() == [0, 0, 0, 1]
    poisson = PrimaryCount.parse("poisson:2.5")
    p = poisson.probabilities()
    assert p[0] == 0
    assert sum(p) == pytest.approx(1, abs=1e-15)
    assert sum(n * q for n, q in enumerate(p)) == pytest.approx(poisson.mean, rel=1e-14)


def test_preset_name_ignores_the_incident_energy():
    for name in PRESETS:
        assert preset_name(preset(name).replace(incident_energy="1:3")) == name
    assert preset_name(preset("standard").replace(deviation=0.1)) is None
    with pytest.raises(ValueError, match=r"no preset 'SUPAv1'; choose from standard, reference"):
        preset("SUPAv1")


def test_stop_probabilities_equal_the_published_ones():
    """Compare (l / 27) ** 0.75 with the list in the documentation of the reference code."""
    from supa.physics import fate_probabilities

    stop, split = fate_probabilities(preset("reference"))
    published = ".3633 .4016 .4387 .4748 .5099 .5443 .5780 .6110 .6435 .6754 .7068 .7378"
    assert stop[7:19] == pytest.approx([float(p) for p in published.split()], abs=5e-5)
    assert stop[:7].tolist() == [0] * 7
    assert split[:17].tolist() == [0.6] * 7 + [0.3] * 10
    assert split[17:] == pytest.approx(1 - stop[17:])
