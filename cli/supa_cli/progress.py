"""Progress of long work: a progress bar on a terminal, plain lines elsewhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import click


class Progress(Protocol):
    """A function that shows the progress of a work."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Show the numbers of completed items and of all items, and a note about the work."""


@contextmanager
def progress(doing: str, starting: str, *, quiet: bool, items: str = "showers") -> Iterator[Progress]:
    """Show the number of completed showers, or of other items.

    Args:
        doing: Description of the work, in one word.
        starting: Description until the first item is completed.
        quiet: Whether to show nothing.
        items: Name of the items, in the plural.

    Yields:
        A function to call with the number of completed items and of all items. The first call sets the number of items
        that were completed before. The second call ends the start: the rate does not include the time before it. A
        third argument is a note, such as the number of workers.
    """
    from rich.console import Console

    console = Console(stderr=True)
    if quiet:
        yield lambda done, total, note="": None
    elif console.is_terminal:
        with progress_bar(console, items) as bar:
            yield _Bar(bar, doing, starting)
    else:
        yield _Lines(starting, items)


def progress_bar(console: Any, items: str) -> Any:
    """Return a progress bar with the rate and the remaining time.

    Args:
        console: A ``rich.console.Console``.
        items: Name of the items, in the plural.

    Returns:
        A ``rich.progress.Progress``.
    """
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        SpinnerColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Start(SpinnerColumn):
        def render(self, task: Task) -> Any:
            return Text(" ") if task.started else super().render(task)

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text("" if speed is None else f"{_rate(speed)} {items}/s")

    return Progress(
        Start(),
        TextColumn("{task.description}"),
        TextColumn("[progress.percentage]{task.percentage:>3.0f}%"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(),
        console=console,
    )


def _rate(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"  # slow items, such as jobs of minutes


class _Bar:
    """Updates a progress bar."""

    def __init__(self, bar: Any, doing: str, starting: str) -> None:
        self._bar, self._doing, self._starting = bar, doing, starting
        self._task: Any = None

    def __call__(self, done: int, total: int, note: str = "") -> None:
        if self._task is None:
            self._task = self._bar.add_task(self._starting, total=total, completed=done, start=False)
        else:
            self._bar.start_task(self._task)  # without effect after the first time
            self._bar.update(self._task, completed=done, description=", ".join(filter(None, (self._doing, note))))


class _Lines:
    """Prints a plain line every few seconds."""

    def __init__(self, starting: str, items: str) -> None:
        self._starting, self._items = starting, items
        self._calls = self._before = 0
        self._started = self._printed = time.perf_counter()

    def __call__(self, done: int, total: int, note: str = "") -> None:
        now = time.perf_counter()
        self._calls += 1
        if self._calls <= 2:
            self._before, self._started, self._printed = done, now, now
        if self._calls == 1:
            click.echo(self._starting, err=True)
            return
        if now - self._printed < 5 and done < total:
            return
        self._printed = now
        rate = (done - self._before) / max(now - self._started, 1e-9)
        share = 100 * done / total if total else 100.0
        speed = f", {_rate(rate)} {self._items}/s, {(total - done) / rate:,.0f} s left" if rate else ""
        click.echo(f"{share:5.1f} %  {done:,} of {total:,} {self._items}{speed}{note and f'; {note}'}", err=True)
