"""Exponential moving average of the weights of a model."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters


class AveragedWeights:
    """Exponential moving average of the parameters of a model, which a CUDA graph can update.

    Update n = 0, 1, 2, ... keeps the fraction min(``decay``, (1 + n) / (10 + n)) of the average and takes the rest from
    the model. The first updates thus forget the initial weights.

    Call `advance` before each update and `apply` in it. Only `apply` belongs into a CUDA graph.

    Args:
        model: Model whose parameters are averaged, all of the same dtype. Its buffers are copied once.
        decay: Fraction of the average that is kept in late updates, at least 0 and below 1.

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
        self.model = copy.deepcopy(model).requires_grad_(False)
        """Copy of the model with the averaged parameters."""
        self.updates = 0
        """Number of updates."""
        self._trained, self._decay = model, decay
        # The averaged parameters are parts of one tensor, so that an update takes two kernels.
        self._average = parameters_to_vector(self.model.parameters())
        vector_to_parameters(self._average, self.model.parameters())
        self._fraction = torch.zeros((), dtype=self._average.dtype, device=self._average.device)

    def advance(self) -> None:
        """Count an update, and set the fraction that `apply` takes from the model."""
        kept = min(self._decay, (1 + self.updates) / (10 + self.updates))
        self._fraction.fill_(1 - kept)
        self.updates += 1

    @torch.no_grad()
    def apply(self) -> None:
        """Move the average towards the present weights of the model."""
        self._average.lerp_(parameters_to_vector(self._trained.parameters()), self._fraction)

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
