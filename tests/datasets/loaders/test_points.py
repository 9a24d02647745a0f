"""Points: values, forms of batches, several sources and batches of similar size."""

import dataclasses

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Subset

import supa
import supa_datasets
from supa_datasets import BucketSampler, PointDataset
from supa_datasets.loaders.source import ShowerSource

TARGETS = ["attempt", "incident_energy", "num_primaries", "num_hits", "preset", "source", "primary", "slice"]


def test_an_item_is_a_shower(trees):
    dataset = PointDataset(trees, targets=TARGETS)
    assert len(dataset) == len(trees)
    for k in (0, 17, -1):
        item, shower = dataset[k], trees[k]
        expected = np.column_stack([shower.x, shower.y, shower.z, shower.energy]).astype(np.float32)
        np.testing.assert_array_equal(item["points"], expected)
        assert item["points"].dtype == torch.float32
        assert item["attempt"] == shower.index[0]
        assert item["incident_energy"] == np.float32(shower.incident_energy[0])
        assert (item["num_primaries"], item["num_hits"]) == (shower.num_primaries[0], shower.hits.num_rows)
        assert supa_datasets.PRESET_CLASSES[item["preset"]] == "two-primaries"
        np.testing.assert_array_equal(item["primary"], shower.primary)
        np.testing.assert_array_equal(item["slice"], shower.slice)


def test_features_by_name(trees):
    item = PointDataset(trees, features=["energy_fraction", "layer", "slice"])[3]["points"]
    shower = trees[3]
    np.testing.assert_allclose(item[:, 0], shower.energy / shower.incident_energy, rtol=1e-6)
    np.testing.assert_array_equal(item[:, 1], shower.layer)
    np.testing.assert_array_equal(item[:, 2], shower.slice)


def _batch(dataset, numbers):
    return dataset.collate(dataset.__getitems__(numbers))


def test_forms_of_a_batch(trees):
    numbers = [5, 0, 5, 200]
    packed = _batch(PointDataset(trees, targets=TARGETS), numbers)
    padded = _batch(PointDataset(trees, targets=TARGETS, form="padded"), numbers)
    reference = _batch(PointDataset(trees, targets=TARGETS, form="reference"), numbers)
    assert packed["offset"].dtype == torch.int64
    counts = [trees[k].hits.num_rows for k in numbers]
    assert packed["offset"].tolist() == [0, *np.cumsum(counts)]
    assert padded["points"].shape == (4, max(counts), 4)
    for k, count in enumerate(counts):
        a, b = packed["offset"][k : k + 2]
        assert torch.equal(padded["points"][k, :count], packed["points"][a:b])
        assert (padded["points"][k, count:] == 0).all()
        assert padded["valid"][k].tolist() == [True] * count + [False] * (max(counts) - count)
        assert torch.equal(padded["primary"][k, :count], packed["primary"][a:b])
    assert torch.equal(reference["set"], padded["points"])
    assert torch.equal(reference["mask"], ~padded["valid"])
    assert reference["cardinality"].tolist() == counts
    assert torch.equal(packed["attempt"], torch.tensor(numbers))


