"""Handlers for SIGINT (Ctrl-C), SIGTERM and SIGHUP.

The signal handler never raises an exception. Python discards exceptions inside finalisers and callbacks of weak
references, of which h5py runs many. An exception inside an import would leave a module partly initialised. The action
of the handler depends on the phase of the command:

- Outside of all sections, no output is incomplete. The process exits immediately with status 130.
- Inside `deferred_interrupts`, the handler only records the signal. The work checks for it between its pieces
  (`raise_if_interrupted`, `interruptible`) and raises KeyboardInterrupt. After ``PATIENCE`` seconds, another signal
  ends the process immediately.
- After `mark_output_complete`, signals have no effect, and the exit status is 0.

The entry point imports this module first, so it imports as little as possible.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time

TYPE_CHECKING = False  # importing typing would take longer than importing this module
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import FrameType
    from typing import TypeVar

    T = TypeVar("T")

PATIENCE = 1.0
"""Seconds after the first signal during which further signals are ignored."""

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
INTERRUPTED = 130


class _State:
    """The time of the first signal, and the phase of the command."""

    def __init__(self) -> None:
        self.asked: float | None = None
        self.finished = False
        self.sections: list[Callable[[], str]] = []


_state = _State()


def install() -> None:
    """Install the signal handlers. An ignored SIGHUP (nohup) stays ignored."""
    global _state
    _state = _State()
    for number in SIGNALS:
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _handle)


def ignore() -> None:
    """Ignore the signals once the exit status is known.

    The interpreter removes Python's signal handlers at exit, so a signal would then kill the process.
    """
    global _state
    _state = _State()
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def mark_output_complete() -> None:
    """Mark the output as complete. From now on, signals have no effect, and the exit status is 0."""
    _state.finished = True


def interrupt_requested() -> bool:
    """Return whether a signal arrived before the output was complete."""
    return _state.asked is not None and not _state.finished


def raise_if_interrupted() -> None:
    """Raise KeyboardInterrupt if a signal arrived before the output was complete."""
    if interrupt_requested():
        raise KeyboardInterrupt


def interruptible(pieces: Iterable[T]) -> Iterator[T]:
    """Check for an interruption before each piece of work and after the last one.

    Args:
        pieces: Pieces of the work.

    Returns:
        An iterator over the same pieces.
    """
    for piece in pieces:
        raise_if_interrupted()
        yield piece
    raise_if_interrupted()


@contextlib.contextmanager
def deferred_interrupts(left: Callable[[], str] = lambda: "") -> Iterator[None]:
    """Defer signals until the work checks for them, so that no output is left incomplete.

    Args:
        left: Function that is called after an interruption. It cleans up, and returns a sentence about the remaining
            files and how to resume.
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
    """End the process without unwinding: no output is incomplete, or the work does not reach its next check."""
    lines = []
    for left in reversed(_state.sections):
        with contextlib.suppress(Exception):
            lines.append(left())
    if not _state.finished:
        lines.append("Interrupted.")
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # closed, or interrupted during a write
            stream.flush()
    with contextlib.suppress(Exception):
        show_cursor = "\x1b[?25h" if os.isatty(2) else ""  # a progress bar hides it
        os.write(2, "\n".join([show_cursor, *filter(None, lines), ""]).encode(errors="replace"))
    os._exit(0 if _state.finished else INTERRUPTED)
