"""The training loop and its hooks: epochs, validation, best weights, patience, and exact resume."""

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
    """Hooks of a training, which do nothing by default.

    PyTorch's global random state is that of the program in all of them. What a hook raises ends the training; its state
    can then be saved and resumed.
    """

    def on_start(self, trainer: "Trainer[Any]") -> None:
        """Called before the first step, also of a resumed training."""

    def on_step(self, trainer: "Trainer[Any]") -> None:
        """Called after each step, each validation batch and each epoch, and at the end."""

    def on_end(self, trainer: "Trainer[Any]") -> None:
        """Called when ``Trainer.run`` ends, also by an exception."""

    def on_epoch(self, trainer: "Trainer[Any]", epoch: "Epoch") -> None:
        """Called after each epoch, when it has been added to the history."""


class Trainer(Generic[T]):
    """Trains a task.

    The state between two steps is all that a resumed training needs to end with the same bits. The global random state
    of PyTorch is the same before and after each call, and in the callbacks.

    Args:
        task: the model, its data and its update rule.
        callbacks: hooks for progress, files and tables.
        should_stop: called after each step and each validation batch; if it returns True in any of the processes, the
            training ends with KeyboardInterrupt.
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
        """Train to the end, from the current state.

        Returns:
            The state; each trained module has its best weights, and the model is in evaluation mode.

        Raises:
            KeyboardInterrupt: ``should_stop`` returned True; the state can be saved and resumed.
            ValueError: a validation has no finite score.
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
        """Return all that a resumed training needs, between two steps.

        Returns:
            Plain values and tensors, which further training does not change.
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
        # Epochs do not change, and there may be thousands.
        state["state"]["history"] = self.state.to_dict()["history"]
        return state

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Restore the state of a training.

        Args:
            saved: what `state_dict` returned; it is not changed.
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
        """Train for the rest of an epoch; return the learning rate of its last step."""
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
        """Call the hooks between two steps, and stop if that is asked for."""
        if self.callbacks:
            with self._random.as_global():
                for callback in self.callbacks:
                    callback.on_step(self)
        if self.task.processes.any(self.should_stop()):
            raise KeyboardInterrupt
