"""What the checkpoints of encoders and generators share."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from supa_learning import checkpoint
from supa_learning.trainer import Trainer
from supa_mamba.packed_task import PackedTask


@dataclass(frozen=True, eq=False, kw_only=True)
class PackedCheckpoint(checkpoint.Checkpoint):
    """Base class of the checkpoints of a ``PackedTask``.

    Args:
        showers: Numbers of showers of an epoch and of a validation.
        digest: Checksum of the showers, or of the first ones of a stream.
        processes: Number of processes that trained together.
        training: Training state, from ``Trainer.state_dict``.
        versions: Versions of the packages that wrote the checkpoint.
    """

    showers: tuple[int, int]
    digest: str
    processes: int

    @property
    def streamed(self) -> bool:
        """Whether the training showers were simulated during the training."""
        return "stream" in self.training["task"]

    @property
    def best_weights(self) -> Mapping[str, Any]:
        """Weights of the best validation so far, or the present ones before the first validation."""
        weights: Mapping[str, Any] = self.training["state"]["best_weights"] or self.training["model"]
        return weights

    @classmethod
    def of_training(cls, trainer: Trainer[Any], **own: Any) -> Self:
        """Return a checkpoint of a training run.

        Args:
            trainer: Trainer of a ``PackedTask``, between two steps or after the last one.
            own: Fields of the subclass.

        Returns:
            The checkpoint. Further training does not change it.
        """
        task: PackedTask = trainer.task
        return cls(
            showers=(task.units, len(task.valid)),
            digest=task.digest,
            processes=task.processes.count,
            training=trainer.state_dict(),
            **own,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the checkpoint as plain values; see `supa_learning.Checkpoint`.

        Returns:
            Dictionary of plain values, without the training state.
        """
        return {"showers": self.showers, "digest": self.digest, "processes": self.processes}

    @staticmethod
    def shared(values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields of this class.

        Args:
            values: Contents of a file.

        Returns:
            Arguments of the constructor.
        """
        return {name: values[name] for name in ("showers", "digest", "processes", "training", "versions")}
