"""Ctrl-C, and being asked to end: the work ends in order, once, and whenever that comes.

Python drops an exception that a signal raises inside a finaliser or a weak reference's callback, and h5py runs many of
these: so an interruption is also remembered, and long work looks for it between its pieces.
"""

import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import click

T = TypeVar("T")

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_asked = False
_waits = False


@contextmanager
def in_order() -> Iterator[None]:
    """Let the first Ctrl-C (or SIGTERM, SIGHUP) end the work in order, undisturbed by further ones."""
    global _asked
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    if before[signal.SIGHUP] is signal.SIG_IGN:
        del before[signal.SIGHUP]  # started by nohup, to go on when the terminal is closed
    for number in before:
        signal.signal(number, _interrupt_once)
    try:
        yield
    except (KeyboardInterrupt, click.Abort):
        # On its way out Python takes its own handlers away, but leaves this one.
        before = dict.fromkeys(before, signal.SIG_IGN)
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _asked = False


def _interrupt_once(*_: object) -> None:
    global _asked
    if not _asked:
        _asked = True
        if not _waits:
            raise KeyboardInterrupt


@contextmanager
def waiting() -> Iterator[Callable[[], bool]]:
    """Let Ctrl-C wait until the work asks for it, so that no step is torn.

    Returns:
        A context that gives a function which tells whether Ctrl-C was pressed.
    """
    global _waits
    _waits = True
    try:
        yield lambda: _asked
    finally:
        _waits = False


def check() -> None:
    """Raise KeyboardInterrupt if Ctrl-C was pressed."""
    if _asked:
        raise KeyboardInterrupt


def interruptible(pieces: Iterable[T]) -> Iterator[T]:
    """Look for Ctrl-C before each piece of long work.

    Args:
        pieces: the pieces.

    Returns:
        An iterator over the same pieces.
    """
    for piece in pieces:
        check()
        yield piece
    check()
