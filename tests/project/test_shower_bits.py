"""The bits of a shower never change: digests of some showers of every preset (docs/project/versioning.md)."""

import hashlib

import pytest

import supa

DIGESTS = {
    "standard": "f48b90d1eb8ea1c8",
    "reference": "12cb91157a0facc3",
    "dense": "68b9583f36c239c9",
    "no-pass": "6675421771decebc",
    "symmetric": "d7a2ae862c4b302c",
    "single-layer": "03cd1c33a10398db",
    "critical": "c2ce39348707fb41",
    "two-primaries": "a8c0af97da7326cd",
}
"""Preset and digest. Add new presets; never change a line."""


def digest(preset: str) -> str:
    """Hash the hits, primaries and particles of the first 50 showers of seed 1."""
    showers = supa.simulate(50, preset, seed=1, record="particles")
    content = hashlib.sha256()
    for table in (showers.hits, showers.primaries, showers.particles):
        content.update(table.offset.astype("<i8").tobytes())
        for name in sorted(table.columns):
            values = table.columns[name]
            content.update(values.astype(values.dtype.newbyteorder("<")).tobytes())
    return content.hexdigest()[:16]


@pytest.mark.parametrize("preset", DIGESTS)
def test_showers_have_the_bits_of_all_earlier_versions(preset):
    assert digest(preset) == DIGESTS[preset]


def test_every_preset_has_a_digest():
    assert set(DIGESTS) == set(supa.PRESETS)
