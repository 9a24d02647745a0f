"""Shared fixtures of the tests of graph learning."""

import pytest

pytest.importorskip("torch", reason="PyTorch is not installed")
pytest.importorskip("torch_geometric", reason="PyTorch Geometric is not installed")


@pytest.fixture(autouse=True)
def one_thread():
    """Run with one thread, which is faster for small tensors and deterministic."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
