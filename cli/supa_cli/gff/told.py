"""How far a training has come: a table of its layers on a terminal, plain lines elsewhere."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from supa_gff.training import Epoch

_COLUMNS = ("", "epoch", "loss", "score of truth", "of wrong", "accuracy", "validation")
_SECONDS_BETWEEN_LINES = 5.0


@contextmanager
def epochs_told(*, quiet: bool) -> Iterator[Callable[["Epoch"], None]]:
    """Show what each layer's epochs give.

    Args:
        quiet: show nothing.

    Returns:
        A context that gives a function to call with each finished epoch.
    """
    from rich.console import Console

    console = Console(stderr=True)
    if quiet:
        yield lambda _epoch: None
    elif console.is_terminal:
        from rich.live import Live

        with Live(console=console, refresh_per_second=4) as live:
            yield _Table(live)
    else:
        lines = _Lines()
        yield lines
        lines.tell_last()


def _rows(epoch: "Epoch") -> dict[str, tuple[str, ...]]:
    """Write what each layer saw, by layer; last what all together give on validation."""
    rows: dict[str, tuple[str, ...]] = {}
    for layer, loss, true, wrong, accuracy in epoch.steps:
        name = f"layer {layer}"
        valid = epoch.valid if epoch.layer == layer else math.nan
        if layer < len(epoch.layer_valid):
            valid = epoch.layer_valid[layer]
        if epoch.layer < 0 and len(epoch.steps) == 1:  # one loss for all layers
            name, valid = "all layers", epoch.valid
        rows[name] = (
            str(epoch.epoch),
            f"{loss:z.4f}",
            f"{true:z.3f}",
            f"{wrong:z.3f}",
            _share(accuracy),
            _share(valid),
        )
    if epoch.layer < 0 and "all layers" not in rows:
        rows["voted"] = (str(epoch.epoch), "", "", "", "", _share(epoch.valid))
    return rows


def _share(value: float) -> str:
    return "" if math.isnan(value) else f"{100 * value:.1f} %"


class _Table:
    """Keeps a table up to date."""

    def __init__(self, live: Any) -> None:
        self._live = live
        self._rows: dict[str, tuple[str, ...]] = {}

    def __call__(self, epoch: "Epoch") -> None:
        from rich.table import Table

        for name, row in _rows(epoch).items():
            before = self._rows.get(name)
            # An epoch that was not validated leaves the validation before it.
            self._rows[name] = row if row[-1] or before is None else (*row[:-1], before[-1])
        table = Table(box=None)
        for column in _COLUMNS:
            table.add_column(column, justify="right")
        for name, row in self._rows.items():
            table.add_row(name, *row)
        self._live.update(table)


class _Lines:
    """Prints plain lines now and then, and for the last epoch of each layer."""

    def __init__(self) -> None:
        self._told = -math.inf
        self._last: Epoch | None = None

    def __call__(self, epoch: "Epoch") -> None:
        if self._last is not None and self._last.layer != epoch.layer:
            self.tell_last()
        self._last = epoch
        if time.perf_counter() - self._told > _SECONDS_BETWEEN_LINES:
            self.tell_last()

    def tell_last(self) -> None:
        """Print the last epoch, unless it has been printed."""
        if self._last is None:
            return
        for name, row in _rows(self._last).items():
            told = zip(_COLUMNS[1:], row, strict=True)
            click.echo("  ".join([name, *(f"{column} {value}" for column, value in told if value)]), err=True)
        self._last, self._told = None, time.perf_counter()
