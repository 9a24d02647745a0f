"""Fixtures of the tests of supa_learning."""

import pytest

pytest.importorskip("torch", reason="PyTorch is not installed")


@pytest.fixture(autouse=True)
def one_thread():
    """Use one thread, so that sums have a fixed order."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
