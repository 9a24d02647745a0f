"""A training in one file: its encoder, how showers are read for it, and where it stands."""

import importlib.metadata
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from supa.checks import format_value
from supa_datasets.torch_io import UNREADABLE, read_checked, write_atomic
from supa_mamba.config import TrainingConfig
from supa_mamba.encoder import ShowerEncoder
from supa_mamba.rivals import Rivals
from supa_mamba.showers import Reading
from supa_mamba.training import Trainer, new_encoder

FORMAT = "supa-mamba-checkpoint"
VERSION = 1


def _versions() -> Mapping[str, str]:
    return {name: importlib.metadata.version(name) for name in ("supa-showers", "torch")}


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A training between two steps, or at its end.

    Args:
        config: how the encoder is made and trained.
        reading: how showers are read for it, fitted on those to train on.
        rivals: what an answer is worth that only counts hits.
        showers: numbers of showers to train and to validate on.
        digest: names what these hold.
        processes: how many trained together.
        training: from ``Trainer.state_dict``.
        versions: of the packages that made it.
    """

    config: TrainingConfig
    reading: Reading
    rivals: Rivals
    showers: tuple[int, int]
    digest: str
    processes: int
    training: Mapping[str, Any]
    versions: Mapping[str, str] = field(default_factory=_versions)

    @classmethod
    def of(cls, trainer: Trainer) -> "Checkpoint":
        """Take where a training stands.

        Args:
            trainer: the training, between two steps or at its end.

        Returns:
            The checkpoint; further training does not change it.
        """
        return cls(
            config=trainer.config,
            reading=trainer.reading,
            rivals=trainer.rivals,
            showers=(len(trainer.train), len(trainer.valid)),
            digest=trainer.digest,
            processes=trainer.workers.count,
            training=trainer.state_dict(),
        )

    @property
    def finished(self) -> bool:
        """Whether training was over."""
        return bool(self.training["state"]["finished"])

    @property
    def epochs(self) -> int:
        """Number of finished epochs."""
        return len(self.training["state"]["history"])

    def encoder(self) -> ShowerEncoder:
        """Make the encoder, with the best weights so far.

        Returns:
            The encoder, on the CPU, to predict with.
        """
        encoder = new_encoder(self.config, self.reading)
        encoder.load_state_dict(self.training["state"]["best_weights"] or self.training["encoder"])
        return encoder.eval()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file, whole or not at all; one of this name is replaced.

        Args:
            path: the file.

        Raises:
            OSError: it cannot be written.
            ValueError: another process is writing it.
        """
        write_atomic(
            path,
            {
                "format": FORMAT,
                "version": VERSION,
                **vars(self),
                "config": self.config.to_dict(),
                "reading": self.reading.to_dict(),
                "rivals": self.rivals.to_dict(),
                "versions": dict(self.versions),
            },
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Checkpoint":
        """Read a file.

        Args:
            path: the file.

        Returns:
            The checkpoint, its tensors on the CPU.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is no checkpoint, damaged, or of a newer version.
        """
        values = read_checked(path, format_name=FORMAT, version=VERSION, written_by="supa mamba train")
        try:
            made = cls(
                config=TrainingConfig.from_dict(values["config"]),
                reading=Reading.from_dict(values["reading"]),
                rivals=Rivals.from_dict(values["rivals"]),
                **{name: values[name] for name in ("showers", "digest", "processes", "training", "versions")},
            )
            made.encoder()
        except UNREADABLE as error:
            raise ValueError(f"{path}: the checkpoint is damaged ({format_value(str(error))}).") from None
        return made
