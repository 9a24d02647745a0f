"""Kernels for the order of queries and keys: the number that a row is sorted by, and ranges of partners."""

import triton
import triton.language as tl

from supa_mamba.ops.kernel_math import mask_if


@triton.jit(do_not_specialize=["first_head", "rows", "sequences", "reach"])
def sparse_groups_kernel(
    bucket_ptr,
    offset_ptr,
    group_ptr,
    row_stride,
    head_stride,
    first_head,
    rows,
    sequences,
    reach,
    BITS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Write (head, sequence, bucket) as one number. The largest bucket stands for dropped rows."""
    row = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    head = tl.program_id(1).to(tl.int64)
    live = row < rows
    sequence = row * 0
    step = reach
    while step > 0:  # binary search
        candidate = sequence + step
        inside = live & (candidate < sequences)
        begin = tl.load(offset_ptr + candidate, inside, 0)
        sequence = tl.where(inside & (begin <= row), candidate, sequence)
        step = step // 2
    dropped = tl.full((), 1, tl.int64) * ((1 << BITS) - 1)
    bucket = tl.load(bucket_ptr + row * row_stride + head * head_stride, live, 0).to(tl.int64)
    # A larger bucket must not change the sequence.
    bucket = tl.where(bucket < 0, dropped, tl.minimum(bucket, dropped - 1))
    head += first_head
    group = ((head * sequences + sequence) << BITS) | bucket
    tl.store(group_ptr + head * rows + row, group.to(group_ptr.dtype.element_ty), live)


@triton.jit
def count_before(group_ptr, place_ptr, group, row, live, of_head, rows, reach, equal_groups, WITH_ROW: tl.constexpr):
    """Count the sorted elements of a head that precede a group, or a row of a group.

    Of the elements of the same group, all precede if ``equal_groups`` is 1, none if it is -1, and those of smaller rows
    if it is 0; with ``WITH_ROW`` also the row itself.
    """
    count = row * 0
    step = reach
    while step > 0:  # binary search
        candidate = count + step
        inside = live & (candidate <= rows)
        other = tl.load(group_ptr + of_head + candidate - 1, inside, 0).to(tl.int64)
        other_row = tl.load(place_ptr + of_head + candidate - 1, inside, 0) - of_head
        earlier = other_row <= row if WITH_ROW else other_row < row
        earlier = ((equal_groups == 0) & earlier) | (equal_groups == 1)
        before = (other < group) | ((other == group) & earlier)
        count = tl.where(inside & before, candidate, count)
        step = step // 2
    return count


@triton.jit(do_not_specialize=["rows", "sequences", "reach"])
def sparse_ranges_kernel(
    group_ptr,
    place_ptr,
    row_ptr,
    range_ptr,
    rows,
    sequences,
    reach,
    HEADS: tl.constexpr,
    SIDES: tl.constexpr,
    BITS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Write the range of keys of each sorted query (third program number 0), or of queries of each sorted key (1)."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    head, of_keys = tl.program_id(1).to(tl.int64), tl.program_id(2)
    live = i < rows
    mine, other = of_keys * (SIDES - 1), (1 - of_keys) * (SIDES - 1)
    of_mine, of_other = (mine * HEADS + head) * rows, (other * HEADS + head) * rows
    group = tl.load(group_ptr + of_mine + i, live, 0).to(tl.int64)
    row = tl.load(place_ptr + of_mine + i, live, 0) - of_mine
    dropped = (group & ((1 << BITS) - 1)) == (1 << BITS) - 1
    # The groups of keys follow those of queries.
    group += ((other - mine) * HEADS * sequences.to(tl.int64)) << BITS
    # A query attends the keys of its group up to its own row; a key is attended from its own row on.
    begin = count_before(group_ptr, place_ptr, group, row, live, of_other, rows, reach, of_keys - 1, WITH_ROW=False)
    end = count_before(group_ptr, place_ptr, group, row, live, of_other, rows, reach, of_keys, WITH_ROW=True)
    end = tl.where(dropped, begin, end)
    range_ptr += (of_keys * 2 * HEADS + head) * rows
    tl.store(range_ptr + i, begin.to(tl.int32), live)
    tl.store(range_ptr + HEADS * rows.to(tl.int64) + i, end.to(tl.int32), live)
    tl.store(row_ptr + of_mine + i, row.to(tl.int32), mask_if(mine == of_keys, live))
