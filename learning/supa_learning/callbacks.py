"""Hooks that a training calls, for progress, files and tables."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from supa_learning.state import Epoch
    from supa_learning.trainer import Trainer


class Callback:
    """Hooks of a training, which do nothing by default.

    PyTorch's global random state is that of the program in all of them. What a hook raises ends the training; its state
    can then be saved and resumed.
    """

    def on_start(self, trainer: "Trainer[Any]") -> None:
        """Called before the first step, also of a resumed training."""

    def on_step(self, trainer: "Trainer[Any]") -> None:
        """Called after each step, each validation batch and each epoch, and at the end."""

    def on_end(self, trainer: "Trainer[Any]") -> None:
        """Called when ``Trainer.run`` ends, also by an exception."""

    def on_epoch(self, trainer: "Trainer[Any]", epoch: "Epoch") -> None:
        """Called after each epoch, when it has been added to the history."""
