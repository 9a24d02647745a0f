"""Conditions of the generator of showers: fields, presets, ranges, and showers of several configs."""

import numpy as np
import pytest
import torch

import supa
from supa_datasets import ShowerStream
from supa_mamba import GeneratorConfig, HitCoding, ShowerGenerator, sample_showers
from supa_mamba.generator.coding import SHARE_BITS
from supa_mamba.generator.hits import HitColumns

CONFIGS = [supa.preset(name) for name in ("critical", "standard", "single-layer")]
FIELDS = ["preset", "split_late"]


@pytest.fixture(scope="module")
def parts():
    return [supa.simulate(30, config, seed=1) for config in CONFIGS]


@pytest.fixture(scope="module")
def coding(parts):
    late = supa.simulate(30, CONFIGS[1].replace(split_late=0.4), seed=1)
    return HitCoding.fit([*parts, late], FIELDS)


def test_conditions_are_the_energy_the_fields_and_the_preset(coding):
    conditions = coding.conditions
    assert conditions.configs == tuple(CONFIGS)  # the config with another split_late is not a further one
    assert conditions.num_conditions == 2 + 3
    assert coding == HitCoding.from_json(coding.to_json())
    energies, values = torch.tensor([65.0, 20.0]), [0.3] * 90 + [0.4] * 30
    found = conditions(CONFIGS[1].replace(split_late=0.35), energies)
    assert found[:, 2:].tolist() == [[0, 1, 0]] * 2
    assert torch.equal(conditions("standard", energies), conditions(CONFIGS[1], energies))
    assert found[:, 1].tolist() == pytest.approx([(0.35 - np.mean(values)) / np.std(values)] * 2, rel=1e-5)
    back = (found[:, 0] * conditions.deviations[0] + conditions.means[0]).exp()
    assert back.tolist() == pytest.approx([65.0, 20.0], rel=1e-5)


def test_conditions_are_standardised(parts):
    batch = HitCoding.fit(parts[0]).encode(parts[0])
    assert batch.condition.mean().item() == pytest.approx(0, abs=1e-5)
    assert batch.condition.std(unbiased=False).item() == pytest.approx(1, abs=1e-5)


def test_the_range_of_energies_is_that_of_the_distribution(parts):
    assert HitCoding.fit(parts[0]).conditions.energies == (1, 100)
    showers = parts[0][:1]
    imported = supa.from_hits(
        "standard", offset=showers.offset, incident_energy=showers.incident_energy, x=showers.x, y=showers.y,
        energy=showers.energy, slice=showers.slice.clip(5), leaked_energy=showers.leaked_energy,
    )  # fmt: skip
    energy = showers.incident_energy[0]
    assert HitCoding.fit(imported).conditions.energies == (energy, energy)


def test_energies_may_be_rounded(coding):
    for energy in (np.float32(100.0) * (1 + 2e-7), 1 - 2e-7):
        assert coding.conditions(CONFIGS[0], torch.tensor([energy])).isfinite().all()


@pytest.mark.parametrize(
    ("config", "energy", "message"),
    [
        (
            supa.preset("dense"), 65.0,
            r"the preset 'dense' was given, but the training showers have the preset 'critical', the preset 'standard'"
            r", the preset 'single-layer'; the closest one differs in num_slices, stop_amplitude",
        ),
        (
            CONFIGS[1].replace(split_early=0.5), 65.0,
            r"config: a custom config was given, .* the closest one differs in split_early\.",
        ),
        (
            CONFIGS[1].replace(split_late=0.41), 65.0,
            r"split_late: 0\.41 was given, but the training showers have 0\.3 to 0\.4\.",
        ),
        (CONFIGS[0], 100.1, r"incident_energy: 100\.1 GeV was given, but the training showers have 1 to 100 GeV"),
        (CONFIGS[0], 0.99, r"incident_energy: 0\.99 GeV was given"),
        (CONFIGS[0], float("nan"), r"incident_energy: nan GeV was given"),
    ],
)  # fmt: skip
def test_conditions_outside_the_training_showers_raise_an_error(coding, config, energy, message):
    with pytest.raises(ValueError, match=message):
        coding.conditions(config, torch.tensor([65.0, energy]))


def test_fields_with_wrong_names_raise_an_error(parts):
    with pytest.raises(ValueError, match=r"'incident_energy' was given, but it must be 'preset', or a numerical field"):
        HitCoding.fit(parts[0], ["incident_energy"])
    with pytest.raises(ValueError, match="'readout_layers' was given"):
        HitCoding.fit(parts[0], "readout_layers")
    with pytest.raises(ValueError, match=r"different readout layers.*; add 'preset' to the fields"):
        HitCoding.fit(parts, ["split_late"])


def test_a_stream_of_several_configs_is_coded_as_the_showers_of_each_config(coding):
    features = ["slice", "x", "y", "energy"]
    stream = ShowerStream(
        CONFIGS, batch_size=40, seed=3, features=features, targets=["source", "incident_energy", "leaked_energy"]
    )
    batch = next(iter(stream))
    hits = batch["points"]
    columns = HitColumns(
        batch["offset"], *hits.T.unbind(), batch["incident_energy"], batch["leaked_energy"]
    )  # fmt: skip
    table = coding.conditions.table(CONFIGS)
    condition = coding.conditions.from_table(table, batch["source"], columns.incident_energy)
    mixed = coding.encode_columns(columns, condition)
    counts = mixed.offset.diff()
    for number, part in enumerate(stream.showers(40)):
        alone, chosen = coding.encode(part), batch["source"] == number
        assert 0 < len(part) < 40
        of_hit = chosen.repeat_interleave(counts)
        for name, a, b in zip(mixed._fields[1:], mixed[1:], alone[1:], strict=True):
            a = a[of_hit if len(a) == len(of_hit) else chosen]
            if name == "sums":  # integers, of energies in float32 and float64
                a, b = a * 2.0**-SHARE_BITS, b * 2.0**-SHARE_BITS
            torch.testing.assert_close(a, b, msg=name)


def test_slices_outside_the_readout_layers_of_the_config_have_no_probability(parts, coding):
    model = ShowerGenerator(GeneratorConfig(d_model=32, n_layer=1), coding)
    for part in parts:
        batch = coding.encode(part)
        read = [s for first, last in part.config.readout_layers for s in range(first, last + 1)]
        allowed, final = model.allowed_slices(batch.condition)
        expected = torch.isin(torch.arange(coding.num_slices) + coding.slices[0], torch.tensor(read))
        assert (allowed == expected).all()
        assert (final == read[-1] - coding.slices[0]).all()
        assert set(sample_showers(model, part.config, 50, seed=1).slice) <= set(read)
        assert model(batch).total().isfinite()


def test_a_field_is_a_condition_once():
    with pytest.raises(ValueError, match=r"fields: split_late, split_late was given, but each name must be given once"):
        HitCoding.fit(supa.simulate(20, "standard", seed=1), ["split_late", "split_late"])


def test_a_selection_of_showers_is_refused():
    with pytest.raises(ValueError, match=r"a selection \(keep is 'complete'\), but a generator learns all showers"):
        HitCoding.fit(supa.simulate(20, "standard", seed=1, keep="complete"))
