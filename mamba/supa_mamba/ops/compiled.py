"""Operations over packed sequences in loops that Numba compiles, in several threads.

The sequences are divided into a fixed number of parts, so that the results do not depend on the number of threads.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from supa.arrays import Array
from supa_mamba.ops.dtypes import cast

PARTS = 32
"""Number of parts of the sequences."""
_THREADS_FROM = 1 << 19
"""Number of multiplications above which several threads are faster than one."""
_ROWS_PER_THREAD = 16
"""Number of rows of a whole step of a stack from which another thread is worth its start."""


def array_of(tensor: Tensor | None, like: Tensor, shape: tuple[int, ...]) -> Array:
    """Return a tensor as a contiguous array.

    Args:
        tensor: Tensor on the CPU, or None.
        like: Tensor whose dtype the array has.
        shape: Shape of the empty array that represents None.

    Returns:
        The array. It shares the memory of the tensor if possible.
    """
    if tensor is None:
        tensor = like.new_empty(shape)
    array: Array = cast(tensor.detach(), like.dtype).contiguous().numpy()
    return array


def run_parts(run: Callable[[int, int, int], None], offset: Array, work_per_row: int) -> None:
    """Call a function for each part of the sequences, in as many threads as PyTorch uses.

    Args:
        run: Function of the number of the part, its first sequence, and the sequence after its last one. It must
            release the interpreter lock.
        offset: (S + 1,) int64 offsets.
        work_per_row: Number of multiplications for each row.
    """
    rows = int(offset[-1])
    cuts = np.searchsorted(offset, np.arange(PARTS + 1) * rows / PARTS)
    cuts[0], cuts[-1] = 0, len(offset) - 1
    parts = [(k, *cuts[k : k + 2].tolist()) for k in range(PARTS) if cuts[k] < cuts[k + 1]]
    threads = torch.get_num_threads()
    if min(threads, len(parts)) <= 1 or rows * work_per_row < _THREADS_FROM:
        for part in parts:
            run(*part)
        return
    # The pool starts threads only when there are parts for them.
    for done in [_pool(threads).submit(run, *part) for part in parts]:
        done.result()


def run_in_threads(run: Callable[[int, int], None], rows: int) -> None:
    """Call a function for all rows, in as many threads as PyTorch uses: one call in each thread.

    The results of a row must not depend on other rows.

    Args:
        run: Function of the first row, and the row after the last one, most of whose work releases the interpreter
            lock.
        rows: Number of rows.
    """
    parts = max(1, min(torch.get_num_threads(), rows // _ROWS_PER_THREAD))
    if parts == 1:
        run(0, rows)
        return
    cuts = [rows * part // parts for part in range(parts + 1)]
    for done in [_pool(parts).submit(run, first, last) for first, last in pairwise(cuts)]:
        done.result()


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Return threads that all calls share, because starting threads can take longer than an operation."""
    return ThreadPoolExecutor(threads)


if hasattr(os, "register_at_fork"):  # a forked process has none of these threads
    os.register_at_fork(after_in_child=_pool.cache_clear)


def run_rows(run: Callable[[int, int], None], rows: int, work_per_row: int) -> None:
    """Call a function for all rows, in as many threads as PyTorch uses.

    The results of a row must not depend on other rows. Then it does not matter how the rows are divided.

    Args:
        run: Function of the first row, and the row after the last one. It must release the interpreter lock.
        rows: Number of rows.
        work_per_row: Number of multiplications for each row.
    """
    if rows * work_per_row < _THREADS_FROM or torch.get_num_threads() == 1:
        run(0, rows)
    else:
        run_parts(lambda _part, first, last: run(first, last), np.arange(rows + 1), work_per_row)
