"""Showers for the tests of the loaders."""

import pytest

import supa
import supa_datasets

pytest.importorskip("torch", reason="PyTorch is not installed")


@pytest.fixture(scope="session")
def trees():
    return supa.simulate(300, "two-primaries", seed=5, energy="log:1:100", record="particles")


@pytest.fixture(scope="session")
def folder(tmp_path_factory, trees):
    """A folder with the files trees.h5, hits.h5 (standard) and dense.h5."""
    path = tmp_path_factory.mktemp("loaders")
    supa_datasets.save(trees, path / "trees.h5")
    supa_datasets.save(supa.simulate(400, seed=6), path / "hits.h5")
    supa_datasets.save(supa.simulate(20, "dense", seed=6), path / "dense.h5")
    return path
