"""Kernels compile also where no folder takes the machine code."""

import numba
import pytest

from supa import compiler


def test_a_machine_without_a_writable_cache_compiles_all_the_same(monkeypatch):
    compile_function = numba.njit

    def njit(function, *, cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return compile_function(function, **options)

    monkeypatch.setattr(compiler.numba, "njit", njit)

    @compiler.kernel
    def twice(x):
        return 2 * x

    assert twice(21) == 42


def test_no_fast_mathematics_is_allowed():
    """Contracted or reordered operations would make the results depend on the machine."""
    from supa.engines import cpu, reference, tiles

    for function in [*vars(cpu).values(), *vars(reference).values(), *vars(tiles).values()]:
        if isinstance(function, numba.core.dispatcher.Dispatcher):
            assert not function.targetoptions.get("fastmath")
            assert not function.targetoptions.get("parallel")


@pytest.mark.parametrize("count", [0, 1, 31, 32, 33, 255, 256])
def test_whole_vectors_stay_in_the_tile(count):
    from supa.engines.tiles import TILE, whole_vectors

    assert count <= whole_vectors(count) <= TILE
    assert whole_vectors(count) % 32 == 0
