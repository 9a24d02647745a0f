"""The paths that every operation is tested on: a processor, the kernels in Triton's interpreter, and on a GPU."""

import importlib.util
import os

import pytest
import torch

CUDA = torch.cuda.is_available()


def pytest_collection_modifyitems(config, items):
    """Leave the whole grids of public suites to runs that ask for them, also where -m names another marker."""
    if "grid" not in config.option.markexpr:
        left_out = [item for item in items if item.get_closest_marker("grid")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("grid")]


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _empty_memory_is_poisoned(monkeypatch):
    for owner, name in ((torch, "empty"), (torch, "empty_like"), (torch.Tensor, "new_empty")):
        monkeypatch.setattr(owner, name, _poisoned(getattr(owner, name)))


def _poisoned(make):
    def empty(*args, **kwargs):
        made = make(*args, **kwargs)
        return made.fill_(torch.nan) if made.is_floating_point() else made

    return empty


@pytest.fixture
def interpreter(monkeypatch, request):
    """Let tensors on the CPU take the kernels, in the interpreter."""
    if CUDA:
        pytest.skip("here is a CUDA device: the kernels run on it, not in the interpreter")
    if importlib.util.find_spec("triton") is None:
        pytest.skip("triton is not installed, so the kernels cannot run in its interpreter")
    if os.environ["TRITON_INTERPRET"] != "1":
        pytest.skip("a GPU is here that this PyTorch cannot use; set TRITON_INTERPRET=1 to interpret the kernels")
    from triton.runtime.interpreter import InterpreterBuilder

    if not hasattr(InterpreterBuilder, "get_int1_ty"):
        pytest.skip("this Triton has no boolean constants in its interpreter, which the kernels use; 3.4 has")
    monkeypatch.setattr("supa_mamba.ops.backend.is_cuda", lambda x: True)
    if "whole_tiles" not in request.fixturenames:
        monkeypatch.setattr("supa_mamba.ops.selective_scan.block_sizes.TILE", 4)


@pytest.fixture
def whole_tiles():
    """Let the interpreter, too, walk in tiles of full length."""


@pytest.fixture(params=["cpu", "interpreter", pytest.param("cuda", marks=pytest.mark.gpu)])
def path(request):
    """The name of the path, which is set up."""
    if request.param == "interpreter":
        request.getfixturevalue("interpreter")
    if request.param == "cuda" and not CUDA:
        pytest.skip("no CUDA device is here; run with -m gpu where there is one")
    return request.param


@pytest.fixture
def device(path):
    """Where the tensors of the path lie."""
    return "cuda" if path == "cuda" else "cpu"
