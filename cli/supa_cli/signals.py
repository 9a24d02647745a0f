"""SIGINT (Ctrl-C), SIGTERM and SIGHUP: how the command ends when it is asked to.

The signal handler never raises an exception. Python drops what is raised inside a finaliser or a weak reference's
callback, of which h5py runs many, and prints it; and what is raised inside an import leaves a module half made. What
the handler does depends on the phase of the command:

- Outside of all sections nothing is half made: the process ends at once, with status 130.
- Inside `deferred_interrupts` the signal is only remembered. The work looks for it between its pieces
  (`raise_if_interrupted`, `interruptible`) and unwinds with KeyboardInterrupt. Where that takes longer than
  ``PATIENCE``, a further signal ends the process at once.
- After `mark_output_complete` a signal changes nothing, and the status is 0.

The entry point imports this module before everything else, so it imports next to nothing itself.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time

TYPE_CHECKING = False  # importing typing takes longer than this whole module
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import FrameType
    from typing import TypeVar

    T = TypeVar("T")

PATIENCE = 1.0
"""Seconds after the first signal in which further ones are taken for the same wish."""

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
INTERRUPTED = 130


class _State:
    """What has been asked, and where the command stands."""

    def __init__(self) -> None:
        self.asked: float | None = None
        self.finished = False
        self.sections: list[Callable[[], str]] = []


_state = _State()


def install() -> None:
    """Handle the signals from now on; a SIGHUP that is ignored (nohup) stays ignored."""
    global _state
    _state = _State()
    for number in SIGNALS:
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _handle)


def ignore() -> None:
    """Ignore the signals from now on: the status is known, and only the interpreter's own end is left.

    At its end the interpreter gives up handlers of Python, and a signal would then kill the process.
    """
    global _state
    _state = _State()
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def mark_output_complete() -> None:
    """Declare the output complete: from now on a signal changes nothing, and the status is 0."""
    _state.finished = True


def interrupt_requested() -> bool:
    """Return whether the command was asked to end and its output is not complete."""
    return _state.asked is not None and not _state.finished


def raise_if_interrupted() -> None:
    """Raise KeyboardInterrupt if the command was asked to end and its output is not complete."""
    if interrupt_requested():
        raise KeyboardInterrupt


def interruptible(pieces: Iterable[T]) -> Iterator[T]:
    """Check for an interruption before each piece of long work, and at its end.

    Args:
        pieces: the pieces.

    Returns:
        An iterator over the same pieces.
    """
    for piece in pieces:
        raise_if_interrupted()
        yield piece
    raise_if_interrupted()


@contextlib.contextmanager
def deferred_interrupts(left: Callable[[], str] = lambda: "") -> Iterator[None]:
    """Let signals wait until the work checks for them, so that nothing is left half made.

    Args:
        left: called if the work is interrupted: cleans up, and returns a sentence on what is left and how to go on.
    """
    _state.sections.append(left)
    try:
        yield
    except KeyboardInterrupt:
        sentence = left()
        if sentence:
            import click

            from supa_cli.terminal_text import safe

            click.echo(f"\n{safe(sentence)}", err=True)
        raise
    finally:
        _state.sections.pop()
    raise_if_interrupted()


def _handle(_number: int, _frame: FrameType | None) -> None:
    now = time.monotonic()
    if _state.asked is None:
        _state.asked = now
    if not (_state.sections or _state.finished) or now - _state.asked > PATIENCE:
        _end_at_once()


def _end_at_once() -> None:
    """End the process without unwinding, where nothing is half made or the work does not come to its next check."""
    lines = []
    for left in reversed(_state.sections):
        with contextlib.suppress(Exception):
            lines.append(left())
    if not _state.finished:
        lines.append("Interrupted.")
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # closed, or the signal came while it was being written to
            stream.flush()
    with contextlib.suppress(Exception):
        show_cursor = "\x1b[?25h" if os.isatty(2) else ""  # a progress bar hides it
        os.write(2, "\n".join([show_cursor, *filter(None, lines), ""]).encode(errors="replace"))
    os._exit(0 if _state.finished else INTERRUPTED)
