import pytest
import torch

from supa_mamba.ops.packing import check_offsets, normalize_offsets


@pytest.mark.parametrize("offset", [[0, 4], [0, 0, 4], [0, 2, 2, 4, 4]])
def test_offsets_ascend_from_zero_to_the_number_of_rows(offset):
    check_offsets(torch.tensor(offset), 4)


@pytest.mark.parametrize(
    ("offset", "message"),
    [
        ([1, 4], "offset: 1 to 4 was given for 4 rows, but it must begin at 0"),
        ([0, 3], "offset: 0 to 3 was given for 4 rows"),
        ([0, 5], "offset: 0 to 5 was given for 4 rows"),
        ([0], "offset: 0 to 0 was given for 4 rows"),
        ([0, 3, 2, 4], "offset: 0 to 4, descending after entry 1, was given for 4 rows"),
    ],
)
def test_invalid_offsets_raise_a_clear_error(offset, message):
    with pytest.raises(ValueError, match=message):
        check_offsets(torch.tensor(offset), 4)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint16])
def test_offsets_become_int64(dtype):
    found = normalize_offsets("x", torch.zeros(4, 3), torch.tensor([0, 1, 4]).to(dtype))
    assert torch.equal(found, torch.tensor([0, 1, 4]))
    assert found.dtype == torch.int64


def test_padded_sequences_have_equal_lengths():
    assert normalize_offsets("x", torch.zeros(2, 3, 5), None).tolist() == [0, 3, 6]
    assert normalize_offsets("x", torch.zeros(0, 3, 5), None).tolist() == [0]
    assert normalize_offsets("x", torch.zeros(2, 0, 5, 1), None, "HP").tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    "offset", [torch.tensor([[0, 4]]), torch.tensor(4), torch.tensor([]).long(), torch.tensor([0.0, 4.0])]
)
def test_an_offset_must_be_a_vector_of_integers(offset):
    with pytest.raises(ValueError, match=r"offset: shape .* was given, but it must be \(S \+ 1,\) integers on cpu"):
        normalize_offsets("x", torch.zeros(4, 3), offset)
