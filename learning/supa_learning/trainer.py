"""The training loop with validation, best weights, patience, exact resume and callbacks."""

import copy
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

import torch

from supa_learning.randomness import RandomState
from supa_learning.schedules import Position
from supa_learning.task import TrainingTask, Validation
from supa_learning.training_state import Epoch, TrainingState

T = TypeVar("T", bound=TrainingTask[Any])
B = TypeVar("B")


class Callback:
    """Base class of callbacks. A subclass overrides the methods that it needs; by default they do nothing.

    During a callback, the global random state of PyTorch is that of the program, not that of the training. An
    exception in a callback ends the training. The state of the training can then be saved and resumed.

    Example:
        >>> from supa_learning import Callback
        >>> class PrintScore(Callback):
        ...     def on_epoch(self, trainer, epoch):
        ...         print(f"epoch {epoch.epoch}: score {epoch.score:.3f}")
        >>> callbacks = [PrintScore()]  # for Trainer(task, callbacks=callbacks)
    """

    def on_start(self, trainer: "Trainer[Any]") -> None:
        """Called before the first step, and before the first step after a resume."""

    def on_step(self, trainer: "Trainer[Any]") -> None:
        """Called after each step, each validation batch and each epoch, and when the training is finished."""

    def on_end(self, trainer: "Trainer[Any]") -> None:
        """Called when `Trainer.run` ends, normally or by an exception."""

    def on_epoch(self, trainer: "Trainer[Any]", epoch: "Epoch") -> None:
        """Called after each epoch, after it was added to the history."""


