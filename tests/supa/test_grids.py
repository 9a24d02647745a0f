"""Grids of cells: the cell of each hit, and conservation of energy."""

import numpy as np
import pytest

import supa
from supa import CALOGAN, Cartesian, Grid, Polar


@pytest.fixture(scope="module")
def showers():
    return supa.simulate(200, seed=3, energy="log:1:100")


def _grids():
    polar = Polar([0, 1, 2, 4], 5)
    return {
        "calogan": CALOGAN,
        "polar": Grid((polar, Polar([0.5, 3], 1), polar)),
        "slices": Grid([Cartesian([-1, 0, 2], [-3, 3]) if k % 2 else polar for k in range(28)], depth="slice"),
        "one without cells": Grid((None, polar, polar)),
    }


@pytest.mark.parametrize("grid", _grids().values(), ids=_grids())
def test_cells_and_overflow_contain_all_energy(showers, grid):
    part = showers.layer if grid.depth == "layer" else showers.slice
    total = np.zeros((len(showers), len(grid.parts)))
    np.add.at(total, (showers.hits.group_of_row(), part), showers.energy)
    inside = np.stack([image.sum(axis=(1, 2)) for image in grid.images(showers)], axis=1)
    np.testing.assert_allclose(inside + grid.overflow(showers), total, rtol=1e-12, atol=1e-12)
    assert (grid.overflow(showers) > 0).any()
    assert grid.energies(showers).shape == (len(showers), grid.num_cells)


def test_cells_equal_those_of_a_plain_loop():
    """The points include edges and corners of cells."""
    cells = Cartesian([0, 1, 3], [-1, 0, 0.5, 2])
    x, y = np.meshgrid([-0.1, 0, 0.5, 1, 3, 3.1], [-1, -0.5, 0, 0.5, 2, 2.1])
    for px, py, found in zip(x.ravel(), y.ravel(), cells.cell(x.ravel(), y.ravel()), strict=True):
        expected = -1
        for i in range(2):
            for j in range(3):
                in_x = cells.x_edges[i] <= px < cells.x_edges[i + 1] or (i == 1 and px == 3)
                in_y = cells.y_edges[j] <= py < cells.y_edges[j + 1] or (j == 2 and py == 2)
                expected = i * 3 + j if in_x and in_y else expected
        assert found == expected


@pytest.mark.parametrize("cells", [Cartesian([0, 1, 3], [-1, 0, 2]), Polar([0, 1, 2], 6), Polar([0.5, 2], 1)])
def test_the_centre_of_a_cell_is_inside_the_cell(cells):
    np.testing.assert_array_equal(cells.cell(*cells.centres()), np.arange(np.prod(cells.shape)))


def test_azimuth_of_polar_cells_starts_at_minus_pi():
    cells = Polar([0, 1, 2], 4)
    assert cells.cell(-0.5, -0.1) == 0
    assert cells.cell(0.1, -1.5) == 2 * 1 + 1
    assert cells.cell(1.5, 0.1) == 2 * 2 + 1
    assert cells.cell(-0.5, 0.0) == 2 * 3  # pi belongs to the last step
    assert cells.cell(3.0, 0.0) == -1


MISTAKES = {
    "one edge": (lambda: Cartesian([1], [0, 1]), "2 or more ascending"),
    "descending": (lambda: Polar([1, 0], 2), "2 or more ascending"),
    "not a number": (lambda: Cartesian([0, np.nan], [0, 1]), "2 or more ascending"),
    "words": (lambda: Cartesian("ab", [0, 1]), "2 or more ascending"),
    "negative radius": (lambda: Polar([-1, 0], 2), "a radius must be at least 0"),
    "no step": (lambda: Polar([0, 1], 0), "whole number of at least 1"),
    "no part": (lambda: Grid(()), "one for each layer"),
    "no cells": (lambda: Grid((3,)), "one for each layer"),
    "depth": (lambda: Grid((None,), depth="z"), "'layer' or 'slice'"),
    "too few parts": (lambda: Grid((Polar([0, 1], 2),)).cell(supa.simulate(20)), "numbered from 0"),
}


@pytest.mark.parametrize(("make", "message"), MISTAKES.values(), ids=MISTAKES)
def test_invalid_grids_raise_a_clear_error(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_cells_with_equal_edges_are_equal():
    assert Cartesian([0, 1], [0, 2]) == Cartesian((0.0, 1.0), np.array([0, 2]))
    assert Cartesian([0, 1], [0, 2]) != Cartesian([0, 1], [0, 3])
    assert Polar([0, 1], 2) == Polar([0, 1], 2) != Polar([0, 1], 3)
    assert "3 x 96" in repr(CALOGAN.parts[0])
    assert "2 x 1" in repr(Polar([0, 1], 2))
