"""Checkpoints of encoders."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from supa_learning.count_baseline import CountBaseline
from supa_learning.trainer import Trainer
from supa_mamba.config import TrainingConfig
from supa_mamba.encoder import ShowerEncoder
from supa_mamba.packed_checkpoint import PackedCheckpoint
from supa_mamba.packed_showers import TaskEncoding
from supa_mamba.training import EncoderTask, new_encoder


@dataclass(frozen=True, eq=False, kw_only=True)
class Checkpoint(PackedCheckpoint):
    """Checkpoint of an encoder and of the state of its training.

    A checkpoint can be taken between any two training steps. It does not contain the showers.

    Args:
        config: Configuration of the encoder and its training.
        encoding: Conversion of showers into tensors and targets, fitted to the training showers.
        baseline: Baseline that predicts from the number of hits alone.
        showers: Numbers of showers of an epoch and of a validation.
        digest: Checksum of the showers, or of the first ones of a stream.
        processes: Number of processes that trained together.
        training: Training state, from ``Trainer.state_dict``.
        versions: Versions of the packages that wrote the checkpoint.

    Example:
        >>> import supa, supa_mamba
        >>> showers = supa.simulate(100, "critical", seed=1)
        >>> config = supa_mamba.TrainingConfig(target="incident_energy", d_model=8, n_layer=1, epochs=1)
        >>> trainer = supa_mamba.train(showers, config)
        >>> supa_mamba.Checkpoint.of(trainer).save("energy.ckpt")
        >>> checkpoint = supa_mamba.Checkpoint.load("energy.ckpt")
        >>> checkpoint.config.target
        'incident_energy'
        >>> checkpoint.model().config.d_model
        8
    """

    format: ClassVar[str] = "supa-mamba-checkpoint"
    written_by: ClassVar[str] = "supa mamba train"

    config: TrainingConfig
    encoding: TaskEncoding
    baseline: CountBaseline

    @classmethod
    def of(cls, trainer: Trainer[EncoderTask]) -> Self:
        """Return a checkpoint of a training run.

        Args:
            trainer: Trainer of the encoder, between two steps or after the last one.

        Returns:
            The checkpoint. Further training does not change it.
        """
        task = trainer.task
        return cls.of_training(
            trainer,
            config=task.config,
            encoding=task.encoding,
            baseline=task.baseline,
        )

    def model(self) -> ShowerEncoder:
        """Return the encoder with the best weights so far.

        Returns:
            The encoder, on the CPU and in evaluation mode.
        """
        encoder = new_encoder(self.config, self.encoding)
        encoder.load_state_dict(self.best_weights)
        return encoder.eval()

    def to_dict(self) -> dict[str, Any]:
        """Return the checkpoint as plain values; see `supa_learning.Checkpoint`.

        Returns:
            Dictionary of plain values, without the training state.
        """
        return {
            "config": self.config.to_dict(),
            "encoding": self.encoding.to_dict(),
            "baseline": self.baseline.to_dict(),
            **super().to_dict(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Create a checkpoint from plain values; see `supa_learning.Checkpoint`.

        Args:
            values: The values that `to_dict` returned, ``training`` and ``versions``.

        Returns:
            The checkpoint.
        """
        return cls(
            config=TrainingConfig.from_dict(values["config"]),
            encoding=TaskEncoding.from_dict(values["encoding"]),
            baseline=CountBaseline.from_dict(values["baseline"]),
            **cls.shared(values),
        )
