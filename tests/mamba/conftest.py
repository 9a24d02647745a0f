"""Backends that every operation is tested on: CPU, kernels in Triton's interpreter, and kernels on a GPU."""

import pytest
import torch
from tracing import without_trace
from triton_interpreter import poison_empty_memory, prepare_interpreter

CUDA = torch.cuda.is_available()


def pytest_collection_modifyitems(config, items):
    """Deselect the complete grids of public test suites unless -m selects the marker ``grid``."""
    if "grid" not in config.option.markexpr:
        left_out = [item for item in items if item.get_closest_marker("grid")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("grid")]


@pytest.fixture(scope="session", autouse=True)
def _pytorch_compiles_without_trace():
    """Save a third of the time of compilation: coverage would trace the compiler, too."""
    from torch._dynamo import convert_frame

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(convert_frame, "_compile", without_trace(convert_frame._compile))
        yield


@pytest.fixture(scope="module", autouse=True)
def _no_compiled_programs_of_other_files():
    """Forget compiled programs: after a number of them, PyTorch runs a function without compiling it."""
    torch._dynamo.reset()


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _empty_memory_is_poisoned(monkeypatch):
    poison_empty_memory(monkeypatch)


@pytest.fixture
def interpreter(monkeypatch, request):
    """Use the kernels for tensors on the CPU, in Triton's interpreter."""
    prepare_interpreter(monkeypatch)
    monkeypatch.setattr("supa_mamba.ops.backend.is_cuda", lambda x: True)
    monkeypatch.setattr("supa_mamba.ops.row_tiles.PROGRAMS", 2)
    if "whole_tiles" not in request.fixturenames:
        monkeypatch.setattr("supa_mamba.ops.selective_scan.block_sizes.TILE", 4)


@pytest.fixture
def whole_tiles():
    """Use tiles of full length in the interpreter, too."""


@pytest.fixture(params=["cpu", "interpreter", pytest.param("cuda", marks=pytest.mark.gpu)])
def path(request):
    """Set up a backend and return its name."""
    if request.param == "interpreter":
        request.getfixturevalue("interpreter")
    if request.param == "cuda" and not CUDA:
        pytest.skip("no CUDA device is available; run with -m gpu on a machine with a GPU")
    return request.param


@pytest.fixture
def device(path):
    """Device of the tensors of the backend."""
    return "cuda" if path == "cuda" else "cpu"
