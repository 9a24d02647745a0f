"""Progress of a training run: a table of metrics and a progress bar on a terminal, plain lines elsewhere."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from supa.number_format import format_percent
from supa_cli.forecast import Forecast
from supa_cli.progress import progress, progress_bar

if TYPE_CHECKING:
    from supa_learning.trainer import Callback, Trainer
    from supa_learning.training_state import Epoch

_SECONDS_BETWEEN_LINES = 5.0
_FRACTIONS = ("accuracy", "auc", "f1")
"""Prefixes of the names of metrics that are shown in percent."""


@contextmanager
def training_progress(*, items: str, advice: str, quiet: bool) -> Iterator["Callback"]:
    """Show the progress of a training run.

    Args:
        items: Name of the items of a batch, in the plural.
        advice: Sentence on how to save time, printed if training takes more than an hour.
        quiet: Whether to show nothing.

    Yields:
        The callback to add to the trainer.
    """
    from rich.console import Console

    from supa_learning.trainer import Callback

    if quiet:
        yield Callback()
        return
    console, forecast = Console(stderr=True), Forecast(advice)

    class Progress(Callback):
        """Passes the position and the metrics of the training to the display."""

        _shown = -1

        def on_start(self, trainer: "Trainer[Any]") -> None:
            self.on_step(trainer)

        def on_step(self, trainer: "Trainer[Any]") -> None:
            state, task = trainer.state, trainer.task
            done = len(state.history) * task.units + state.step * task.units // task.steps_per_epoch
            if done > self._shown:  # a validation has no steps
                total = task.stages * task.epochs * task.units
                show(done, total)
                forecast(done, total)
                self._shown = done

        def on_epoch(self, _trainer: "Trainer[Any]", epoch: "Epoch") -> None:
            report(epoch)

    if console.is_terminal:
        with _terminal_table(console, items) as (show, report):
            yield Progress()
        return
    with progress("training", "starting", quiet=False, items=items) as show:
        report = lines = _Lines()
        yield Progress()
        lines.print_last()


def rows_of(epoch: "Epoch") -> dict[str, dict[str, str]]:
    """Format the metrics of an epoch.

    Args:
        epoch: The epoch.

    Returns:
        For each part of the model, texts by the name of the metric. Names of validation metrics begin with
        "validation".
    """
    rows: dict[str, dict[str, str]] = {}
    for kind, figures in (("", epoch.train), ("validation ", epoch.valid)):
        for part, numbers in figures.items():
            row = rows.setdefault(part, {"epoch": str(epoch.epoch)})
            for name, value in numbers.items():
                if not math.isnan(value):
                    row[f"{kind}{name.replace('_', ' ')}"] = format_figure(name, value)
    return rows


def format_figure(name: str, value: float) -> str:
    """Format a metric of a training run.

    Args:
        name: Name of the metric, which determines whether it is shown in percent.
        value: Value of the metric.

    Returns:
        The text.

    Example:
        >>> format_figure("accuracy", 0.5), format_figure("loss", -1e-9)
        ('50.0 %', '0.0000')
    """
    return format_percent(value) if name.startswith(_FRACTIONS) else f"{value:z.4f}"


@contextmanager
def _terminal_table(console: Any, items: str) -> Iterator[tuple[Callable[[int, int], None], Callable[["Epoch"], None]]]:
    """Show a table with the latest metrics of each part above a progress bar."""
    from rich.console import Group
    from rich.live import Live
    from rich.table import Table

    bar = progress_bar(console, items)
    task = bar.add_task("training", total=None)
    latest: dict[str, dict[str, str]] = {}
    with Live(bar, console=console, refresh_per_second=4) as live:

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        def report(epoch: "Epoch") -> None:
            for part, row in rows_of(epoch).items():
                # The metrics of a validation stay until the next one.
                latest[part] = {**latest.get(part, {}), **row}
            names = list(dict.fromkeys(name for row in latest.values() for name in row))
            table = Table("", *names, box=None)
            for part, row in latest.items():
                table.add_row(part, *(row.get(name, "") for name in names))
            live.update(Group(table, bar))

        yield show, report


class _Lines:
    """Prints the metrics of an epoch every few seconds, and those of the last epoch of each stage."""

    def __init__(self) -> None:
        self._printed = -math.inf
        self._last: Epoch | None = None

    def __call__(self, epoch: "Epoch") -> None:
        if self._last is not None and self._last.stage != epoch.stage:
            self.print_last()
        self._last = epoch
        if time.perf_counter() - self._printed > _SECONDS_BETWEEN_LINES:
            self.print_last()

    def print_last(self) -> None:
        """Print the last epoch if it has not been printed."""
        if self._last is None:
            return
        for part, row in rows_of(self._last).items():
            click.echo("  ".join([part, *(f"{name} {text}" for name, text in row.items())]), err=True)
        self._last, self._printed = None, time.perf_counter()
