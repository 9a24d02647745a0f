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


KERNELS = ["interpreter", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.fixture(params=["operations", *KERNELS])
def kernel_device(request, monkeypatch):
    """Select operations of PyTorch or Triton kernels, and return the device of the inputs."""
    return _device_of(request.param, monkeypatch)


@pytest.fixture(params=KERNELS)
def only_kernel_device(request, monkeypatch):
    """Select Triton kernels, and return the device of the inputs."""
    return _device_of(request.param, monkeypatch)


def _device_of(kind, monkeypatch):
    import torch
    from triton_interpreter import poison_empty_memory, prepare_interpreter

    if kind == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    if kind == "interpreter":
        prepare_interpreter(monkeypatch)
        monkeypatch.setattr("supa_gff.graph_ops.backend.uses_kernels", lambda _: True)
    poison_empty_memory(monkeypatch)
    return "cuda" if kind == "cuda" else "cpu"
