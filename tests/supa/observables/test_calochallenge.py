"""CaloChallenge features: published formulas in plain Python."""

import math

import numpy as np
import pytest

import supa
from supa import Grid, Polar
from supa.observables import calochallenge as cc

# As in data set 1 of the challenge: layers with one and with ten bins in alpha, and an empty layer.
GRID = Grid((Polar([0, 0.5, 1, 2, 5], 1), Polar([0, 1, 2, 4, 8], 10), None, Polar([0, 2, 4, 20], 10)))
CONFIG = supa.preset("standard").replace(readout_layers=[[5, 8], [9, 12], [13, 14], [15, 27]])


def _voxels() -> np.ndarray:
    showers = supa.simulate(40, CONFIG, energy="log:1:100", seed=2)
    voxels = 1000 * GRID.energies(showers)
    voxels[3] = 0
    voxels[4, GRID.offset[1] :] = 0
    return voxels


def _published(voxels: list[float], threshold: float) -> dict[str, list[float]]:
    """Evaluate HighLevelFeatures.py and XMLHandler.py for one shower, with NaN if the original has no entry."""
    result = {name: [] for name in ("e_layers", "sparsity", "ec_r", "width_r")}
    result |= {name: [] for name in ("ec_eta", "ec_phi", "width_eta", "width_phi")}
    start = 0
    for part in GRID.parts:
        if part is None:
            for values in result.values():
                values.append(math.nan)
            continue
        eta, phi, r = [], [], []
        for step in range(part.num_alpha):  # the radius varies fastest, and alpha starts at -pi
            alpha = -math.pi + 2 * math.pi * (step + 0.5) / part.num_alpha
            for inner, outer in zip(part.r_edges[:-1], part.r_edges[1:], strict=True):
                middle = inner + (outer - inner) / 2
                eta.append(middle * math.cos(alpha))
                phi.append(middle * math.sin(alpha))
                r.append(middle)
        layer = voxels[start : start + len(r)]
        start += len(r)
        total = math.fsum(layer)
        result["e_layers"].append(total)
        result["sparsity"].append(1 - sum(e > threshold for e in layer) / len(layer))
        for name, places in (("eta", eta), ("phi", phi), ("r", r)):
            centre = math.fsum(p * e for p, e in zip(places, layer, strict=True)) / (total + 1e-16)
            square = math.fsum(p * p * e for p, e in zip(places, layer, strict=True)) / (total + 1e-16)
            defined = name == "r" or part.num_alpha > 1
            result[f"ec_{name}"].append(centre if defined else math.nan)
            result[f"width_{name}"].append(math.sqrt(max(square - centre**2, 0)) if defined else math.nan)
    return result


@pytest.mark.parametrize("threshold", [0.0, 15.0])
@pytest.mark.parametrize("kind", [np.float64, np.float32])
def test_features_equal_the_published_formulas(threshold, kind):
    voxels = _voxels().astype(kind)
    published = [_published([float(e) for e in shower], threshold) for shower in voxels]
    np.testing.assert_allclose(cc.e_tot(voxels), [math.fsum(map(float, shower)) for shower in voxels], rtol=1e-12)
    for name in published[0]:
        values = cc.sparsity(voxels, GRID, threshold) if name == "sparsity" else getattr(cc, name)(voxels, GRID)
        assert values.dtype == np.float64
        atol = 1e-6 if name.startswith("width") else 1e-12  # a small width suffers from cancellation
        np.testing.assert_allclose(values, [p[name] for p in published], rtol=1e-9, atol=atol, err_msg=name)
    assert cc.ec_eta(voxels, GRID)[3, 1] == cc.width_r(voxels, GRID)[3, 0] == 0


def test_empty_voxels():
    assert cc.e_tot(_voxels()[:0]).shape == (0,)
    assert cc.width_phi(_voxels()[:0], GRID).shape == (0, 4)


def test_separation_power():
    bins = np.array([0, 1, 3, 4, 8])
    first, second = np.array([0.2, 0.1, 0.4, 0.05]), np.array([0.0, 0.25, 0.1, 0.1])
    expected = 0.0
    for a, b, width in zip(first, second, np.diff(bins), strict=True):
        expected += 0.5 * (a * width - b * width) ** 2 / (a * width + b * width + 1e-16)
    assert cc.separation_power(first, second, bins) == pytest.approx(expected, rel=1e-14)
    assert cc.separation_power(first, first, bins) == 0
    assert cc.separation_power([1, 0, 0], [0, 0, 1], [0, 1, 2, 3]) == pytest.approx(1)


CARTESIAN = Grid((supa.Cartesian([0, 1], [0, 1]),))
MISTAKES = {
    "shape": (lambda: cc.ec_r(np.zeros((2, 5)), GRID), r"shape \(n, 74\)"),
    "one shower": (lambda: cc.e_layers(np.zeros(74), GRID), r"shape \(n, 74\)"),
    "cells": (lambda: cc.sparsity(np.zeros((2, 1)), CARTESIAN), "must have Polar parts, got <Cartesian.*as part 0"),
    "histogram": (lambda: cc.separation_power([1], [0, 1], [0, 1, 2]), "3 edges need 2 densities"),
}


@pytest.mark.parametrize(("make", "message"), MISTAKES.values(), ids=MISTAKES)
def test_wrong_arguments_raise_a_clear_error(make, message):
    with pytest.raises(ValueError, match=message):
        make()
