"""Offsets of ragged tables: computed from counts, validated, and converted from any integer type."""

import numpy as np
import pytest

from supa import Ragged
from supa.ragged import check_offset, counts_to_offsets


@pytest.mark.parametrize("counts", [[], [0], [2, 0, 3]])
def test_offsets_are_running_sums_of_counts(counts):
    offset = counts_to_offsets(np.array(counts, dtype=np.uint8))
    assert offset.dtype == np.int64
    assert offset.tolist() == [sum(counts[:k]) for k in range(len(counts) + 1)]
    assert check_offset("offset", offset) is offset


@pytest.mark.parametrize("kind", [np.int32, np.uint16, np.int64])
def test_offsets_of_any_integer_type_become_int64(kind):
    offset = np.array([0, 2, 3], kind)
    assert check_offset("offset", offset).dtype == np.int64
    table = Ragged({"a": np.arange(3)}, offset)
    assert table.offset.dtype == np.int64
    assert table.take(np.array([1, 0]))["a"].tolist() == [2, 0, 1]


@pytest.mark.parametrize("given", [[], [1, 2], [0, 2, 1], [0.0, 1.0], [[0, 1]], np.array([0, 2**63 + 1], np.uint64)])
def test_invalid_offsets_are_rejected(given):
    with pytest.raises(ValueError, match=r"offset: .* must be whole numbers that ascend from 0"):
        check_offset("offset", given)
