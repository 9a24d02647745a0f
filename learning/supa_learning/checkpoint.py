"""Checkpoint files of trainings, which are written atomically and loaded without running code."""

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
    """Return the versions of the packages on which a checkpoint depends.

    Args:
        *further: Names of packages besides supa-showers and PyTorch.

    Returns:
        Versions by the name of the distribution.
    """
    return {name: importlib.metadata.version(name) for name in ("supa-showers", "torch", *further)}


@dataclass(frozen=True, eq=False, kw_only=True)
class Checkpoint:
    """The state of a training between two steps or at its end, which can be saved to a file.

    This is an abstract base class. A subclass adds the fields that its model needs, sets the class variables
    ``format`` (name of the file format), ``version`` (version of the format) and ``written_by`` (name of the program
    for error messages), and implements `model`, `to_dict` and `from_dict`.

    Args:
        training: State of the training, as returned by `Trainer.state_dict`.
        versions: Versions of the packages that wrote the checkpoint; by default those of supa-showers and PyTorch.

    Example:
        >>> from dataclasses import dataclass
        >>> import torch
        >>> from supa_learning import Checkpoint, TrainingState
        >>> @dataclass(frozen=True, eq=False, kw_only=True)
        ... class LineCheckpoint(Checkpoint):
        ...     format = "line"
        ...     written_by = "python train_line.py"
        ...     inputs: int
        ...     def model(self):
        ...         model = torch.nn.Linear(self.inputs, 1)
        ...         model.load_state_dict(self.training["model"])
        ...         return model.eval()
        ...     def to_dict(self):
        ...         return {"inputs": self.inputs}
        ...     @classmethod
        ...     def from_dict(cls, values):
        ...         return cls(**{name: values[name] for name in ("inputs", "training", "versions")})
        >>> training = {"state": TrainingState().to_dict(), "model": torch.nn.Linear(3, 1).state_dict(), "seed": 0}
        >>> LineCheckpoint(inputs=3, training=training).save("line.ckpt")
        >>> LineCheckpoint.load("line.ckpt").model()
        Linear(in_features=3, out_features=1, bias=True)
    """

    format: ClassVar[str]
    """Name of the file format."""
    version: ClassVar[int] = 1
    """Version of the file format."""
    written_by: ClassVar[str]
    """Name of the command that writes such files, for error messages."""

    training: Mapping[str, Any]
    versions: Mapping[str, str] = field(default_factory=package_versions)

    @property
    def finished(self) -> bool:
        """Whether the training is finished."""
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
        """Amount of finished training, such as ``"2 epochs and 1 step"``."""
        return TrainingState.from_dict(self.training["state"]).extent

    @abstractmethod
    def model(self) -> nn.Module:
        """Return the model on the CPU and in evaluation mode."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Return the fields of the subclass as plain values and tensors."""

    @classmethod
    @abstractmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return a checkpoint from the contents of a file: the values of `to_dict`, ``training`` and ``versions``."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the checkpoint to a file atomically. An existing file is replaced.

        Args:
            path: Path of the file.

        Raises:
            OSError: If the file cannot be written.
            ValueError: If another process is writing the file.
        """
        envelope = {"format": self.format, "version": self.version}
        shared = {"training": self.training, "versions": dict(self.versions)}
        write_atomic(path, {**envelope, **self.to_dict(), **shared})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a checkpoint from a file.

        Args:
            path: Path of the file.

        Returns:
            The checkpoint with all tensors on the CPU.

        Raises:
            FileNotFoundError: If the file does not exist.
            ValueError: If the file is not a checkpoint of this class, is damaged, or has a newer version.
        """
        values = read_checked(path, format_name=cls.format, version=cls.version, written_by=cls.written_by)
        try:
            checkpoint = cls.from_dict(values)
            checkpoint.model()
            _ = checkpoint.finished, checkpoint.extent
        except UNREADABLE as error:
            raise ValueError(f"{path}: the checkpoint is damaged ({format_value(str(error))}).") from None
        return checkpoint
