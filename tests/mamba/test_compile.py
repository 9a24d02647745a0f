"""The Triton kernels compile for other GPUs, which need not be present."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from importlib.metadata import version

import pytest

INSTALLED = importlib.util.find_spec("triton") is not None
OLD = INSTALLED and version("triton").startswith("3.2.")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not INSTALLED or OLD, reason="Triton 3.3 or later is not installed"),
]

KERNELS = r"^def (\w+_kernel)\("


def compiled(root, tmp_path, *options):
    """Run the check in a process of its own, in which Triton compiles kernels instead of interpreting them."""
    results = tmp_path / "results.json"
    environment = os.environ | {"TRITON_CACHE_DIR": str(tmp_path / "cache"), "TRITON_INTERPRET": "0"}
    command = [sys.executable, str(root / "benchmarks" / "compile_kernels.py"), *options, "--json", str(results)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done, json.loads(results.read_text())["compiled"] if results.exists() else []


def test_all_kernels_fit_into_the_gpu_with_the_least_shared_memory(root, tmp_path):
    """256 states in double precision need the most shared memory of all sizes."""
    done, found = compiled(root, tmp_path, "--capabilities", "86", "--states", "256", "--dtypes", "float64")
    assert not done.returncode, done.stderr
    files = [
        file
        for folder in ("gff", "mamba")
        for name in ("kernels.py", "kernels/*.py")
        for file in (root / folder).rglob(name)
    ]
    written = {name for file in files for name in re.findall(KERNELS, file.read_text(), re.MULTILINE)}
    assert written == {kernel["kernel"] for kernel in found}


def test_all_kernels_fit_into_the_newest_gpu(root, tmp_path):
    """Triton generates the code for capability 8.0 like that for 8.6, which has less shared memory."""
    done, found = compiled(root, tmp_path, "--capabilities", "100", "--states", "16", "--dtypes", "float32")
    assert not done.returncode, done.stderr
    if "skipped" in done.stderr:
        pytest.skip(done.stderr.splitlines()[-1])
    assert found
