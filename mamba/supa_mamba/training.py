"""Training an encoder: steps, validation, and where it stands, so that a resumed training ends with the same bits."""

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from supa.checks import counted
from supa_mamba.config import TrainingConfig
from supa_mamba.encoder import EncoderConfig, ShowerEncoder
from supa_mamba.modules.weights import optimizer_groups
from supa_mamba.objective import Objective
from supa_mamba.rivals import Rivals
from supa_mamba.showers import Batch, PackedShowers, Reading, batch_cuts, packed_showers, shower_order, training_showers
from supa_mamba.workers import Workers

_VALIDATION_FACTOR = 2
"""Validation keeps nothing for a backward pass, so its batches may be larger."""


@dataclass(frozen=True)
class Epoch:
    """One epoch of training.

    Args:
        epoch: its number, from 0.
        loss: mean loss of its steps.
        valid_loss: mean loss on validation, which chooses the weights.
        valid_score: accuracy, or root mean squared error of the value, on validation.
        learning_rate: of its last step.
        seconds: wall time, validation included.
    """

    epoch: int
    loss: float
    valid_loss: float
    valid_score: float
    learning_rate: float
    seconds: float


@dataclass
class State:
    """Where training stands between two steps.

    Args:
        epoch: the epoch that runs.
        step: its next step.
        total: sum of the losses of its steps so far, a number in float64.
        seconds: wall time of the epoch so far.
        best: the best validation loss so far.
        best_epoch: its epoch.
        best_weights: the weights then.
        history: the finished epochs.
        finished: whether training is over.
    """

    epoch: int = 0
    step: int = 0
    total: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))
    seconds: float = 0.0
    best: float = math.inf
    best_epoch: int = -1
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    history: list[Epoch] = field(default_factory=list)
    finished: bool = False


