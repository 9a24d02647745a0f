"""Training of shower encoders with `supa_learning.Trainer`."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from supa_learning.processes import Processes
from supa_learning.randomness import RandomState
from supa_learning.task import Figures, Validation
from supa_learning.trainer import Callback, Trainer
from supa_mamba.config import TrainingConfig
from supa_mamba.encoder import EncoderConfig, ShowerEncoder
from supa_mamba.objective import Objective
from supa_mamba.packed_showers import (
    Batch,
    PackedShowers,
    TaskEncoding,
    count_baseline,
    packed_showers,
    training_showers,
)
from supa_mamba.packed_task import PackedTask

PART = "encoder"
"""Name of the model in the figures of an epoch."""


class EncoderTask(PackedTask):
    """Training task of an encoder.

    The order of the showers depends only on the seed and the epoch; nothing else is random after initialisation. With
    several processes, each process computes its share of every batch, and all processes add up their gradients.

    On GPUs, batches are padded to few shapes, and the steps are captured as CUDA graphs.

    Args:
        config: Configuration of the encoder and its training.
        encoding: Conversion of showers into tensors and targets.
        train: The training showers.
        valid: The validation showers.
        processes: Processes that train together; this process alone by default.
        cuda_graphs: Whether to capture CUDA graphs on a GPU. The results have the same bits without them.

    Raises:
        ValueError: If a batch has fewer showers than there are processes, or if there are no targets.
    """

    def __init__(
        self,
        config: TrainingConfig,
        encoding: TaskEncoding,
        train: PackedShowers,
        valid: PackedShowers,
        *,
        processes: Processes | None = None,
        cuda_graphs: bool = True,
    ) -> None:
        for kind, showers in (("training", train), ("validation", valid)):
            if not len(showers.target):
                raise ValueError(f"The {kind} showers have no hits to predict; provide more showers.")
        processes = processes or Processes()
        self.encoder = new_encoder(config, encoding).to(processes.device)
        super().__init__(self.encoder, config, train, valid, processes=processes, cuda_graphs=cuda_graphs)
        self.config, self.encoding = config, encoding
        self.baseline = count_baseline(train, encoding)
        self.objective = Objective(encoding)

    def losses(self, batch: Batch) -> Tensor:
        """Return the () sum of the losses; see `PackedTask.losses`."""
        return self.objective.loss(self._outputs(batch), batch)

    def validation_sums(self, batch: Batch) -> Tensor:
        """Return the (2,) sums of losses and scores; see `PackedTask.validation_sums`."""
        outputs = self._outputs(batch)
        return torch.stack([self.objective.loss(outputs, batch), self.objective.score(outputs, batch)])

    def update(self, batch: Batch, learning_rate: float) -> Tensor:
        """Update the encoder; see `TrainingTask.update`.

        Args:
            batch: This process's share of a batch.
            learning_rate: The learning rate.

        Returns:
            (2,) float32: the sum of the losses of this share, and the number of their units.
        """
        loss = self._update(batch, learning_rate)
        return torch.stack([loss, torch.full_like(loss, len(batch.target))])

    def figures(self, totals: Tensor) -> Figures:
        """Return the mean loss of an epoch; see `TrainingTask.figures`."""
        loss, units = totals.tolist()
        return {PART: {"loss": loss / units}}

    def validate(self, batches: Iterable[Batch]) -> Validation:
        """Compute loss and metric on the validation showers. The loss selects the best weights."""
        sums, units = self._validation_totals(batches)
        loss, score = sums.tolist()
        figures = {"loss": loss / units, self.objective.metric: self.objective.mean_score(score, units)}
        return Validation((-loss / units,), {PART: figures})

    def _outputs(self, batch: Batch) -> Tensor:
        with self._autocast():
            outputs: Tensor = self.encoder(batch.points, batch.offset)
        return outputs


def new_encoder(config: TrainingConfig, encoding: TaskEncoding) -> ShowerEncoder:
    """Build an encoder with its initial weights.

    Args:
        config: Sizes and seed.
        encoding: Conversion of showers into tensors and targets.

    Returns:
        The encoder, on the CPU.
    """
    sizes = EncoderConfig(
        features=len(encoding.task.features),
        outputs=encoding.outputs,
        level=encoding.task.level,
        d_model=config.d_model,
        n_layer=config.n_layer,
        d_state=config.d_state,
    )
    with RandomState(config.seed).as_global():
        return ShowerEncoder(sizes)


def training_task(
    showers: Any, config: TrainingConfig, *, processes: Processes | None = None, cuda_graphs: bool = True
) -> EncoderTask:
    """Read showers and prepare the training of an encoder on them.

    Use this function instead of `train` to create the `supa_learning.Trainer` yourself, for example to resume training
    or to train with several processes.

    Args:
        showers: `supa.Showers`, a `supa_datasets.ShowerFile`, a path, or a list of these. The index of a shower
            determines its split: 80 % training, 10 % validation, 10 % test.
        config: Configuration of the encoder and its training.
        processes: Processes that train together, and their device; this process on the CPU by default.
        cuda_graphs: Whether to capture CUDA graphs on a GPU; see `EncoderTask`.

    Returns:
        The task, for `supa_learning.Trainer`.

    Raises:
        FileNotFoundError: If a file does not exist.
        ValueError: If the showers cannot be used for the target.

    Example:
        >>> import supa, supa_mamba
        >>> from supa_learning import Trainer
        >>> showers = supa.simulate(100, "critical", seed=1)
        >>> config = supa_mamba.TrainingConfig(target="incident_energy", d_model=8, n_layer=1, epochs=1, batch_size=32)
        >>> task = supa_mamba.training_task(showers, config)
        >>> task.steps_per_epoch
        3
        >>> state = Trainer(task).run()
        >>> state.finished, len(state.history)
        (True, 1)
    """
    encoding, train_showers = training_showers(showers, config.target)
    valid = packed_showers(showers, "validation", encoding)
    return EncoderTask(config, encoding, train_showers, valid, processes=processes, cuda_graphs=cuda_graphs)


def train(
    showers: Any,
    config: TrainingConfig,
    *,
    device: str = "cpu",
    callbacks: Sequence[Callback] = (),
    cuda_graphs: bool = True,
) -> Trainer[EncoderTask]:
    """Train an encoder on showers in this process.

    Args:
        showers: `supa.Showers`, a `supa_datasets.ShowerFile`, a path, or a list of these. The index of a shower
            determines its split: 80 % training, 10 % validation, 10 % test.
        config: Configuration of the encoder and its training.
        device: Device of the training, such as ``"cuda"``.
        callbacks: Callbacks of the trainer, for example for progress bars and checkpoints.
        cuda_graphs: Whether to capture CUDA graphs on a GPU; see `EncoderTask`.

    Returns:
        The trainer after training. ``trainer.task.encoder`` has the best weights, and ``trainer.state.history``
        contains the losses of each epoch.

    Raises:
        FileNotFoundError: If a file does not exist.
        ValueError: If the showers cannot be used for the target, or the training diverged.

    Example:
        >>> import supa, supa_mamba
        >>> showers = supa.simulate(100, "critical", seed=1)
        >>> config = supa_mamba.TrainingConfig(target="incident_energy", d_model=8, n_layer=1, epochs=2)
        >>> trainer = supa_mamba.train(showers, config)
        >>> len(trainer.state.history)
        2
        >>> sorted(trainer.state.history[0].valid["encoder"])
        ['error_of_ln_E', 'loss']
    """
    processes = Processes(device=torch.device(device))
    task = training_task(showers, config, processes=processes, cuda_graphs=cuda_graphs)
    trainer = Trainer(task, callbacks=callbacks)
    trainer.run()
    return trainer
