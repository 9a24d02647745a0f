import shutil

import pytest
from shard_folders import write_folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return the folder of a finished dataset of four shards."""
    folder = tmp_path_factory.mktemp("whole") / "whole"
    write_folder(folder)
    return folder


@pytest.fixture
def folder(whole, tmp_path):
    """Return a copy of the dataset, which a test may change."""
    return shutil.copytree(whole, tmp_path / "dataset")
