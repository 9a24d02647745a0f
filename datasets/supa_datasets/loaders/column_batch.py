"""A batch of items as flat columns, which is cut into single items only on demand."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from supa.arrays import IntArray
from supa.ragged import counts_to_offsets

Item = dict[str, Any]


class RaggedColumn(NamedTuple):
    """A column with several rows for each item."""

    values: Any
    """(rows, ...) tensor."""
    offset: IntArray
    """(items + 1,) the rows of item k are offset[k] to offset[k + 1]."""


class ColumnBatch(Sequence[Item]):
    """Some items of a dataset: a sequence of dictionaries that shares the memory of flat columns.

    Args:
        num_items: number of items.
        each: columns with one row an item, tensors (items, ...).
        rows: columns with several rows an item.
    """

    def __init__(self, num_items: int, each: Mapping[str, Any], rows: Mapping[str, RaggedColumn]) -> None:
        self.num_items, self.each, self.rows = num_items, dict(each), dict(rows)

    def __len__(self) -> int:
        return self.num_items

    def __getitem__(self, k: Any) -> Any:
        if not -self.num_items <= k < self.num_items:
            raise IndexError(f"Item {k} was asked for, but {self.num_items} were drawn.")
        k %= self.num_items
        return {name: values[k] for name, values in self.each.items()} | {
            name: values[offset[k] : offset[k + 1]] for name, (values, offset) in self.rows.items()
        }

    @staticmethod
    def of(items: Sequence[Item], rows: Sequence[str]) -> "ColumnBatch":
        """Join single items.

        Args:
            items: at least one item, or a ColumnBatch.
            rows: names of the columns with several rows an item.

        Returns:
            The batch; ``items`` itself if it is one already.
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
    """Pad the rows of each item with zeros to the length of the longest.

    Args:
        rows: the column.

    Returns:
        (items, most rows, ...), and ``valid`` (items, most rows), True where a row is real.
    """
    counts = torch.from_numpy(np.diff(rows.offset))
    most = int(counts.max()) if len(counts) else 0
    valid = torch.arange(most)[None, :] < counts[:, None]
    values = rows.values.new_zeros((len(counts), most, *rows.values.shape[1:]))
    values[valid] = rows.values
    return values, valid
