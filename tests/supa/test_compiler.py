"""Compilation of kernels and caching of their machine code."""

import os
import subprocess
import sys

import numba
import numpy as np
import pytest

from supa import caching, compiler

PROGRAM = """
import numba
import numpy as np
from supa.compiler import kernel

before = numba.config.CACHE_DIR

@kernel
def twice(x):
    return 2 * x

assert numba.config.CACHE_DIR == before
print(twice(21))
"""


def run(folder, **environment):
    """Run a program with a kernel and return the files of machine code that it leaves in the folder."""
    program = folder / "program.py"
    program.write_text(PROGRAM)
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"} | environment
    done = subprocess.run(
        [sys.executable, program], env=environment, cwd=folder, capture_output=True, text=True, check=True
    )
    assert done.stdout == "42\n"
    assert done.stderr == ""
    return [path.relative_to(folder).parts for path in folder.rglob("program.twice*.nbi")]


def test_machine_code_is_cached_for_the_user_and_not_next_to_the_source(tmp_path):
    """Files next to the source would remain after `pip uninstall`, and the empty package would be importable."""
    (parts,) = run(tmp_path, XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert parts[:3] == ("cache", "supa", "numba")
    assert parts[3].startswith("supa-")


def test_numba_cache_dir_is_respected(tmp_path):
    (parts,) = run(tmp_path, NUMBA_CACHE_DIR=str(tmp_path / "mine"))
    assert parts[0] == "mine"
    assert parts[1].startswith("supa-")


def test_kernels_compile_without_a_writable_cache(tmp_path):
    assert run(tmp_path, XDG_CACHE_HOME="/dev/null") == []


def test_cache_folder_depends_on_the_content_of_all_source_files(tmp_path, monkeypatch):
    source = tmp_path / "package" / "inner" / "inlined.py"
    source.parent.mkdir(parents=True)
    monkeypatch.setattr(caching, "__file__", str(tmp_path / "package" / "caching.py"))
    folders = []
    for text in ("x = 1", "x = 2", "x = 1"):
        source.write_text(text)
        folders.append(caching.machine_code_folder.__wrapped__(str(tmp_path)))
    assert folders[0] == folders[2] != folders[1]


def test_a_relative_cache_folder_is_ignored(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert caching.user_cache() == tmp_path / ".cache" / "supa"


def test_kernels_do_not_use_fast_math(monkeypatch):
    """Contracted or reordered operations would make the results depend on the machine."""
    from supa import primaries
    from supa.engines import cpu, reference

    for function in [*vars(cpu).values(), *vars(primaries).values(), *vars(reference).values()]:
        if isinstance(function, numba.core.dispatcher.Dispatcher):
            assert not function.targetoptions.get("fastmath")
            assert not function.targetoptions.get("parallel")
    options = {}
    monkeypatch.setattr(numba.extending, "register_jitable", lambda **given: options.update(given) or (lambda f: f))
    compiler.stage(len)
    assert options == {"error_model": "numpy"}


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 127, 128])
def test_whole_vectors_stay_in_the_tile(count):
    from supa.engines.tiles import TILE, whole_vectors

    assert count <= whole_vectors(np.uint64(count)) <= TILE
    assert whole_vectors(np.uint64(count)) % 8 == 0
