import pytest
import torch

from supa_mamba.ops.state_slots import (
    active_accepted,
    active_slots,
    check_cached,
    check_no_gradients,
    check_state,
    normalize_slots,
)


def test_active_slots_are_not_negative():
    active, slots = active_slots("slots", torch.tensor([2, -1, 0]), torch.zeros(3, 1))
    assert active.tolist() == [0, 2]
    assert slots.tolist() == [2, 0]


@pytest.mark.parametrize(
    ("slots", "message"),
    [([0, 3], "slots: 3 was given, but the table has slots 0 to 2"), ([1, 0, 1], "slots: 1 was given more than once")],
)
def test_slots_must_be_in_the_table_and_unique(slots, message):
    with pytest.raises(ValueError, match=message):
        active_slots("slots", torch.tensor(slots), torch.zeros(3, 1))


def test_finished_sequences_may_share_a_slot():
    active, _ = active_slots("slots", torch.tensor([-1, 1, -1]), torch.zeros(2, 1))
    assert active_accepted(torch.tensor([99, 2, -5]), active, 2).tolist() == [2]
    for accepted in (3, -1):
        with pytest.raises(ValueError, match=f"accepted: {accepted} to {accepted} was given"):
            active_accepted(torch.tensor([0, accepted, 0]), active, 2)


def test_slots_count_from_zero_if_they_are_not_given():
    table = torch.zeros(2, 1)
    assert normalize_slots("slots", None, torch.zeros(2, 5), table).tolist() == [0, 1]
    with pytest.raises(ValueError, match="it has 3 sequences, but the state table has 2 slots"):
        normalize_slots("slots", None, torch.zeros(3, 5), table)


@pytest.mark.parametrize(
    ("size", "stride", "overlaps"),
    [
        ((2, 2), (1, 1), True),
        ((2, 2), (1, 2), False),
        ((2, 3), (2, 1), True),
        ((2, 3), (3, 1), False),
        ((2, 3), (4, 1), False),
        ((2, 3), (0, 1), True),
        ((1, 3), (0, 1), False),
    ],
)
def test_a_table_with_shared_memory_is_rejected(size, stride, overlaps):
    table = torch.zeros(20).as_strided(size, stride)
    if overlaps:
        with pytest.raises(ValueError, match="share memory"):
            check_state("state", table, (2,), "(R, D)")
    else:
        check_state("state", table, (2,), "(R, D)")


def test_parameters_that_require_gradients_are_accepted_without_gradients():
    weight = torch.ones(2, requires_grad=True)
    with torch.no_grad():
        check_no_gradients("step", "forward", weight, None)
    with pytest.raises(ValueError, match="step modifies its state"):
        check_no_gradients("step", "forward", None, weight)


@pytest.mark.parametrize(
    ("cached", "message"),
    [
        (torch.zeros(3, 2), r"cache: shape \(3, 2\)"),
        (torch.zeros(3, 2).t(), "contiguous"),
        (torch.zeros(2, 3, dtype=torch.int64), "which would round"),
        (torch.zeros(2, 3, dtype=torch.float16), "which would round"),
        (torch.zeros(2, 3, dtype=torch.complex64), "torch.complex64 was given"),
    ],
)
def test_a_cache_must_store_inputs_exactly(cached, message):
    check_cached("cache", torch.zeros(2, 3, dtype=torch.float64), (2, 3), torch.zeros(1), "(R, K)")
    with pytest.raises(ValueError, match=message):
        check_cached("cache", cached, (2, 3), torch.zeros(1), "(R, K)")
