"""The bits of a shower never change: digests of the showers of every preset (docs/project/versioning.md)."""

import hashlib

import pytest

import supa

# Preset, digest of 100,000 showers with their hits, and digest of 5,000 showers with their trees, all of seed 1. Add
# new presets; never change a line. The digests are those of the engine before it was made faster.
DIGESTS = {
    "standard": ("637e5d144e72c841", "e315e47e6289cace"),
    "reference": ("0a5e3bbeda7c57e5", "9f04f2378256b9ab"),
    "dense": ("9781bc02536c81db", "44537ec49363f5bd"),
    "no-pass": ("99f169b5bccd8263", "748d55982df3e71b"),
    "symmetric": ("9a86406b39f6f4c3", "beee359b5ed66349"),
    "single-layer": ("07959adfcac094eb", "9d40cf4a1fa71654"),
    "critical": ("e8b1319313fb04b2", "a9d634514974c379"),
    "two-primaries": ("3a511efbb7314bf0", "55db73f5fd67cc0c"),
}


def digest(preset: str, num_showers: int, **options: object) -> str:
    """Hash all columns of the first showers of seed 1."""
    columns: dict[str, hashlib.blake2b] = {}
    for showers in supa.stream(num_showers, preset, seed=1, **options):
        tables = {"hits": showers.hits, "primaries": showers.primaries}
        if showers.particles is not None:
            tables["particles"] = showers.particles
        content = {name: getattr(showers, name) for name in ("incident_energy", "leaked_energy")}
        for group, table in tables.items():
            content |= {f"{group}/{name}": values for name, values in table.columns.items()}
            content[f"{group}/count"] = table.counts
        for name, values in content.items():
            column = columns.setdefault(name, hashlib.blake2b(digest_size=8))
            column.update(values.astype(values.dtype.newbyteorder("<")).tobytes())
    total = hashlib.blake2b(digest_size=8)
    for name in sorted(columns):
        total.update(name.encode())
        total.update(columns[name].digest())
    return total.hexdigest()


# These take most of the time. Every run of the tests checks 5,000 showers of them, in the digests of trees.
MANY_HITS = ["dense", "no-pass"]


@pytest.mark.parametrize(
    "preset", [pytest.param(name, marks=[pytest.mark.slow] * (name in MANY_HITS)) for name in DIGESTS]
)
def test_hits_have_the_bits_of_all_earlier_versions(preset):
    assert digest(preset, 100_000) == DIGESTS[preset][0]


@pytest.mark.parametrize("threads", [2, *(pytest.param(number, marks=pytest.mark.slow) for number in (1, 3, 16))])
def test_trees_have_the_bits_of_all_earlier_versions_on_any_number_of_threads(threads):
    for preset, (_, of_trees) in DIGESTS.items():
        assert digest(preset, 5_000, record="particles", threads=threads, chunk_size=157) == of_trees, preset


def test_every_preset_has_a_digest():
    assert set(DIGESTS) == set(supa.PRESETS)
