"""A callback that writes the figures of each epoch for TensorBoard."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from supa_learning.task import Figures
from supa_learning.trainer import Callback, Trainer
from supa_learning.training_state import Epoch


class TensorBoard(Callback):
    """A callback that writes the figures of each epoch as scalars ``part/train/name`` and ``part/valid/name``.

    Args:
        folder: Folder of the event files.
        measure: Function that returns further figures after each epoch, such as `supa_mamba.stack_activations`. They
            are written as ``part/name``.

    Raises:
        ValueError: If the package tensorboard is not installed.

    Example:
        >>> from supa_learning import TensorBoard
        >>> callbacks = [TensorBoard("logs")]  # doctest: +SKIP
        >>> Trainer(task, callbacks=callbacks).run()  # doctest: +SKIP

        Then run ``tensorboard --logdir logs``.
    """

    def __init__(self, folder: str | Path, *, measure: Callable[[Trainer[Any]], Figures] | None = None) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise ValueError("TensorBoard files need the package tensorboard: pip install tensorboard.") from None
        self._folder, self._measure, self._open = folder, measure, SummaryWriter
        self._writer: Any = None

    def on_start(self, trainer: Trainer[Any]) -> None:
        """Open the folder. Epochs that a killed training wrote after its last checkpoint are dropped."""
        self._writer = self._open(str(self._folder), purge_step=len(trainer.state.history) or None)

    def on_epoch(self, trainer: Trainer[Any], epoch: Epoch) -> None:
        """Write the figures of an epoch. The step is the number of the epoch among all epochs of the training."""
        number = len(trainer.state.history) - 1
        for kind, figures in (("train", epoch.train), ("valid", epoch.valid)):
            for part, numbers in figures.items():
                for name, value in numbers.items():
                    self._writer.add_scalar(f"{part}/{kind}/{name}", value, number)
        for part, numbers in {} if self._measure is None else self._measure(trainer).items():
            for name, value in numbers.items():
                self._writer.add_scalar(f"{part}/{name}", value, number)
        self._writer.add_scalar("learning_rate", epoch.learning_rate, number)
        self._writer.add_scalar("seconds", epoch.seconds, number)

    def on_end(self, trainer: Trainer[Any]) -> None:
        """Close the event files."""
        if self._writer is not None:
            self._writer.close()
