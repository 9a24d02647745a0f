"""Checkpoints: a training in one file, which is written atomically and loaded without running code."""

import importlib.metadata
import os
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from torch import nn

from supa.checks import format_value
from supa_datasets.torch_io import UNREADABLE, read_checked, write_atomic
from supa_learning.training_state import TrainingState


def package_versions(*further: str) -> dict[str, str]:
    """Return the versions of the packages that a checkpoint depends on.

    Args:
        *further: packages beside this one and PyTorch.

    Returns:
        Versions by the name of the distribution.
    """
    return {name: importlib.metadata.version(name) for name in ("supa-showers", "torch", *further)}


@dataclass(frozen=True, eq=False, kw_only=True)
class Checkpoint:
    """A training between two steps, or at its end.

    A learner derives a class with the fields that its model needs, and implements `model`, `to_dict` and `from_dict`.

    Args:
        training: what ``Trainer.state_dict`` returned.
        versions: versions of the packages that wrote the checkpoint.
    """

    format: ClassVar[str]
    """Name of the format in the file."""
    version: ClassVar[int] = 1
    """Version of the format."""
    written_by: ClassVar[str]
    """The command that writes such files, for messages."""

    training: Mapping[str, Any]
    versions: Mapping[str, str] = field(default_factory=package_versions)

    @property
    def finished(self) -> bool:
        """Whether the training was over."""
        return bool(self.training["state"]["finished"])

    @property
    def epochs(self) -> int:
        """Number of finished epochs."""
        return len(self.training["state"]["history"])

    @property
    def seed(self) -> int:
        """Seed of the training."""
        return int(self.training["seed"])

    @property
    def extent(self) -> str:
        """How much training is done, such as ``"2 epochs and 1 step"``."""
        return TrainingState.from_dict(self.training["state"]).extent

    @abstractmethod
    def model(self) -> nn.Module:
        """Build the model, on the CPU and in evaluation mode."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Return the fields of the learner as plain values and tensors."""

    @classmethod
    @abstractmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Restore what `to_dict` returned, with ``training`` and ``versions``."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file atomically; an existing one is replaced.

        Args:
            path: the file.

        Raises:
            OSError: the file cannot be written.
            ValueError: another process is writing it.
        """
        envelope = {"format": self.format, "version": self.version}
        shared = {"training": self.training, "versions": dict(self.versions)}
        write_atomic(path, {**envelope, **self.to_dict(), **shared})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a file.

        Args:
            path: the file.

        Returns:
            The checkpoint, with its tensors on the CPU.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is not such a checkpoint, is damaged, or is of a newer version.
        """
        values = read_checked(path, format_name=cls.format, version=cls.version, written_by=cls.written_by)
        try:
            checkpoint = cls.from_dict(values)
            checkpoint.model()
            _ = checkpoint.finished, checkpoint.extent
        except UNREADABLE as error:
            raise ValueError(f"{path}: the checkpoint is damaged ({format_value(str(error))}).") from None
        return checkpoint
