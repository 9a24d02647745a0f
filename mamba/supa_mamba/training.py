"""Training of shower encoders with `supa_learning.Trainer`."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from supa.checks import counted
from supa_learning.captured_step import CapturedStep
from supa_learning.flat_gradients import FlatGradients
from supa_learning.processes import Processes
from supa_learning.randomness import RandomState, epoch_order
from supa_learning.schedules import WarmupCosine
from supa_learning.task import Figures, TrainingTask, Validation
from supa_learning.trainer import Callback, Trainer
from supa_mamba.config import TrainingConfig
from supa_mamba.encoder import EncoderConfig, ShowerEncoder
from supa_mamba.modules.initialisation import optimizer_groups
from supa_mamba.objective import Objective
from supa_mamba.packed_showers import (
    Batch,
    PackedShowers,
    TaskEncoding,
    batch_cuts,
    count_baseline,
    packed_showers,
    training_showers,
)
from supa_mamba.padding import PaddedShape, empty_batch, fill_padded

PART = "encoder"
"""Name of the model in the figures of an epoch."""

_VALIDATION_FACTOR = 2
"""Validation stores nothing for a backward pass, so its batches can be larger by this factor."""


class StepInputs(NamedTuple):
    """Inputs of a training or validation step.

    Args:
        batch: The batch, with padding if the step is captured.
        scale: Factor of the sum of the losses for the gradient; a () float32 tensor if the step is captured.
    """

    batch: Batch
    scale: float | Tensor


class EncoderTask(TrainingTask[Batch]):
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
        processes = processes or Processes()
        smallest = int(np.diff(batch_cuts(len(train), config.batch_size)).min())
        if smallest < processes.count:
            raise ValueError(
                f"A batch has {counted(smallest, 'shower')}, but there are {processes.count} processes; use larger "
                "batches, more showers or fewer processes."
            )
        for kind, showers in (("training", train), ("validation", valid)):
            if not len(showers.target):
                raise ValueError(f"The {kind} showers have no hits to predict; provide more showers.")
        self.encoder = new_encoder(config, encoding).to(processes.device)
        on_gpu = processes.device.type == "cuda"
        # A graph reads the learning rate from a tensor.
        self._rate = torch.tensor(config.learning_rate, device=processes.device) if on_gpu else None
        self._options: dict[str, Any] = {"fused": on_gpu, "capturable": on_gpu}
        self._adamw = torch.optim.AdamW(
            optimizer_groups(self.encoder, config.weight_decay), lr=config.learning_rate, **self._options
        )
        super().__init__(
            self.encoder,
            seed=config.seed,
            epochs=config.epochs,
            patience=config.patience,
            schedule=WarmupCosine(config.learning_rate, config.warmup),
            optimizer=self._adamw,
            processes=processes,
        )
        self.config, self.encoding = config, encoding
        self.digest = train.digest() + valid.digest()
        self.baseline = count_baseline(train, encoding)
        self.train, self.valid = train.to(processes.device), valid.to(processes.device)
        self.objective = Objective(encoding)
        self._gradients = FlatGradients(self.encoder.parameters())
        self._padded = on_gpu
        self._backward, self._evaluation = (
            CapturedStep(step, self._new_inputs, device=self.device, enabled=cuda_graphs)
            for step in (self._backward_step, self._validation_step)
        )
        # The processes communicate between the graphs, not in them. A graph with a collective operation of NCCL must be
        # replayed by all processes together, but the shares of a batch have different shapes.
        self._optimization: CapturedStep[None, None] = CapturedStep(
            self._optimizer_step, lambda _: None, device=self.device, enabled=cuda_graphs
        )

    @property
    def steps_per_epoch(self) -> int:
        """Number of steps of an epoch."""
        return len(batch_cuts(len(self.train), self.config.batch_size)) - 1

    @property
    def units(self) -> int:
        """Number of training showers."""
        return len(self.train)

    @contextmanager
    def session(self) -> Iterator[None]:
        """Begin with the same weights in all processes, and release the graphs at the end."""
        # The bits of initial weights may depend on the processor.
        for weights in self.encoder.state_dict().values():
            self.processes.broadcast_(weights)
        try:
            yield
        finally:
            for step in (self._backward, self._optimization, self._evaluation):
                step.forget()

    def batches(self, stage: int, epoch: int, first: int) -> Iterator[Batch]:
        """Return this process's shares of the training batches of an epoch; see `TrainingTask.batches`."""
        self.encoder.train()
        order = epoch_order(len(self.train), self.seed, epoch)  # there is one stage
        return self.train.batches(order, self.config.batch_size, first=first, share=self._share)

    def update(self, batch: Batch, learning_rate: float) -> Tensor:
        """Update the encoder; see `TrainingTask.update`.

        Args:
            batch: This process's share of a batch.
            learning_rate: The learning rate.

        Returns:
            (2,) float32: the sum of the losses of this share, and the number of their units.
        """
        if self._rate is not None:
            self._rate.fill_(learning_rate)
        for group in self._adamw.param_groups:
            group["lr"] = learning_rate if self._rate is None else self._rate
        # The loss is the mean over the units of the whole batch. A batch of empty showers has no units.
        loss = self._run(self._backward, batch, self.config.batch_size, 1 / max(batch.units, 1))
        self._gradients.sum_(self.processes)
        self._optimization.inputs(None)
        self._optimization(None)
        return torch.stack([loss, torch.full_like(loss, len(batch.target))])

    def _backward_step(self, inputs: StepInputs) -> Tensor:
        """Compute the gradients and return the sum of the losses."""
        loss = self.objective.loss(self._outputs(inputs.batch), inputs.batch)
        self._gradients.backward(loss * inputs.scale)
        return loss.detach()

    def _optimizer_step(self, _: None) -> Tensor:
        """Update the encoder and return the norm of the gradients."""
        norm = nn.utils.clip_grad_norm_(self.encoder.parameters(), self.config.clip)
        self._adamw.step()
        return norm

    def _validation_step(self, inputs: StepInputs) -> Tensor:
        """Return the sums of losses and scores."""
        outputs = self._outputs(inputs.batch)
        return torch.stack([self.objective.loss(outputs, inputs.batch), self.objective.score(outputs, inputs.batch)])

    def figures(self, totals: Tensor) -> Figures:
        """Return the mean loss of an epoch; see `TrainingTask.figures`."""
        loss, units = totals.tolist()
        return {PART: {"loss": loss / units}}

    def validation_batches(self) -> Iterator[Batch]:
        """Return this process's shares of the validation batches."""
        order = np.arange(len(self.valid))
        return self.valid.batches(order, _VALIDATION_FACTOR * self.config.batch_size, share=self._share)

    def validate(self, batches: Iterable[Batch]) -> Validation:
        """Compute loss and metric on the validation showers. The loss selects the best weights."""
        self.encoder.eval()
        sums = torch.zeros(2, dtype=torch.float64, device=self.device)
        units = 0
        for batch in batches:
            sums += self._run(self._evaluation, batch, _VALIDATION_FACTOR * self.config.batch_size)
            units += batch.units
        loss, score = self.processes.sum(sums).tolist()
        figures = {"loss": loss / units, self.objective.metric: self.objective.mean_score(score, units)}
        return Validation((-loss / units,), {PART: figures})

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state of the optimizer, which may have been trained on another kind of device."""
        saved = state["optimizer"]
        groups = [group | self._options for group in saved["param_groups"]]
        super().load_state_dict({**state, "optimizer": {**saved, "param_groups": groups}})
        self._optimization.forget()  # the optimizer has new tensors

    def _run(
        self, step: CapturedStep[PaddedShape, StepInputs], batch: Batch, most_showers: int, scale: float = 1.0
    ) -> Tensor:
        """Run a step on a batch, which is padded for a graph."""
        if not self._padded:
            return step.function(StepInputs(batch, scale))
        shape = PaddedShape.of(batch, -(-most_showers // self.processes.count))
        inputs = step.inputs(shape)
        fill_padded(inputs.batch, batch)
        inputs.scale.fill_(scale)  # type: ignore[union-attr]
        return step(shape)

    def _new_inputs(self, shape: PaddedShape) -> StepInputs:
        batch = empty_batch(shape, self.train.points, self.train.target, by_hit=self.train.by_hit)
        return StepInputs(batch, torch.empty((), device=self.device))

    @property
    def _share(self) -> tuple[int, int]:
        return self.processes.rank, self.processes.count

    def _outputs(self, batch: Batch) -> Tensor:
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.config.precision == "bf16"):
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
