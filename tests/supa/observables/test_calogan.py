"""CaloGAN variables: published formulas in plain Python, and means of the public reference code."""

import json
import math

import numpy as np
import pytest

import supa
from supa import observables
from supa.observables import calogan

EPSILON = 1e-6


def _images(seed: int = 1, kind: type = np.float64) -> list[np.ndarray]:
    """Return images in MeV, including showers without energy in some or all layers."""
    images = [(1000 * image).astype(kind) for image in supa.CALOGAN.images(supa.simulate(40, energy="1:99", seed=seed))]
    images[0][3] = images[1][3] = images[2][3] = 0
    images[2][4] = 0
    images[1][5] = images[2][5] = 0
    images[0][6] = images[1][6] = 0
    images[0][7] = images[2][7] = 0
    return images


def _published(images: list[np.ndarray], overflow: np.ndarray, k: int) -> dict[str, float]:
    """Evaluate the formulas of analysis/feats1d.py and plot_1D_features.py for shower k, with NaN for 0 / 0."""
    cells = [image[k].astype(float).tolist() for image in images]
    energies = [math.fsum(e for row in layer for e in row) for layer in cells]
    total = sum(energies)
    first, second = energies[1] + 2 * energies[2], energies[1] + 4 * energies[2]
    result = {
        "depth": 2 if energies[2] != 0 else 1 if energies[1] != 0 else 0,
        "total_energy": total,
        "lateral_depth": first,
        "lateral_depth2": second,
        "shower_depth": first / total if total else math.nan,
        "shower_depth_width": math.sqrt(max(second / total - (first / total) ** 2, 0)) if total else math.nan,
    }
    outside = math.fsum(overflow[k].tolist())
    result["fraction_not_in"] = outside / (total + outside) if total + outside else math.nan
    for number, layer in enumerate(cells):
        result[f"energy {number}"] = energies[number]
        result[f"efrac {number}"] = energies[number] / total if total else math.nan
        bins = len(layer)
        centres = [-240 + 480 * (i + 0.5) / bins for i in range(bins)]
        x = math.fsum(e * centres[i] for i, row in enumerate(layer) for e in row) / (energies[number] + EPSILON)
        x2 = math.fsum(e * centres[i] ** 2 for i, row in enumerate(layer) for e in row) / (energies[number] + EPSILON)
        result[f"layer_lateral_width {number}"] = math.sqrt(max(x2 - x**2, 0))
        e1, e2 = sorted((e for row in layer for e in row), reverse=True)[:2]
        result[f"eratio {number}"] = (e1 - e2) / (EPSILON + e1 + e2)
        result[f"sparsity {number}"] = sum(e > 0 for row in layer for e in row) / sum(len(row) for row in layer)
    return result


@pytest.mark.parametrize("kind", [np.float64, np.float32])
def test_variables_equal_the_published_formulas(kind):
    images, overflow = _images(kind=kind), np.random.default_rng(0).random((40, 3)) * np.eye(40, 1)
    total, depth, depth2 = calogan.total_energy(images), calogan.lateral_depth(images), calogan.lateral_depth2(images)
    computed = {
        "depth": calogan.depth(images),
        "total_energy": total,
        "lateral_depth": depth,
        "lateral_depth2": depth2,
        "shower_depth": calogan.shower_depth(depth, total),
        "shower_depth_width": calogan.shower_depth_width(depth, depth2, total),
        "fraction_not_in": calogan.fraction_not_in(overflow, images),
    }
    for layer in range(3):
        computed[f"energy {layer}"] = calogan.energy(layer, images)
        computed[f"efrac {layer}"] = calogan.efrac(calogan.energy(layer, images), total)
        computed[f"layer_lateral_width {layer}"] = calogan.layer_lateral_width(layer, images)
        computed[f"eratio {layer}"] = calogan.eratio(images[layer])
        computed[f"sparsity {layer}"] = calogan.sparsity(images[layer])
    published = [_published(images, overflow, k) for k in range(40)]
    assert computed.keys() == published[0].keys()
    for name, values in computed.items():
        assert values.dtype == (np.int64 if name == "depth" else np.float64)
        # A small width is the root of a difference, which suffers from cancellation.
        atol = 1e-4 if "lateral_width" in name else 1e-7 if "depth_width" in name else 1e-12
        np.testing.assert_allclose(values, [p[name] for p in published], rtol=1e-9, atol=atol, err_msg=name)
    assert set(computed["depth"]) == {0, 1, 2}


