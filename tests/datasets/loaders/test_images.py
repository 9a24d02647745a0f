"""Images: CaloGAN's cells, other grids, several at once; no energy is lost."""

import numpy as np
import pytest
import torch

import supa
from supa import CALOGAN, Cartesian, Grid, Polar
from supa_datasets import ImageDataset

COARSE = Grid([Cartesian([-20, 0, 20], [-20, 20])] * 3)


def test_calogan_is_the_default(trees):
    dataset = ImageDataset(trees, targets=["num_primaries", "incident_energy"])
    item = dataset[4]
    assert [tuple(item[f"layer_{k}"].shape) for k in range(3)] == [(3, 96), (12, 12), (12, 6)]
    for k, image in enumerate(CALOGAN.images(trees[4])):
        np.testing.assert_array_equal(item[f"layer_{k}"], image[0].astype(np.float32))
    layers = np.bincount(trees[4].layer, weights=trees[4].energy, minlength=3)
    inside = [float(item[f"layer_{k}"].sum()) for k in range(3)]
    np.testing.assert_allclose(inside + item["overflow"].numpy(), layers, rtol=1e-5, atol=1e-6)
    batch = dataset.collate(dataset.__getitems__([0, 4, 9]))
    assert batch["layer_0"].shape == (3, 3, 96)
    assert torch.equal(batch["layer_2"][1], item["layer_2"])
    assert batch["num_primaries"].tolist() == trees.num_primaries[[0, 4, 9]].tolist()


def test_several_granularities_of_the_same_shower(trees):
    slices = Grid([Polar([0, 2, 8], 4)] * 28, depth="slice")
    dataset = ImageDataset(trees, grid={"fine": CALOGAN, "coarse": COARSE, "slices": slices})
    item = dataset[7]
    assert item["coarse/layer_1"].shape == (2, 1)
    assert item["slices/slice_9"].shape == (4, 2)
    for name in ("fine", "coarse"):
        total = sum(float(item[f"{name}/layer_{k}"].sum()) for k in range(3)) + float(item[f"{name}/overflow"].sum())
        assert total == pytest.approx(trees[7].energy.sum(), rel=1e-5)


def test_normalisation_scales_and_is_undone(trees):
    dataset = ImageDataset(trees, normalisation="fit")
    plain = ImageDataset(trees)
    train = ImageDataset(trees, split="train")
    cells = np.concatenate([train[k]["layer_1"].numpy().ravel() for k in range(len(train))]).astype(np.float64)
    assert dataset.normalisation.std[1] == pytest.approx(np.sqrt(np.square(cells[cells > 0]).mean()), rel=1e-5)
    item, raw = dataset[3], plain[3]
    assert torch.equal(item["layer_0"] == 0, raw["layer_0"] == 0)
    back = dataset.invert(item)
    for name in raw:
        torch.testing.assert_close(back[name], raw[name])
    assert ImageDataset(trees, normalisation=dataset.normalisation)[3]["layer_0"].equal(item["layer_0"])


MISTAKES = {
    "no grid": (lambda t: ImageDataset(t, grid=3), "a Grid, or Grids by name"),
    "empty": (lambda t: ImageDataset(t, grid={}), "a Grid, or Grids by name"),
    "too few parts": (lambda t: ImageDataset(t, grid=Grid(COARSE.parts[:2])), "have 3 layers"),
    "other images": (
        lambda t: ImageDataset(t, grid={"a": COARSE}, normalisation=ImageDataset(t, normalisation="fit").normalisation),
        "must only scale the images a/layer_0",
    ),
    "a hit's target": (lambda t: ImageDataset(t, targets="primary"), "only have"),
    "slices unknown": (
        lambda t: ImageDataset(
            supa.from_hits("standard", offset=[0, 1], incident_energy=[1], x=[0], y=[0], energy=[1], layer=[1]),
            grid=Grid([None] * 28, depth="slice"),
        )[0],
        "only the layers of these hits are known",
    ),
}


@pytest.mark.parametrize(("make", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_clear_error(trees, make, message):
    with pytest.raises(ValueError, match=message):
        make(trees)
