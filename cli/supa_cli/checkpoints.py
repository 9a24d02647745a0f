"""What trainings share: a checkpoint that is written now and then, and figures for TensorBoard."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

import click

from supa_cli.interruption import finished, in_order


class Saveable(Protocol):
    """A checkpoint."""

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all."""


C = TypeVar("C", bound=Saveable)
Save = Callable[[Callable[[], C], bool], None]
Write = Callable[[Mapping[str, float], int], None]


def check_output(path: Path, *, resume: bool) -> None:
    """Check that a checkpoint can be written.

    Args:
        path: the file.
        resume: whether it may be there.

    Raises:
        click.UsageError: its name is that of a shower file, its folder is not there, or the file is.
    """
    from supa_cli.suffixes import format_of

    if format_of(str(path)) is not None:
        raise click.UsageError(
            f"{path}: {path.suffix} is the ending of a shower file, but a checkpoint is written; name it "
            f"{path.with_suffix('.ckpt')}."
        )
    if not path.absolute().parent.is_dir():
        raise click.UsageError(f"{path}: the folder {path.parent} does not exist; make it first.")
    if path.exists() and not resume:
        raise click.UsageError(f"{path} exists; choose another name, resume it (--resume), or delete it.")


def check_same(path: Path, there: Mapping[str, object], here: Mapping[str, object]) -> None:
    """Tell what differs between a training that is to be resumed and what was asked for.

    Args:
        path: the checkpoint.
        there: facts of the training in it, by their names.
        here: facts of what was asked for.

    Raises:
        click.UsageError: some fact differs.
    """
    for name, value in here.items():
        if there.get(name) != value:
            raise click.UsageError(
                f"{path} is of another training: {name} is {there.get(name)} there, and {value} here; give the same "
                "options again, or choose another name."
            )


def chosen_device(name: str) -> str:
    """Give the kind of device that --device names.

    Args:
        name: auto, cpu or cuda.

    Returns:
        cpu or cuda.

    Raises:
        click.UsageError: cuda was given, but there is none.
    """
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise click.UsageError("--device cuda was given, but PyTorch finds no CUDA device; use cpu.")
    return "cuda" if name != "cpu" and torch.cuda.is_available() else "cpu"


@contextmanager
def saved(path: Path, first: C, *, fresh: bool, seconds: float, words: Callable[[C], str]) -> Iterator[Save[C]]:
    """Write a checkpoint now and then, at the end, and when the work is interrupted.

    Args:
        path: the file.
        first: where training stands at the beginning.
        fresh: whether that is not in the file yet.
        seconds: time between two files.
        words: says how much is in a checkpoint, such as "1 epoch is".

    Returns:
        A context that gives a function to call when the state is whole: with what makes the checkpoint, also later when
        the work is interrupted, and with whether training is over.
    """
    latest: Callable[[], C] = lambda: first  # noqa: E731  (a variable)
    stored, written, moment = first, True, time.perf_counter()

    def write() -> None:
        nonlocal stored, written, moment
        checkpoint = latest()
        checkpoint.save(path)
        stored, written, moment = checkpoint, True, time.perf_counter()

    def save(take: Callable[[], C], over: bool) -> None:
        nonlocal latest, written
        latest, written = take, False
        if over or time.perf_counter() - moment > seconds:
            write()

    with in_order(lambda: f"{words(stored)} in {path}; go on with the same command and --resume."):
        if fresh:
            first.save(path)  # a disk that does not take it is better found now
        try:
            yield save
        except KeyboardInterrupt:
            if not written:
                write()
            raise
        finished()


def board(folder: str | None) -> Callable[[int], AbstractContextManager[Write]]:
    """Prepare to write figures for TensorBoard.

    Args:
        folder: value of --tensorboard; None: nothing is written.

    Returns:
        Gives, for the number of epochs that were before, a context with a function to call with an epoch's figures by
        name, and its number.

    Raises:
        click.UsageError: TensorBoard is not installed.
    """
    if folder is None:
        return _no_board
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise click.UsageError("--tensorboard needs the package tensorboard: pip install tensorboard.") from None

    @contextmanager
    def opened(epochs: int) -> Iterator[Write]:
        # What a killed training wrote behind its checkpoint is dropped.
        with SummaryWriter(folder, purge_step=epochs or None) as writer:

            def write(figures: Mapping[str, float], epoch: int) -> None:
                for name, value in figures.items():
                    writer.add_scalar(name, value, epoch)

            yield write

    return opened


@contextmanager
def _no_board(_epochs: int) -> Iterator[Write]:
    yield lambda _figures, _epoch: None
