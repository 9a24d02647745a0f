"""Checkpoints of encoders."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from supa_learning import checkpoint
from supa_learning.count_baseline import CountBaseline
from supa_learning.trainer import Trainer
from supa_mamba.config import TrainingConfig
from supa_mamba.encoder import ShowerEncoder
from supa_mamba.packed_showers import TaskEncoding
from supa_mamba.training import EncoderTask, new_encoder


@dataclass(frozen=True, eq=False, kw_only=True)
class Checkpoint(checkpoint.Checkpoint):
    """A training of an encoder between two steps, or at its end.

    Args:
        config: how the encoder is built and trained.
        encoding: how showers become tensors and targets, fitted on the training showers.
        baseline: predictions from the number of hits.
        showers: numbers of training and of validation showers.
        digest: checksum of these showers.
        processes: number of processes that trained together.
        training: what ``Trainer.state_dict`` returned.
        versions: versions of the packages that wrote the checkpoint.
    """

    format: ClassVar[str] = "supa-mamba-checkpoint"
    written_by: ClassVar[str] = "supa mamba train"

    config: TrainingConfig
    encoding: TaskEncoding
    baseline: CountBaseline
    showers: tuple[int, int]
    digest: str
    processes: int

    @classmethod
    def of(cls, trainer: Trainer[EncoderTask]) -> Self:
        """Take a checkpoint of a training.

        Args:
            trainer: the training, between two steps or at its end.

        Returns:
            The checkpoint; further training does not change it.
        """
        task = trainer.task
        return cls(
            config=task.config,
            encoding=task.encoding,
            baseline=task.baseline,
            showers=(len(task.train), len(task.valid)),
            digest=task.digest,
            processes=task.processes.count,
            training=trainer.state_dict(),
        )

    def model(self) -> ShowerEncoder:
        """Build the encoder with the best weights so far.

        Returns:
            The encoder, on the CPU and in evaluation mode.
        """
        encoder = new_encoder(self.config, self.encoding)
        encoder.load_state_dict(self.training["state"]["best_weights"] or self.training["model"])
        return encoder.eval()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; see `supa_learning.Checkpoint`."""
        return {
            "config": self.config.to_dict(),
            "encoding": self.encoding.to_dict(),
            "baseline": self.baseline.to_dict(),
            "showers": self.showers,
            "digest": self.digest,
            "processes": self.processes,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Restore what `to_dict` returned; see `supa_learning.Checkpoint`."""
        return cls(
            config=TrainingConfig.from_dict(values["config"]),
            encoding=TaskEncoding.from_dict(values["encoding"]),
            baseline=CountBaseline.from_dict(values["baseline"]),
            **{name: values[name] for name in ("showers", "digest", "processes", "training", "versions")},
        )
