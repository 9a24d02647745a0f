"""Environment and fixtures of all tests."""

import functools
import gc
import importlib.metadata
import multiprocessing
import os
import tempfile
from pathlib import Path

import public_grids
import pytest
from tracing import leave_other_packages_out, without_trace

# Each state of the source has a folder of its own below it.
os.environ.setdefault("NUMBA_CACHE_DIR", str(Path(tempfile.gettempdir()) / f"supa-tests-{os.getuid()}"))
# Without a GPU, Triton interprets its kernels. It reads this variable on import, and other packages import it.
os.environ.setdefault("TRITON_INTERPRET", "0" if Path("/dev/nvidia0").exists() else "1")

# Processes that share the processors must not each start a thread per processor. PyTorch reads this on import.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).parent.parent


def pytest_configure(config):
    """Build the whole grids of public test suites if ``-m`` selects them."""
    public_grids.WHOLE = "grid" in config.option.markexpr


def pytest_collection_finish():
    """Let the garbage collector skip the modules and tests, which stay until the end."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Run each file in one process, so that its simulations, trainings and compilations are not repeated.

    Slow tests share little, and some files have several that take minutes, so they are distributed one by one.
    """
    from xdist.scheduler import LoadFileScheduling

    by_file = config.option.dist == "load" and config.option.markexpr != "slow"
    return LoadFileScheduling(config, log) if by_file else None


def pytest_runtest_setup():
    """Save much of the time that coverage takes. Tests import some packages, so this is repeated."""
    leave_other_packages_out()


@pytest.fixture(scope="session", autouse=True)
def _versions_are_read_once():
    """Read the descriptions of installed packages once, not for each file or result that names their versions."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(importlib.metadata, "version", functools.cache(without_trace(importlib.metadata.version)))
        yield


@pytest.fixture(scope="session", autouse=True)
def _numba_compiles_without_trace():
    """Save a fifth of the time of compilation: coverage would trace the compiler, too."""
    from numba.core.dispatcher import Dispatcher

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Dispatcher, "compile", without_trace(Dispatcher.compile))
        yield


@pytest.fixture
def root() -> Path:
    """Return the root of the repository."""
    return ROOT


@pytest.fixture
def data() -> Path:
    """Return the folder of small reference data."""
    return ROOT / "tests" / "data"


@pytest.fixture
def shared_reference() -> Path:
    """Return the path of the large reference data outside of the project, or skip the test."""
    path = ROOT.parent / "shared" / "reference" / "supa_65GeV_seed1234.npz"
    if not path.exists():
        pytest.skip("the large reference sample is missing; tests/data contains its first 60 showers")
    return path


@pytest.fixture
def shared_datasets() -> Path:
    """Return the folder of raw files of graph benchmarks outside of the project, or skip the test."""
    path = ROOT.parent / "shared" / "datasets"
    if not path.is_dir():
        pytest.skip("the raw files of the graph benchmarks are missing")
    return path


@pytest.fixture
def forked_workers(monkeypatch):
    """Fork the processes of benchmarks of graph networks, which takes milliseconds instead of seconds of imports.

    On a machine with a GPU they stay new interpreters, because a forked process cannot use the GPU.
    """
    import torch

    if not torch.cuda.is_available():
        fork = multiprocessing.get_context("fork")
        monkeypatch.setattr("supa_gff.bench.worker_pool.get_context", lambda _: fork)


@pytest.fixture
def small_chunks(monkeypatch):
    """Make chunks, batches and queues so small that 300 showers fill many of them."""
    from supa_datasets.layout import HITS, PARTICLES, PRIMARIES

    for table, rows in ((HITS, 512), (PRIMARIES, 32), (PARTICLES, 1024)):
        monkeypatch.setitem(vars(table), "chunk", rows)
    for module in ("hdf5_create", "shower_buffer"):
        monkeypatch.setattr(f"supa_datasets.{module}.SHOWER_CHUNK", 16)
    monkeypatch.setattr("supa_datasets.shower_buffer.BATCH_ROWS", 3000)
    monkeypatch.setattr("supa_datasets.shower_buffer.BATCH_SHOWERS", 13)
    monkeypatch.setattr("supa_datasets.writer._SAVE_BATCHES", 2)
    monkeypatch.setattr("supa_datasets.writer._SYNC_SAVES", 1)
    monkeypatch.setattr("supa_datasets.chunk_queue._PIECES_PER_THREAD", 3)
