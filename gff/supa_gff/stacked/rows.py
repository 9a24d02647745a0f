"""Rows of the members of a stacked network: which rows of a flat tensor belong to which member."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of a flat tensor that belong to the members of a stacked network.

    Each member has the same number of consecutive rows. Some of them are padding.

    Args:
        shares: (members, rows, 1) float: 1 / (number of real rows of the member) for real rows and 0 for padding.
        counts: (members, 1) float number of real rows of each member.
    """

    shares: Tensor
    counts: Tensor

    @staticmethod
    def of(real: Tensor, dtype: torch.dtype) -> "Rows":
        """Return the rows of a mask.

        Args:
            real: (members, rows) bool, True for real rows.
            dtype: Type of the activations.

        Returns:
            The rows.
        """
        mask = real.to(dtype)[..., None]
        counts = mask.sum(1)
        return Rows(mask / counts[:, None], counts)

    def split(self, values: Tensor) -> Tensor:
        """Separate the rows of the members.

        Args:
            values: (copies * members * rows, channels) or (copies, members * rows, channels) values. Hypotheses are
                copies.

        Returns:
            (copies, members, rows, channels) the same values.
        """
        return values.reshape(-1, *self.shares.shape[:2], values.shape[-1])


class MemberRows:
    """Rows and dropout masks of the current batch, which all modules of a stacked network share."""

    def __init__(self) -> None:
        self._nodes: Rows | None = None
        self._units: Rows | None = None
        self.kept: Tensor | None = None
        """(dropouts, members, units, channels) bool, True for channels that dropout keeps. None: no dropout."""

    def set(self, nodes: Rows, units: Rows, kept: Tensor | None = None) -> None:
        """Set the rows of a batch.

        Args:
            nodes: Rows of the nodes.
            units: Rows of the units: the graphs.
            kept: Channels that dropout keeps; see `kept`.
        """
        self._nodes, self._units, self.kept = nodes, units, kept

    def rows(self, of_units: bool) -> Rows:
        """Return the rows of the nodes or of the units.

        Args:
            of_units: Whether the rows are units.

        Returns:
            The rows.
        """
        rows = self._units if of_units else self._nodes
        assert rows is not None
        return rows
