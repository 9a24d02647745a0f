"""Checkpoints of generators."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch

from supa import ShowerConfig
from supa_learning.checkpoint import package_versions
from supa_learning.trainer import Trainer
from supa_mamba.generator.coding import HitCoding
from supa_mamba.generator.finetuning_task import FinetuningTask
from supa_mamba.generator.model import ShowerGenerator
from supa_mamba.generator.task import GeneratorTask, new_generator
from supa_mamba.generator.training_config import GeneratorTrainingConfig
from supa_mamba.modules.initialisation import optimizer_groups
from supa_mamba.packed_checkpoint import PackedCheckpoint


@dataclass(frozen=True, eq=False, kw_only=True)
class GeneratorCheckpoint(PackedCheckpoint):
    """Checkpoint of a generator and of the state of its training.

    A checkpoint can be taken between any two training steps. It does not contain the showers.

    Args:
        config: Configuration of the generator and its training.
        coding: Conversion of showers into sequences, fitted to the training showers.
        shower_configs: Configs of the training showers.
        showers: Numbers of showers of an epoch and of a validation.
        digest: Checksum of the showers, or of the first ones of a stream.
        processes: Number of processes that trained together.
        training: Training state, from ``Trainer.state_dict``.
        versions: Versions of the packages that wrote the checkpoint.

    Example:
        >>> import supa, supa_mamba
        >>> showers = supa.simulate(60, "critical", seed=1)
        >>> sizes = supa_mamba.GeneratorConfig(d_model=32, n_layer=1)
        >>> config = supa_mamba.GeneratorTrainingConfig(generator=sizes, epochs=1, batch_size=16)
        >>> trainer = supa_mamba.train_generator(showers, config)
        >>> supa_mamba.GeneratorCheckpoint.of(trainer).save("generator.ckpt")
        >>> checkpoint = supa_mamba.GeneratorCheckpoint.load("generator.ckpt")
        >>> checkpoint.shower_configs == [supa.preset("critical")], checkpoint.model().config.d_model
        (True, 32)
    """

    format: ClassVar[str] = "supa-mamba-generator"
    version: ClassVar[int] = 3
    written_by: ClassVar[str] = "supa mamba train-generator"

    config: GeneratorTrainingConfig
    coding: HitCoding
    shower_configs: list[ShowerConfig]

    @classmethod
    def of(cls, trainer: Trainer[GeneratorTask] | Trainer[FinetuningTask]) -> Self:
        """Return a checkpoint of a training run.

        Args:
            trainer: Trainer of the generator or of its fine-tuning, between two steps or after the last one.

        Returns:
            The checkpoint. Further training does not change it.
        """
        task = trainer.task
        return cls.of_training(
            trainer,
            config=task.config,
            coding=task.coding,
            shower_configs=list(task.shower_configs),
        )

    def model(self) -> ShowerGenerator:
        """Return the generator with the best averaged weights so far.

        Returns:
            The generator, on the CPU and in evaluation mode.
        """
        generator = new_generator(self.config, self.coding)
        generator.load_state_dict(self.best_weights)
        return generator.eval()

    def parallel_pairs(self, first: int, last: int) -> Self:
        """Return a checkpoint with one layer of twice the width in place of each of some pairs of layers.

        Its training counts as finished. To train the new layers, pass its `model` to `stream_generator_task` or
        `generator_task` as ``initial``.

        Args:
            first: Index of the first layer, from 0.
            last: Index after the last layer; see `supa_mamba.parallel_pairs`.

        Returns:
            The checkpoint of the generator with these pairs.

        Raises:
            ValueError: If a layer does not exist or is in a pair already, or two layers differ in kind.

        Example:
            >>> import supa, supa_mamba
            >>> showers = supa.simulate(60, "critical", seed=1)
            >>> sizes = supa_mamba.GeneratorConfig(d_model=32, n_layer=4)
            >>> config = supa_mamba.GeneratorTrainingConfig(generator=sizes, epochs=1, batch_size=16)
            >>> checkpoint = supa_mamba.GeneratorCheckpoint.of(supa_mamba.train_generator(showers, config))
            >>> wide = checkpoint.parallel_pairs(1, 3)  # layers 1 and 2
            >>> wide.config.generator.paired_layers, len(wide.model().stack.layers)
            ((1,), 3)
        """
        model = self.model().parallel_pairs(first, last)
        config, weights = self.config.replace(generator=model.config), model.state_dict()
        optimizer = torch.optim.AdamW(optimizer_groups(model, config.weight_decay), lr=config.learning_rate)
        state = {**self.training["state"], "best_weights": weights, "step": 0, "totals": None, "finished": True}
        task = {**self.training["task"], "optimizer": optimizer.state_dict(), "weights": weights, "updates": 0}
        training = {**self.training, "state": state, "model": weights, "task": task}
        return replace(self, config=config, training=training, versions=package_versions())

    def to_dict(self) -> dict[str, Any]:
        """Return the checkpoint as plain values; see `supa_learning.Checkpoint`.

        Returns:
            Dictionary of plain values, without the training state.
        """
        return {
            "config": self.config.to_dict(),
            "coding": self.coding.to_dict(),
            "shower_configs": [config.to_dict() for config in self.shower_configs],
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
            config=GeneratorTrainingConfig.from_dict(values["config"]),
            coding=HitCoding.from_dict(values["coding"]),
            shower_configs=[ShowerConfig.from_dict(config) for config in values["shower_configs"]],
            **cls.shared(values),
        )
