"""Batches of items as flat columns, which are divided into single items only on demand."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from supa.ragged import counts_to_offsets

Item = dict[str, Any]


class RaggedColumn(NamedTuple):
    """A column with a variable number of rows per item."""

    values: Any
    """(rows, ...) tensor."""
    offset: Any
    """(items + 1,) int64 array or tensor; the rows of item k are offset[k] to offset[k + 1]."""


class ColumnBatch(Sequence[Item]):
    """A sequence of items as dictionaries, which share the memory of flat columns.

    Args:
        num_items: Number of items.
        each: Columns with one row per item: tensors (items, ...).
        rows: Columns with a variable number of rows per item.
    """

    def __init__(self, num_items: int, each: Mapping[str, Any], rows: Mapping[str, RaggedColumn]) -> None:
        self.num_items, self.each, self.rows = num_items, dict(each), dict(rows)

    def __len__(self) -> int:
        return self.num_items

    def __getitem__(self, k: Any) -> Any:
        if not -self.num_items <= k < self.num_items:
            raise IndexError(f"Item {k} is out of range for a batch of size {self.num_items}.")
        k %= self.num_items
        return {name: values[k] for name, values in self.each.items()} | {
            name: values[offset[k] : offset[k + 1]] for name, (values, offset) in self.rows.items()
        }

    @staticmethod
    def of(items: Sequence[Item], rows: Sequence[str]) -> "ColumnBatch":
        """Concatenate single items.

        Args:
            items: One or more items, or a ColumnBatch.
            rows: Names of the columns with a variable number of rows per item.

        Returns:
            The batch; ``items`` itself if it is a ColumnBatch.
        """
        if isinstance(items, ColumnBatch):
            return items
        each = {name: torch.stack([item[name] for item in items]) for name in items[0] if name not in rows}
        counts = {name: np.array([len(item[name]) for item in items], dtype=np.int64) for name in rows}
        return ColumnBatch(
            len(items),
            each,
            {
                name: RaggedColumn(torch.cat([item[name] for item in items]), counts_to_offsets(counts[name]))
                for name in rows
            },
        )


def padded(rows: RaggedColumn) -> tuple[Any, Any]:
    """Pad the rows of each item with zeros to the length of the longest item.

    Args:
        rows: The column.

    Returns:
        Padded values (items, longest, ...), and a mask (items, longest) bool that is True for real rows.
    """
    counts = torch.as_tensor(rows.offset).diff()
    most = int(counts.max()) if len(counts) else 0
    valid = torch.arange(most, device=counts.device)[None, :] < counts[:, None]
    values = rows.values.new_zeros((len(counts), most, *rows.values.shape[1:]))
    values[valid] = rows.values
    return values, valid