class Trainer:
    """Trains an encoder.

    The order of the showers is a pure function of seed and epoch, and nothing else is random, so the state between two
    steps is all that a resumed training needs. Of several processes each computes its share of every batch.

    Args:
        config: how.
        reading: how the showers were read.
        train: the showers to train on.
        valid: the showers to stop and choose by.
        workers: the processes that train together.
        on_step: called after each step, when the state is whole.
        on_epoch: called after each epoch.
        stop: asked after each step; True ends training with KeyboardInterrupt.

    Raises:
        ValueError: a batch is smaller than the number of processes, or hits are asked for where there are none.
    """

    def __init__(
        self,
        config: TrainingConfig,
        reading: Reading,
        train: PackedShowers,
        valid: PackedShowers,
        *,
        workers: Workers = Workers(),  # noqa: B008  (frozen)
        on_step: Callable[["Trainer"], None] = lambda _trainer: None,
        on_epoch: Callable[[Epoch], None] = lambda _epoch: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        smallest = int(np.diff(batch_cuts(len(train), config.batch_size)).min())
        if smallest < workers.count:
            raise ValueError(
                f"A batch has {counted(smallest, 'shower')}, but there are {workers.count} processes; give larger "
                "batches or more showers, or start fewer processes."
            )
        for words, showers in (("train", train), ("validate", valid)):
            if not len(showers.target):
                raise ValueError(f"The showers to {words} on have no hit to predict anything of; give more.")
        self.config, self.reading, self.workers = config, reading, workers
        self.on_step, self.on_epoch, self.stop = on_step, on_epoch, stop
        self.digest = train.digest() + valid.digest()
        self.rivals = Rivals.fit(train, reading)
        self.train, self.valid = train.to(workers.device), valid.to(workers.device)
        self.encoder = new_encoder(config, reading).to(workers.device)
        self.state = State(total=torch.zeros((), dtype=torch.float64, device=workers.device))
        self.objective = Objective(reading)
        self._model: nn.Module = self.encoder
        self._optimizer = torch.optim.AdamW(
            optimizer_groups(self.encoder, config.weight_decay),
            lr=config.learning_rate,
            fused=workers.device.type == "cuda",
        )

    def run(self) -> State:
        """Train until the end, from where the state stands.

        Returns:
            The state; the encoder has its best weights.

        Raises:
            KeyboardInterrupt: ``stop`` said so; the state is whole.
            ValueError: the losses are no numbers.
        """
        state = self.state
        self._model = self._shared_model()
        try:
            while not self._is_over():
                self._train_epoch()
                self._finish_epoch(*self._validated())
                if not state.best_weights:
                    raise ValueError(
                        "The loss of the first epoch is no number: training diverged; lower learning_rate."
                    )
        finally:
            self._model = self.encoder  # what processes share must be gone before their group
        self.encoder.load_state_dict(state.best_weights)
        state.finished = True
        self.on_step(self)
        self.encoder.eval()
        return state

    @property
    def steps_an_epoch(self) -> int:
        """Number of steps of an epoch."""
        return len(batch_cuts(len(self.train), self.config.batch_size)) - 1

    def state_dict(self) -> dict[str, Any]:
        """Give all that a resumed training needs, between two steps.

        Returns:
            Plain values and tensors, which further training does not change.
        """
        state = {name: value for name, value in vars(self.state).items() if name != "history"}
        changing = {
            "state": state,
            "encoder": self.encoder.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }
        copied: dict[str, Any] = copy.deepcopy(changing)
        copied["state"]["history"] = [dict(vars(epoch)) for epoch in self.state.history]
        return copied

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go back to where a training stood.

        Args:
            saved: from `state_dict`; it is not changed.
        """
        saved = copy.deepcopy(saved)
        device, state = self.workers.device, saved["state"]
        state["history"] = [Epoch(**epoch) for epoch in state["history"]]
        state["total"] = state["total"].to(device)
        state["best_weights"] = {name: weight.to(device) for name, weight in state["best_weights"].items()}
        self.state = State(**state)
        self.encoder.load_state_dict(saved["encoder"])
        self._optimizer.load_state_dict(saved["optimizer"])

    def _shared_model(self) -> nn.Module:
        if self.workers.count == 1:
            return self.encoder
        from torch.nn.parallel import DistributedDataParallel

        device = self.workers.device
        return DistributedDataParallel(self.encoder, device_ids=[device] if device.type == "cuda" else None)

    def _is_over(self) -> bool:
        state, config = self.state, self.config
        waited = state.epoch - 1 - max(state.best_epoch, 0)
        return state.finished or state.epoch >= config.epochs or waited >= config.patience

    def _train_epoch(self) -> None:
        state, workers = self.state, self.workers
        order = shower_order(len(self.train), self.config.seed, state.epoch)
        self.encoder.train()
        before = time.perf_counter()
        for batch in self.train.batches(
            order, self.config.batch_size, first=state.step, share=(workers.rank, workers.count)
        ):
            state.total += workers.added(self._update(batch).double())
            state.step += 1
            now = time.perf_counter()
            state.seconds, before = state.seconds + now - before, now
            self._pause()

    def _update(self, batch: Batch) -> Tensor:
        """Make a step; give the sum of the losses of this process's share."""
        for group in self._optimizer.param_groups:
            group["lr"] = self._learning_rate()
        self._optimizer.zero_grad(set_to_none=True)
        loss = self.objective.loss(self._outputs(batch), batch)
        # Processes take the mean of their gradients; what is wanted is the mean over the units of the whole batch. A
        # batch of empty showers alone has none.
        (loss * (self.workers.count / max(batch.units, 1))).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.encoder.parameters(), self.config.clip)
        self._optimizer.step()
        return loss.detach()

    def _outputs(self, batch: Batch) -> Tensor:
        with torch.autocast(self.workers.device.type, dtype=torch.bfloat16, enabled=self.config.precision == "bf16"):
            outputs: Tensor = self._model(batch.points, batch.offset)
        return outputs

    def _learning_rate(self) -> float:
        config, done = self.config, self.state.epoch * self.steps_an_epoch + self.state.step
        steps = config.epochs * self.steps_an_epoch
        warm = config.warmup * steps
        if done < warm:
            return config.learning_rate * (done + 1) / (warm + 1)
        return config.learning_rate * (1 + math.cos(math.pi * (done - warm) / (steps - warm))) / 2

    @torch.no_grad()
    def _validated(self) -> tuple[float, float]:
        """Give mean loss and score on validation."""
        began = time.perf_counter()
        self.encoder.eval()
        sums = torch.zeros(2, dtype=torch.float64, device=self.workers.device)
        units = 0
        for batch in self.valid.batches(
            np.arange(len(self.valid)),
            _VALIDATION_FACTOR * self.config.batch_size,
            share=(self.workers.rank, self.workers.count),
        ):
            outputs = self._outputs(batch)
            sums += torch.stack([self.objective.loss(outputs, batch), self.objective.score(outputs, batch)])
            units += batch.units
            self._pause()
        loss, score = self.workers.added(sums).tolist()
        self.state.seconds += time.perf_counter() - began
        return loss / units, self.objective.mean_score(score, units)

    def _finish_epoch(self, valid_loss: float, valid_score: float) -> None:
        state = self.state
        if valid_loss < state.best:
            state.best, state.best_epoch = valid_loss, state.epoch
            state.best_weights = copy.deepcopy(self.encoder.state_dict())
        units = len(self.train.target)
        rate = self._optimizer.param_groups[0]["lr"]
        epoch = Epoch(state.epoch, float(state.total) / units, valid_loss, valid_score, rate, state.seconds)
        state.history.append(epoch)
        state.epoch, state.step, state.total, state.seconds = state.epoch + 1, 0, torch.zeros_like(state.total), 0.0
        self.on_epoch(epoch)
        self._pause()

    def _pause(self) -> None:
        """Let others look at the whole state between two steps."""
        self.on_step(self)
        if self.workers.any(self.stop()):
            raise KeyboardInterrupt


def new_encoder(config: TrainingConfig, reading: Reading) -> ShowerEncoder:
    """Make an encoder with its first weights.

    Args:
        config: sizes and seed.
        reading: how showers are read.

    Returns:
        The encoder, on the CPU.
    """
    sizes = EncoderConfig(
        features=len(reading.about.features),
        outputs=reading.outputs,
        level=reading.about.level,
        d_model=config.d_model,
        n_layer=config.n_layer,
        d_state=config.d_state,
    )
    # The random numbers of whoever makes or loads an encoder go on as if nothing had been drawn.
    with torch.random.fork_rng(devices=()):
        torch.default_generator.manual_seed(config.seed)
        return ShowerEncoder(sizes)


def train(
    showers: Any,
    config: TrainingConfig,
    *,
    device: str = "cpu",
    on_epoch: Callable[[Epoch], None] = lambda _epoch: None,
) -> Trainer:
    """Train an encoder on showers, in this process, to the end.

    Args:
        showers: Showers, a ShowerFile, a path, or a list of these; their indices part them.
        config: how.
        device: where, such as ``"cuda"``.
        on_epoch: called after each epoch.

    Returns:
        The trainer: its ``encoder`` has the best weights, its ``state`` the history.

    Raises:
        ValueError: the showers cannot be used for the target, or training diverged.
    """
    reading, members = training_showers(showers, config.target)
    valid = packed_showers(showers, "validation", reading)
    trainer = Trainer(config, reading, members, valid, workers=Workers(device=torch.device(device)), on_epoch=on_epoch)
    trainer.run()
    return trainer
