import pytest
import torch

from supa_datasets.offsets import counts_to_offsets


@pytest.mark.parametrize(("counts", "offset"), [([2, 0, 3], [0, 2, 2, 5]), ([], [0]), ([0], [0, 0])])
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8])
def test_offsets_are_sums_of_counts_from_zero(counts, offset, dtype):
    found = counts_to_offsets(torch.tensor(counts, dtype=dtype))
    assert torch.equal(found, torch.tensor(offset))
    assert found.dtype == torch.int64
    assert counts_to_offsets(torch.tensor([200, 100], dtype=torch.uint8))[-1] == 300
