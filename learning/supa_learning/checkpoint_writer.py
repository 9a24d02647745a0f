"""A callback that writes the checkpoint of a training at its start, at intervals and at its end."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from supa_learning.trainer import Callback, Trainer


class Saveable(Protocol):
    """An object that can be saved to a file, such as a `Checkpoint`."""

    def save(self, path: Path) -> None:
        """Write the file atomically."""


class CheckpointWriter(Callback):
    """A callback that writes the checkpoint of a training at its start, at intervals and at its end.

    Args:
        path: Path of the file.
        take: Function that returns a checkpoint of the current state, such as a `Checkpoint`.
        seconds: Time between two checkpoints, in seconds.
        at_start: Whether to write the first state, which reports an unwritable file early.

    Example:
        >>> from pathlib import Path
        >>> import torch
        >>> from supa_learning import CheckpointWriter
        >>> class Weights:
        ...     def save(self, path):
        ...         torch.save({"weight": torch.zeros(2)}, path)
        >>> writer = CheckpointWriter(Path("model.ckpt"), Weights, seconds=60.0)
        >>> writer.on_start(None)  # called by Trainer(task, callbacks=[writer]).run()
        >>> Path("model.ckpt").exists()
        True
    """

    def __init__(
        self, path: Path, take: Callable[[], Saveable], *, seconds: float = 60.0, at_start: bool = True
    ) -> None:
        self.path, self._take, self._seconds, self._at_start = path, take, seconds, at_start
        self._up_to_date, self._written = True, time.perf_counter()

    def on_start(self, trainer: Trainer[Any]) -> None:
        """Write the first state, if ``at_start`` is True."""
        if self._at_start:
            self._take().save(self.path)
        self._written = time.perf_counter()

    def on_step(self, trainer: Trainer[Any]) -> None:
        """Write the state if the interval has passed or the training is finished."""
        self._up_to_date = False
        if trainer.state.finished or time.perf_counter() - self._written > self._seconds:
            self.write()

    def write(self) -> None:
        """Write the current state, unless the file already contains it."""
        if not self._up_to_date:
            self._take().save(self.path)
            self._up_to_date, self._written = True, time.perf_counter()
