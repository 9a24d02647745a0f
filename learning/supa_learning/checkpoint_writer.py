"""Writing the checkpoint of a running training: at its start, at intervals, and at its end."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from supa_learning.trainer import Callback, Trainer


class Saveable(Protocol):
    """A checkpoint."""

    def save(self, path: Path) -> None:
        """Write the file atomically."""


class CheckpointWriter(Callback):
    """Writes the checkpoint of a training.

    Args:
        path: the file.
        take: returns a checkpoint of the current state.
        seconds: time between two files, in seconds.
        at_start: whether the first state is written, so that a file that cannot be written is found early.

    Example:
        >>> CheckpointWriter(Path("model.ckpt"), lambda: Checkpoint.of(trainer), seconds=60.0)  # doctest: +SKIP
    """

    def __init__(
        self, path: Path, take: Callable[[], Saveable], *, seconds: float = 60.0, at_start: bool = True
    ) -> None:
        self.path, self._take, self._seconds, self._at_start = path, take, seconds, at_start
        self._up_to_date, self._written = True, time.perf_counter()

    def on_start(self, _trainer: Trainer[Any]) -> None:
        """Write the first state."""
        if self._at_start:
            self._take().save(self.path)
        self._written = time.perf_counter()

    def on_step(self, trainer: Trainer[Any]) -> None:
        """Write the state if the time has come, or if the training is over."""
        self._up_to_date = False
        if trainer.state.finished or time.perf_counter() - self._written > self._seconds:
            self.write()

    def write(self) -> None:
        """Write the current state, unless the file has it already."""
        if not self._up_to_date:
            self._take().save(self.path)
            self._up_to_date, self._written = True, time.perf_counter()
