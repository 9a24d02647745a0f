"""The counter-based generator agrees with published test vectors and with a plain implementation."""

import naive_walk
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from supa.compiler import kernel
from supa.random import identity_words, philox


@kernel
def _compiled(c0, c1, c2, c3, k0, k1):  # type: ignore[no-untyped-def]
    return philox(c0, c1, c2, c3, k0, k1)


@kernel
def _compiled_identity(index, primary):  # type: ignore[no-untyped-def]
    return identity_words(index, primary)


# Test vectors of Random123 for Philox4x32-10.
VECTORS = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((2**32 - 1,) * 4, (2**32 - 1,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "answer"), VECTORS)
def test_philox_reproduces_the_published_vectors(counter, key, answer):
    assert tuple(map(int, _compiled(*map(np.uint64, (*counter, *key))))) == answer
    assert naive_walk.philox(counter, key) == answer


@given(st.lists(st.integers(0, 2**32 - 1), min_size=6, max_size=6))
def test_philox_equals_the_plain_implementation(words):
    assert tuple(map(int, _compiled(*map(np.uint64, words)))) == naive_walk.philox(tuple(words[:4]), tuple(words[4:]))


@given(st.integers(0, 2**56 - 1), st.integers(0, 255))
def test_showers_and_primaries_never_share_a_counter(index, primary):
    low, high = map(int, _compiled_identity(np.uint64(index), np.uint64(primary)))
    assert (low | (high >> 8) << 32, high & 255) == (index, primary)
    assert low < 2**32
    assert high < 2**32
