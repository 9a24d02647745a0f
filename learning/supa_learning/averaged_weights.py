"""Exponential moving average of the weights of a model."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

_ALIGNMENT = 64
"""Parameters begin at multiples of this number of elements, because kernels are slower elsewhere."""


class AveragedWeights:
    """Exponential moving average of the parameters of a model, which a CUDA graph can update.

    Update n = 0, 1, 2, ... keeps the fraction min(``decay``, (1 + n) / (10 + n)) of the average and takes the rest from
    the model. The first updates thus forget the initial weights.

    Call `advance` before each update and `apply` in it. Only `apply` belongs into a CUDA graph.

    Args:
        model: Model whose parameters are averaged, all of the same dtype. Its buffers are copied once.
        decay: Fraction of the average that is kept in late updates, at least 0 and below 1.

    Raises:
        ValueError: If the parameters have several dtypes, or there are none.

    Example:
        >>> import torch
        >>> from supa_learning import AveragedWeights
        >>> layer = torch.nn.Linear(1, 1, bias=False)
        >>> average = AveragedWeights(layer, 0.999)
        >>> for value in (1.0, 2.0):
        ...     _ = torch.nn.init.constant_(layer.weight, value)
        ...     average.advance()
        ...     average.apply()
        >>> average.updates, bool(1 < average.model.weight < 2)
        (2, True)
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        dtypes = sorted({str(weights.dtype) for weights in model.parameters()})
        if len(dtypes) != 1:
            raise ValueError(
                f"model: parameters of one dtype can be averaged, but it has {' and '.join(dtypes) or 'none'}; convert "
                "it, for example with model.float()."
            )
        self.model = copy.deepcopy(model).requires_grad_(False)
        """Copy of the model with the averaged parameters."""
        self.updates = 0
        """Number of updates."""
        self._trained, self._decay = model, decay
        # The averaged parameters are parts of one tensor, so that an update takes two kernels.
        parameters = list(self.model.parameters())
        self._gaps = [weights.new_zeros(-weights.numel() % _ALIGNMENT) for weights in parameters]
        self._average = self._joined(self.model)
        begin = 0
        for weights, gap in zip(parameters, self._gaps, strict=True):
            weights.data = self._average[begin : begin + weights.numel()].view_as(weights)
            begin += weights.numel() + len(gap)
        self._fraction = torch.zeros((), dtype=self._average.dtype, device=self._average.device)

    def advance(self) -> None:
        """Count an update, and set the fraction that `apply` takes from the model."""
        kept = min(self._decay, (1 + self.updates) / (10 + self.updates))
        self._fraction.fill_(1 - kept)
        self.updates += 1

    @torch.no_grad()
    def apply(self) -> None:
        """Move the average towards the present weights of the model."""
        self._average.lerp_(self._joined(self._trained), self._fraction)

    def restart(self) -> None:
        """Set the weights of the model to the averages, and begin a new average."""
        self._trained.load_state_dict(self.model.state_dict())
        self.updates = 0

    def state_dict(self) -> dict[str, Any]:
        """Return the weights of the model that is averaged, and the number of updates, but not the average.

        Returns:
            State for `load_state_dict`. The average is ``model.state_dict()``.
        """
        return {"weights": self._trained.state_dict(), "updates": self.updates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the weights of the model that is averaged, and the number of updates.

        Args:
            state: Dictionary from `state_dict`.
        """
        self._trained.load_state_dict(state["weights"])
        self.updates = state["updates"]

    def _joined(self, model: nn.Module) -> Tensor:
        """Return the parameters of a model in one tensor."""
        pairs = zip(model.parameters(), self._gaps, strict=True)
        return torch.cat([part for weights, gap in pairs for part in (weights.reshape(-1), gap)])
