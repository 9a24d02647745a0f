"""What every test shares."""

import os
import tempfile
from pathlib import Path

import pytest

# Below it each state of the source has a folder of its own.
os.environ.setdefault("NUMBA_CACHE_DIR", str(Path(tempfile.gettempdir()) / f"supa-tests-{os.getuid()}"))
# Triton reads this once, where it is imported, and other packages import it: without a GPU its kernels are interpreted.
os.environ.setdefault("TRITON_INTERPRET", "0" if Path("/dev/nvidia0").exists() else "1")

ROOT = Path(__file__).parent.parent


@pytest.fixture
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture
def data() -> Path:
    """The folder of small reference data."""
    return ROOT / "tests" / "data"


@pytest.fixture
def shared_reference() -> Path:
    """The large reference data, which lie outside the project where they are at hand."""
    path = ROOT.parent / "shared" / "reference" / "supa_65GeV_seed1234.npz"
    if not path.exists():
        pytest.skip("the large reference sample is not at hand; tests/data holds its first 60 showers")
    return path


@pytest.fixture
def shared_datasets() -> Path:
    """The raw files of graph benchmarks, which lie outside the project where they are at hand."""
    path = ROOT.parent / "shared" / "datasets"
    if not path.is_dir():
        pytest.skip("the graph benchmarks' raw files are not at hand")
    return path
