"""A training on the command line: signals, checkpoint, resume, progress, table and TensorBoard."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from supa.checks import counted
from supa_cli.interruption import asked, finished, in_order
from supa_cli.printed import echo

if TYPE_CHECKING:
    from supa_learning.checkpoint import Checkpoint
    from supa_learning.trainer import Trainer

SECONDS_BETWEEN_FILES = 60.0
"""Time between two checkpoints of a running training."""


def resume_from(
    path: Path,
    trainer: "Trainer[Any]",
    stored: "Checkpoint",
    there: Mapping[str, object],
    here: Mapping[str, object],
) -> None:
    """Restore a training from its checkpoint.

    Args:
        path: the checkpoint file, for messages.
        trainer: the training.
        stored: the checkpoint.
        there: what identifies the training of the checkpoint, by name.
        here: what identifies the training that was asked for, by name.

    Raises:
        click.UsageError: the checkpoint is of another training.
    """
    for name, value in here.items():
        if there.get(name) != value:
            raise click.UsageError(
                f"{path} is of another training: {name} is {there.get(name)} there, and {value} here; give the same "
                "options again, or choose another name."
            )
    trainer.load_state_dict(stored.training)


def run_training(
    trainer: "Trainer[Any]",
    path: Path,
    take: "Callable[[], Checkpoint]",
    *,
    items: str,
    resumed: bool,
    advice: str,
    tensorboard: str | None = None,
    quiet: bool = False,
) -> None:
    """Run a training, show its progress, and write its checkpoint; resume it later with the same call.

    Args:
        trainer: the training.
        path: the checkpoint file.
        take: returns a checkpoint of the current state.
        items: what the training counts, in the plural, for the progress.
        resumed: whether the file has the current state already.
        advice: a sentence on what takes less time, for a training of more than an hour.
        tensorboard: folder of TensorBoard files, if any.
        quiet: print nothing.

    Raises:
        click.UsageError: TensorBoard is not installed.
        KeyboardInterrupt: the training was interrupted; the checkpoint has its state.
    """
    from supa_cli.training.progress import training_progress
    from supa_learning.checkpoint_writer import CheckpointWriter
    from supa_learning.tensorboard import TensorBoard

    trainer.should_stop = asked
    if trainer.task.processes.rank > 0:
        with in_order():
            trainer.run()
            finished()
        return
    writer = CheckpointWriter(path, take, seconds=SECONDS_BETWEEN_FILES, at_start=not resumed)
    trainer.callbacks = [writer]
    if tensorboard is not None:
        try:
            trainer.callbacks.append(TensorBoard(tensorboard))
        except ValueError as error:
            raise click.UsageError(f"--tensorboard: {error}") from None
    if resumed and not quiet:
        echo(f"{path}: {'finished' if trainer.state.finished else 'resuming'} after {_extent(trainer)}", err=True)
    with in_order(lambda: f"{path} has {_extent(trainer)}; resume with the same command and --resume."):
        try:
            quiet_now = quiet or trainer.state.finished
            with training_progress(trainer, items=items, advice=advice, quiet=quiet_now) as progress:
                trainer.callbacks.append(progress)
                trainer.run()
        except KeyboardInterrupt:
            writer.write()
            raise
        finished()


def print_result(trainer: "Trainer[Any]", path: Path) -> None:
    """Print a line on a finished training.

    Args:
        trainer: the training.
        path: its checkpoint file.
    """
    history = trainer.state.history
    seconds = sum(epoch.seconds for epoch in history)
    rate = len(history) * trainer.task.units / max(seconds, 1e-9)
    echo(f"{path}: {counted(len(history), 'epoch')}, {seconds:,.1f} s, {rate:,.0f} items/s")


def _extent(trainer: "Trainer[Any]") -> str:
    state = trainer.state
    return f"{counted(len(state.history), 'epoch')} and {counted(state.step, 'step')}"