def test_normalisation_is_fitted_on_the_training_split_and_padding_stays_zero(trees):
    dataset = PointDataset(trees, normalisation="fit", form="padded", split="test")
    train = PointDataset(trees, split="train")
    values = torch.cat([train[k]["points"] for k in range(len(train))]).double()
    values[:, 3] = values[:, 3].log()
    assert dataset.normalisation.logarithm == (False, False, False, True)
    np.testing.assert_allclose(dataset.normalisation.mean, values.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(dataset.normalisation.std, values.std(0, correction=0), rtol=1e-5)
    batch = _batch(dataset, range(len(dataset)))
    assert (batch["points"][~batch["valid"]] == 0).all()
    raw = _batch(PointDataset(trees, form="padded", split="test"), range(len(dataset)))
    back = dataset.normalisation.invert(batch["points"], batch["valid"])
    torch.testing.assert_close(back, raw["points"], rtol=1e-4, atol=1e-5)
    again = PointDataset(trees, normalisation=dataset.normalisation)
    assert again.normalisation == dataset.normalisation


def test_splits_are_complete_and_stable_when_a_file_grows(tmp_path):
    short, long = supa.simulate(300, seed=1), supa.simulate(500, seed=1)
    supa_datasets.save(long, tmp_path / "long.h5")
    seen = []
    for split in supa_datasets.SPLITS:
        before = PointDataset(short, split=split, targets="attempt")
        after = PointDataset(tmp_path / "long.h5", split=split, targets="attempt")
        first = [int(before[k]["attempt"]) for k in range(len(before))]
        assert first == [int(after[k]["attempt"]) for k in range(len(before))]
        seen += first
    assert sorted(seen) == list(range(300))


def test_several_sources_are_concatenated(folder, trees):
    sources = [folder / "hits.h5", trees, str(folder / "dense.h5")]
    dataset = PointDataset(sources, targets=["source", "preset", "attempt", "primary"])
    assert len(dataset) == 400 + 300 + 20
    numbers = np.random.default_rng(0).permutation(720)
    items = dataset.__getitems__(numbers)
    names = ["standard", "two-primaries", "dense"]
    loaded = [supa_datasets.load(folder / "hits.h5"), trees, supa_datasets.load(folder / "dense.h5")]
    for number, item in zip(numbers, items, strict=True):
        source = int(item["source"])
        shower = loaded[source][number - [0, 400, 700][source]]
        assert supa_datasets.PRESET_CLASSES[item["preset"]] == names[source]
        assert item["attempt"] == shower.index[0]
        np.testing.assert_array_equal(item["points"][:, 3], shower.energy.astype(np.float32))
        np.testing.assert_array_equal(item["primary"], shower.primary)


def test_a_normalisation_is_fitted_on_all_sources(trees):
    high = dataclasses.replace(trees, incident_energy=trees.incident_energy * 10)
    both = [
        PointDataset(s, features="energy_fraction", normalisation="fit").normalisation.mean[0] for s in (trees, high)
    ]
    joint = PointDataset([trees, high], features="energy_fraction", normalisation="fit").normalisation.mean[0]
    assert joint == pytest.approx(np.mean(both))


def test_a_normalisation_uses_evenly_spaced_training_showers(monkeypatch, trees):
    monkeypatch.setattr("supa_datasets.loaders.dataset.FITTED_SHOWERS", 50)
    dataset = PointDataset([trees, trees])
    chosen = dataset._training(supa_datasets.SPLITS)
    assert 25 < len(chosen) <= 50
    assert abs((chosen < 300).sum() - len(chosen) / 2) <= 1


def test_a_subset_works_like_the_dataset(trees):
    dataset = PointDataset(trees)
    loader = DataLoader(Subset(dataset, [4, 2, 9]), batch_size=3, collate_fn=dataset.collate)
    (batch,) = loader
    assert torch.equal(batch["points"], _batch(dataset, [4, 2, 9])["points"])


@pytest.mark.parametrize("form", ["packed", "padded", "reference"])
def test_items_of_several_datasets_can_be_batched(trees, form):
    """A ConcatDataset requests single items, which are then combined."""
    dataset = PointDataset(trees, form=form, targets=["attempt", "primary"])
    both = torch.utils.data.ConcatDataset([dataset, dataset])
    (batch,) = DataLoader(both, batch_sampler=[[3, 301, 8]], collate_fn=dataset.collate)
    expected = _batch(dataset, [3, 1, 8])
    assert batch.keys() == expected.keys()
    assert all(torch.equal(batch[name], expected[name]) for name in batch)


# ---------------------------------------------------------------------- bucketed batches


@pytest.mark.parametrize("limits", [{"batch_size": 16}, {"max_points": 4000}, {"batch_size": 8, "max_points": 2000}])
@pytest.mark.parametrize("shuffle", [False, True])
def test_every_item_occurs_once_per_epoch_within_the_limits(folder, limits, shuffle):
    dataset = PointDataset(folder / "hits.h5")
    sampler = dataset.batches(**limits, shuffle=shuffle, seed=3)
    assert len(sampler) == len(list(sampler))
    batches = list(sampler)
    assert sorted(k for batch in batches for k in batch) == list(range(len(dataset)))
    for batch in batches:
        largest = max(dataset.num_points[batch])
        assert len(batch) <= limits.get("batch_size", 10**9)
        assert largest * len(batch) <= limits.get("max_points", 10**9)


def test_buckets_need_less_padding_than_random_batches():
    sizes = np.random.default_rng(0).integers(10, 200, 10_000)

    def padding(batches):
        return 1 - sizes.sum() / sum(len(batch) * max(sizes[batch]) for batch in batches)

    plain = np.random.default_rng(1).permutation(10_000).reshape(-1, 50)
    assert padding(plain) > 0.4
    assert padding(BucketSampler(sizes, 50, shuffle=True)) < 0.03


def test_batches_limited_by_points_differ_between_epochs():
    sampler = BucketSampler(np.arange(1, 2001), max_points=20_000, shuffle=True)
    first, second = ({frozenset(batch) for batch in sampler} for _ in range(2))
    assert len(first & second) < 0.2 * len(first)


def test_epochs_differ_and_are_reproducible():
    sizes = np.random.default_rng(0).integers(10, 200, 500)
    sampler = BucketSampler(sizes, 50, shuffle=True, seed=1)
    first, second = list(sampler), list(sampler)
    assert first != second
    sampler.set_epoch(0)
    assert list(sampler) == first
    assert list(BucketSampler(sizes, 50, shuffle=True, seed=2)) != first


# ---------------------------------------------------------------------- mistakes

MISTAKES = {
    "nothing": (lambda t: PointDataset([]), "No showers were given"),
    "a number": (lambda t: PointDataset(3), "a ShowerFile, a path, or a list"),
    "split": (lambda t: PointDataset(t, split="dev"), "one of train, validation, test or all"),
    "feature": (lambda t: PointDataset(t, features=["time"]), "distinct names out of x, y, z"),
    "no feature": (lambda t: PointDataset(t, features=[]), "distinct names out of x, y, z"),
    "target": (lambda t: PointDataset(t, targets=["mass"]), "a target must be one of"),
    "fate": (lambda t: PointDataset(t, targets=["fate"]), "only have x, y"),
    "form": (lambda t: PointDataset(t, form="dense"), "'packed', 'padded' or 'reference'"),
    "preset": (
        lambda t: PointDataset(supa.simulate(3, t.config.replace(deviation=0.1)), targets="preset"),
        "custom config",
    ),
    "a feature twice": (lambda t: PointDataset(t, features=["x", "x"]), "distinct names"),
    "a path": (lambda t: PointDataset(t, normalisation="n.json"), "Normalisation.from_file reads one"),
    "fractions": (lambda t: PointDataset(t, fractions={"train": "a"}), "fractions must be non-negative"),
    "other features": (
        lambda t: PointDataset(t, features="x", normalisation=PointDataset(t, normalisation="fit").normalisation),
        "but the dataset has x",
    ),
    "nothing to fit": (lambda t: PointDataset(t[:0], normalisation="fit"), "the split train is empty"),
    "no split to fit": (
        lambda t: PointDataset(t, normalisation="fit", fractions={"a": 1.0}),
        "needs a split named train",
    ),
    "spacing": (
        lambda t: PointDataset([t, supa.simulate(3, t.config.replace(slice_spacing=1.0))]),
        "different slice spacings",
    ),
    "no limit": (lambda t: PointDataset(t).batches(), "batch_size, max_points, or both"),
    "too small": (lambda t: PointDataset(t).batches(max_points=3), "must be at least the size of the largest item"),
    "zero": (lambda t: PointDataset(t).batches(0), "must be a positive integer, got 0"),
    "depth of imported hits": (
        lambda t: PointDataset(
            supa.from_hits("standard", offset=[0, 1], incident_energy=[1.0], x=[0], y=[0], energy=[1], layer=[0])
        )[0],
        "have only the layers of their hits",
    ),
}


@pytest.mark.parametrize(("make", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_clear_error(trees, make, message):
    with pytest.raises(ValueError, match=message):
        make(trees)


def test_an_item_out_of_range_is_an_index_error(trees):
    with pytest.raises(IndexError, match="out of range for a dataset of size 300"):
        PointDataset(trees)[300]
    for number in (True, 1.5, "a", slice(3)):
        with pytest.raises(TypeError, match="must be an integer"):
            PointDataset(trees)[number]
    assert repr(PointDataset(trees, split="all")) == "<PointDataset: 300 of 300 showers>"


def test_a_source_returns_the_configs_of_some_showers():
    parts = [supa.simulate(n, preset, seed=1) for n, preset in ((3, "critical"), (2, "standard"), (1, "critical"))]
    source = ShowerSource(parts)
    critical, standard = parts[0].config, parts[1].config
    assert source.configs(np.array([5, 0])) == (critical,)
    assert source.configs(np.array([4, 3, 0])) == (critical, standard)
    assert source.configs(np.array([], dtype=np.int64)) == ()
