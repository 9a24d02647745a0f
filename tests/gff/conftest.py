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


@pytest.fixture(params=["operations", "interpreter", pytest.param("kernels", marks=pytest.mark.gpu)])
def kernel_device(request, monkeypatch):
    """Select operations of PyTorch or Triton kernels, and return the device of the inputs."""
    import torch
    from triton_interpreter import prepare_interpreter

    if request.param == "kernels":
        if not torch.cuda.is_available():
            pytest.skip("no CUDA device")
        return "cuda"
    if request.param == "interpreter":
        prepare_interpreter(monkeypatch)
        monkeypatch.setattr("supa_gff.graph_ops.backend.uses_kernels", lambda _: True)
    return "cpu"
