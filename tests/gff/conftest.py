"""What the tests of graph learning share."""

import pytest

pytest.importorskip("torch", reason="PyTorch is not installed")
pytest.importorskip("torch_geometric", reason="PyTorch Geometric is not installed")


@pytest.fixture(autouse=True)
def one_thread():
    """Small work is done faster by one thread, and in one order."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
