"""A training on the command line: signals, checkpoint, resume, progress, table and TensorBoard."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from supa.checks import counted
from supa_cli.signals import deferred_interrupts, interrupt_requested, mark_output_complete
from supa_cli.terminal_text import echo

if TYPE_CHECKING:
    from supa_learning.checkpoint import Checkpoint
    from supa_learning.trainer import Trainer

C = TypeVar("C", bound="Checkpoint")

SECONDS_BETWEEN_FILES = 15.0
"""Time between two checkpoints of a running training."""


def run_training(
    trainer: "Trainer[Any]",
    path: Path,
    take: "Callable[[], C]",
    *,
    stored: "C | None",
    facts: "Callable[[C], Mapping[str, object]]",
    items: str,
    advice: str,
    tensorboard: str | None = None,
    quiet: bool = False,
) -> None:
    """Run a training, resume it if there is a checkpoint, show its progress, and write its checkpoint.

    Args:
        trainer: the training.
        path: the checkpoint file.
        take: returns a checkpoint of the current state.
        stored: the checkpoint to resume from, if any.
        facts: returns what identifies the training of a checkpoint, by name.
        items: what the training counts, in the plural, for the progress.
        advice: a sentence on what takes less time, for a training of more than an hour.
        tensorboard: folder of TensorBoard files, if any.
        quiet: print nothing.

    Raises:
        click.UsageError: the checkpoint is of another training, or TensorBoard is not installed.
        KeyboardInterrupt: the training was interrupted; the checkpoint has its state.
    """
    from supa_cli.training.epoch_table import training_progress
    from supa_learning.checkpoint_writer import CheckpointWriter
    from supa_learning.tensorboard import TensorBoard

    if stored is not None:
        _check_same(path, facts(stored), facts(take()))
        trainer.load_state_dict(stored.training)
    trainer.should_stop = interrupt_requested
    if trainer.task.processes.rank > 0:
        with deferred_interrupts():
            trainer.run()
            mark_output_complete()
        return
    writer = CheckpointWriter(path, take, seconds=SECONDS_BETWEEN_FILES, at_start=stored is None)
    trainer.callbacks = [writer]
    if tensorboard is not None:
        try:
            trainer.callbacks.append(TensorBoard(tensorboard))
        except ValueError as error:
            raise click.UsageError(f"--tensorboard: {error}") from None
    if stored is not None and not quiet:
        echo(f"{path}: {'finished' if stored.finished else 'resuming'} after {stored.extent}", err=True)
    with deferred_interrupts(lambda: f"{path} has {trainer.state.extent}; resume with the same command and --resume."):
        try:
            quiet_now = quiet or trainer.state.finished
            with training_progress(items=items, advice=advice, quiet=quiet_now) as progress:
                trainer.callbacks.append(progress)
                trainer.run()
        except KeyboardInterrupt:
            writer.write()
            raise
        mark_output_complete()
    if not quiet:
        _print_result(trainer, path, items)


def _check_same(path: Path, there: Mapping[str, object], here: Mapping[str, object]) -> None:
    for name, value in here.items():
        if there.get(name) != value:
            raise click.UsageError(
                f"{path} is of another training: {name} is {there.get(name)} there, and {value} here; give the same "
                "options again, or choose another name."
            )


def _print_result(trainer: "Trainer[Any]", path: Path, items: str) -> None:
    from supa_cli.training.epoch_table import rows_of

    history, task = trainer.state.history, trainer.task
    if task.stages == 1:
        best = max(history, key=lambda epoch: (not math.isnan(epoch.score), epoch.score, -epoch.epoch))
        for part, figures in rows_of(best).items():
            echo("  ".join([f"best epoch: {part}", *(f"{name} {text}" for name, text in figures.items())]))
    seconds = sum(epoch.seconds for epoch in history)
    rate = len(history) * task.units / max(seconds, 1e-9)
    echo(f"{path}: {counted(len(history), 'epoch')}, {seconds:,.1f} s, {rate:,.0f} {items}/s")
