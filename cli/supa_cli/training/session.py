"""Training on the command line: signals, checkpoints, resuming, progress, tables and TensorBoard."""

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
    from supa_learning.task import Figures
    from supa_learning.trainer import Trainer

C = TypeVar("C", bound="Checkpoint")

SECONDS_BETWEEN_FILES = 15.0
"""Interval between checkpoints during training."""


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
    measure: "Callable[[Trainer[Any]], Figures] | None" = None,
    quiet: bool = False,
) -> None:
    """Train or resume training, show the progress, and write checkpoints.

    Args:
        trainer: The trainer.
        path: Path of the checkpoint.
        take: Function that returns a checkpoint of the current state.
        stored: Checkpoint from which the training resumes, if any.
        facts: Function that returns the settings and data that identify a training run, by name.
        items: Name of the items of a batch, in the plural, for the progress.
        advice: Sentence on how to save time, printed if training takes more than an hour.
        tensorboard: Folder for TensorBoard files, if any.
        measure: Function that returns further figures for these files after each epoch, if any.
        quiet: Whether to print nothing.

    Raises:
        click.UsageError: If the checkpoint belongs to another training run, or if TensorBoard is not installed.
        KeyboardInterrupt: If training was interrupted. The checkpoint contains the state.
    """
    from supa_cli.training.epoch_table import training_progress
    from supa_learning.checkpoint_writer import CheckpointWriter
    from supa_learning.tensorboard import TensorBoard

    if stored is not None:
        _check_same(path, facts(stored), facts(take()))
        try:
            trainer.load_state_dict(stored.training)
        except ValueError as error:
            raise click.UsageError(f"{path}: {error}") from None
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
            trainer.callbacks.append(TensorBoard(tensorboard, measure=measure))
        except ValueError as error:
            raise click.UsageError(f"--tensorboard: {error}") from None
    if stored is not None and not quiet:
        echo(f"{path}: {'finished' if stored.finished else 'resuming'} after {stored.extent}", err=True)
    with deferred_interrupts(
        lambda: f"{path} contains {trainer.state.extent}; resume with the same command and --resume."
    ):
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


def _check_same(path: Path, stored: Mapping[str, object], current: Mapping[str, object]) -> None:
    for name, value in current.items():
        if stored.get(name) != value:
            raise click.UsageError(
                f"{path} belongs to another training run: {name} is {stored.get(name)} in the file, but {value} in "
                "this command; use the same options again, or choose another name."
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