def test_width_scales_with_the_cell_size():
    images = _images()
    wide, narrow = calogan.layer_lateral_width(1, images), calogan.layer_lateral_width(1, images, half_width=10)
    np.testing.assert_allclose(wide, 24 * narrow)


def test_empty_images():
    images = [np.zeros((0, *shape)) for shape in ((3, 96), (12, 12), (12, 6))]
    assert calogan.depth(images).shape == (0,)
    assert calogan.eratio(images[0]).shape == calogan.sparsity(images[0]).shape == (0,)
    assert calogan.layer_lateral_width(0, images).shape == (0,)


IMAGES = [np.zeros((2, 3, 96)), np.zeros((2, 12, 12)), np.zeros((2, 12, 6))]
MISTAKES = {
    "two images": (lambda: calogan.depth(IMAGES[:2]), "must be three arrays"),
    "lengths": (lambda: calogan.total_energy([IMAGES[0][:1], *IMAGES[1:]]), "must be three arrays"),
    "flat": (lambda: calogan.lateral_depth([image[0] for image in IMAGES]), "must be three arrays"),
    "layer": (lambda: calogan.energy(3, IMAGES), "from 0 to 2"),
    "width": (lambda: calogan.layer_lateral_width(0, IMAGES, half_width=0), "above 0"),
    "one cell": (lambda: calogan.eratio(np.zeros((2, 1, 1))), "two cells"),
    "no image": (lambda: calogan.sparsity(np.zeros((2, 3))), r"shape \(n, nx, ny\)"),
    "overflow": (lambda: calogan.fraction_not_in(np.zeros((2, 2)), IMAGES), r"shape \(2, 3\)"),
}


@pytest.mark.parametrize(("make", "message"), MISTAKES.values(), ids=MISTAKES)
def test_wrong_arguments_raise_a_clear_error(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def _reference(path) -> supa.Showers:
    sample = np.load(path)
    counts = np.bincount(sample["shower"])
    order = np.argsort(sample["shower"], kind="stable")
    return supa.from_hits(
        "reference", offset=np.concatenate([[0], np.cumsum(counts)]), incident_energy=np.full(len(counts), 65.0),
        **{name: sample[name][order] for name in ("x", "y", "energy", "layer")},
    )  # fmt: skip


def test_grids_of_the_reference_sample_agree_with_independent_code(shared_reference):
    """Independent code filled the grids with the same 1,000 showers."""
    figures = json.loads((shared_reference.parent / "calogan_grids_65GeV_seed1234.json").read_text())
    showers = _reference(shared_reference)
    images = [1000 * image for image in supa.CALOGAN.images(showers)]
    for layer, image in enumerate(images):
        figure = figures[f"layer_{layer}"]
        assert calogan.energy(layer, images).mean() == pytest.approx(figure["mean_inside_MeV"], rel=1e-9)
        assert calogan.sparsity(image).mean() == pytest.approx(figure["occupancy"], rel=1e-9)
        assert observables.occupancy(showers, supa.CALOGAN)[:, layer].mean() == pytest.approx(figure["occupancy"])
        assert image.max(axis=(1, 2)).mean() == pytest.approx(figure["hottest_cell_mean_MeV"], rel=1e-9)


def test_means_of_the_reference_sample_agree_with_a_larger_sample(shared_reference):
    """Compare 1,000 showers of the public code with means over 5,000 showers from independent code."""
    showers = _reference(shared_reference)
    images = [1000 * image for image in supa.CALOGAN.images(showers)]
    total, depth, depth2 = calogan.total_energy(images), calogan.lateral_depth(images), calogan.lateral_depth2(images)
    turned = [image.transpose(0, 2, 1) for image in images]
    figures = [
        (calogan.efrac(calogan.energy(0, images), total), 0.6046),
        (calogan.shower_depth(depth, total), 0.3959),
        (calogan.shower_depth_width(depth, depth2, total), 0.4719),
        *((calogan.sparsity(images[k]), truth) for k, truth in enumerate((0.0675, 0.1364, 0.0258))),
        *((calogan.eratio(images[k]), truth) for k, truth in enumerate((0.207, 0.228, 0.715))),
    ]
    for k, (half_width, x, y) in enumerate([(5, 0.975, 1.036), (10, 1.656, 1.686), (15, 0.699, 0.745)]):
        figures.append((calogan.layer_lateral_width(k, images, half_width=half_width), x))
        figures.append((calogan.layer_lateral_width(k, turned, half_width=half_width), y))
    for values, truth in figures:
        error = values.std() * np.sqrt(1 / 1000 + 1 / 5000)
        assert abs(values.mean() - truth) < 5 * error + 5e-4, (values.mean(), truth, error)
