"""Ctrl-C, and being asked to end: the work ends in order, once, and whenever that comes.

Python drops an exception that a signal raises inside a finaliser or a weak reference's callback, and h5py runs many of
these: so an interruption is also remembered, and long work looks for it between its pieces. And where one passes
through exec() of a text, which makes many a class and function, `python -m` later dies of SIGINT although it was
caught: there none is raised.
"""

import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

import click

T = TypeVar("T")

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_asked = False
_told = False
_waits = False


@contextmanager
def in_order() -> Iterator[None]:
    """Let the first Ctrl-C (or SIGTERM, SIGHUP) end the work in order, undisturbed by further ones."""
    global _asked, _told
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
        _asked = _told = False


def _interrupt_once(_: int, frame: FrameType | None) -> None:
    global _asked, _told
    if _told:
        return
    _asked = True
    if not _in_text(frame):
        _told = True
        if not _waits:
            raise KeyboardInterrupt


def _in_text(frame: FrameType | None) -> bool:
    # The outermost frame is the program, which may be a text, too (python -c).
    while frame is not None and frame.f_back is not None:
        if (frame.f_code.co_filename, frame.f_code.co_name) == ("<string>", "<module>"):
            return True
        frame = frame.f_back
    return False


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
    global _told
    if _asked:
        _told = True
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