class Trainer(Generic[T]):
    """The training loop for a `TrainingTask`.

    The state of a training can be saved between any two steps. A training that is resumed from it ends with the same
    bits as an uninterrupted one. The trainer does not change the global random state of PyTorch.

    Args:
        task: Model with its data and its update rule.
        callbacks: Callbacks for progress, files and tables.
        should_stop: Function that is called after each step and each validation batch. If it returns True in any
            process, the training ends with KeyboardInterrupt.

    Example:
        >>> import torch
        >>> from supa_learning import StepDecay, Trainer, TrainingTask, Validation
        >>> class Line(TrainingTask):
        ...     steps_per_epoch, units = 1, 64
        ...     x = torch.linspace(-1, 1, 64)[:, None]
        ...     def __init__(self):
        ...         model = torch.nn.Linear(1, 1)
        ...         optimizer = torch.optim.SGD(model.parameters(), 0.5)
        ...         super().__init__(model, seed=0, epochs=9, patience=9, schedule=StepDecay(0.5), optimizer=optimizer)
        ...     def batches(self, stage, epoch, first):
        ...         return [self.x][first:]
        ...     def update(self, batch, learning_rate):
        ...         self.optimizer.zero_grad()
        ...         loss = (self.model(batch) - 2 * batch).square().mean()
        ...         loss.backward()
        ...         self.optimizer.step()
        ...         return loss.detach()
        ...     def figures(self, totals):
        ...         return {"model": {"loss": float(totals)}}
        ...     def validation_batches(self):
        ...         return [self.x]
        ...     def validate(self, batches):
        ...         return Validation((-sum(float((self.model(x) - 2 * x).square().mean()) for x in batches),))
        >>> trainer = Trainer(Line())
        >>> state = trainer.run()
        >>> len(state.history), state.finished
        (9, True)
        >>> resumed = Trainer(Line())
        >>> resumed.load_state_dict(trainer.state_dict())
        >>> resumed.state.extent
        '9 epochs and 0 steps'
    """

    def __init__(
        self,
        task: T,
        *,
        callbacks: Sequence[Callback] = (),
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.task, self.callbacks, self.should_stop = task, list(callbacks), should_stop
        self.state = TrainingState()
        self._random = RandomState(task.seed, device=task.device)

    def run(self) -> TrainingState:
        """Train from the current state to the end.

        Returns:
            State of the finished training. Each trained module has its best weights, and the model is in evaluation
            mode.

        Raises:
            KeyboardInterrupt: If ``should_stop`` returned True. The state can be saved and resumed.
            ValueError: If a validation has no finite score.
        """
        try:
            for callback in self.callbacks:
                callback.on_start(self)
            self._run()
        finally:
            for callback in self.callbacks:
                callback.on_end(self)
        self.task.model.eval()
        return self.state

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the training, including weights, optimizer and random generators.

        Returns:
            Dictionary of plain values and tensors, which are copies.
        """
        state: dict[str, Any] = copy.deepcopy(
            {
                "state": {**self.state.to_dict(), "history": []},
                "model": self.task.model.state_dict(),
                "task": self.task.state_dict(),
                "random": self._random.state_dict(),
                "seed": self.task.seed,
            }
        )
        # Finished epochs do not change, and there may be thousands of them, so they are not copied.
        state["state"]["history"] = self.state.to_dict()["history"]
        return state

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Restore the state of a training.

        Args:
            saved: Dictionary from `state_dict`, which is not modified.
        """
        saved = copy.deepcopy(dict(saved))
        state = TrainingState.from_dict(saved["state"])
        if state.totals is not None:
            state.totals = state.totals.to(self.task.device)
        self.state = state
        self.task.model.load_state_dict(saved["model"])
        self.task.load_state_dict(saved["task"])
        self.task.seed = saved["seed"]
        self._random.load_state_dict(saved["random"])

    def _run(self) -> None:
        task, state = self.task, self.state
        if not state.finished:
            with self._random.as_global(), task.session():
                self._run_stage(state.stage)
                while state.stage + 1 < task.stages:
                    state.next_stage()
                    self._run_stage(state.stage)
                task.end()
            state.finished = True
            for callback in self.callbacks:
                callback.on_step(self)

    def _run_stage(self, stage: int) -> None:
        task, state = self.task, self.state
        task.start_stage(stage)
        while not self._stage_is_over():
            rate = self._train_epoch()
            validation = None
            if self._validates():
                before = time.perf_counter()
                with torch.no_grad():
                    validation = task.validate(self._watched(task.validation_batches()))
                state.seconds += time.perf_counter() - before
                self._choose(validation)
            self._finish_epoch(rate, validation)
        task.module(stage).load_state_dict(state.best_weights)
        task.end_stage(stage)

    def _train_epoch(self) -> float:
        """Train for the rest of an epoch and return the learning rate of its last step."""
        task, state = self.task, self.state
        steps = task.steps_per_epoch
        before = time.perf_counter()
        for batch in task.batches(state.stage, state.epoch, state.step):
            rate = task.schedule(Position(state.epoch, state.step, steps, task.epochs))
            sums = task.processes.sum(task.update(batch, rate).double())
            state.totals = sums if state.totals is None else state.totals + sums
            state.step += 1
            now = time.perf_counter()
            state.seconds, before = state.seconds + now - before, now
            self._pause()
        return task.schedule(Position(state.epoch, steps - 1, steps, task.epochs))

    def _validates(self) -> bool:
        following = self.state.epoch + 1
        return following % self.task.validate_every == 0 or following == self.task.epochs

    def _choose(self, validation: Validation) -> None:
        """Copy the weights if they are the best so far."""
        state = self.state
        if state.is_better(validation.score):
            state.best_score, state.best_epoch = validation.score, state.epoch
            state.best_weights = copy.deepcopy(self.task.module(state.stage).state_dict())

    def _finish_epoch(self, rate: float, validation: Validation | None) -> None:
        state = self.state
        assert state.totals is not None
        score, valid = (float("nan"), {}) if validation is None else (validation.score[0], validation.figures)
        epoch = Epoch(state.stage, state.epoch, self.task.figures(state.totals), valid, score, rate, state.seconds)
        state.history.append(epoch)
        state.epoch, state.step, state.totals, state.seconds = state.epoch + 1, 0, None, 0.0
        if self.callbacks:
            with self._random.as_global():
                for callback in self.callbacks:
                    callback.on_epoch(self, epoch)
        if validation is not None and not state.best_weights:
            raise ValueError(f"The validation of epoch {epoch.epoch} has no finite score: {self.task.not_finite}.")
        self._pause()

    def _stage_is_over(self) -> bool:
        task, state = self.task, self.state
        return state.epoch >= task.epochs or state.waited() >= task.patience * task.validate_every

    def _watched(self, batches: Iterable[B]) -> Iterator[B]:
        for batch in batches:
            yield batch
            self._pause()

    def _pause(self) -> None:
        """Run the callbacks between two steps, and raise KeyboardInterrupt if the training should stop."""
        if self.callbacks:
            with self._random.as_global():
                for callback in self.callbacks:
                    callback.on_step(self)
        if self.task.processes.any(self.should_stop()):
            raise KeyboardInterrupt
