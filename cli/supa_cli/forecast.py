"""A forecast of how long work will take, told once if that is more than an hour."""

import time
from collections.abc import Callable

import click

_HOUR = 3600.0
_SOONEST = 20.0  # seconds until the forecast no longer depends on what only the first steps do
_LATEST = 45.0  # seconds after which even nothing done tells something


def seconds_left(done: float, total: float, seconds: float, *, at_once: int = 1) -> float:
    """Return how long work will still take at the rate that it had so far.

    Args:
        done: how much of the work was done in these seconds.
        total: how much there was to do at their beginning.
        seconds: the seconds.
        at_once: how many things are worked on at the same time.

    Returns:
        Seconds; a lower bound if nothing is done yet: each thing takes at least so long.

    Example:
        >>> seconds_left(1, 100, 60), seconds_left(0, 100, 60, at_once=2)
        (5940.0, 2940.0)
    """
    if done > 0:
        return seconds * (total - done) / done
    return seconds * total / at_once - seconds


def in_words(seconds: float) -> str:
    """Write a long time for people.

    Args:
        seconds: the time.

    Returns:
        Such as "90 minutes", "7 hours" or "3 days".

    Example:
        >>> in_words(5400), in_words(26000), in_words(300_000)
        ('90 minutes', '7 hours', '3 days')
    """
    if seconds < 2 * _HOUR:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / _HOUR:.0f} hours" if seconds < 48 * _HOUR else f"{seconds / 24 / _HOUR:.0f} days"


class Forecast:
    """Tells once, on the error output, that work will take more than an hour.

    Args:
        advice: a sentence on what takes less time.
        at_once: how many things are worked on at the same time.
        quiet: tell nothing.
        clock: gives the time in seconds.
    """

    def __init__(
        self, advice: str, *, at_once: int = 1, quiet: bool = False, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._advice, self._at_once, self._told, self._clock = advice, at_once, quiet, clock
        self._first: tuple[float, float] | None = None

    def __call__(self, done: float, total: float) -> None:
        """Take in how far the work is; the first call starts the clock.

        Args:
            done: how much is done.
            total: how much there is in all.
        """
        if self._told:
            return
        now = self._clock()
        if self._first is None:
            self._first = now, done
        began, before = self._first
        seconds = now - began
        if seconds < (_SOONEST if done > before else _LATEST):
            return
        left = seconds_left(done - before, total - before, seconds, at_once=self._at_once)
        if left > _HOUR:
            self._told = True
            bound = "" if done > before else "more than "
            click.echo(f"This will take {bound or 'about '}{in_words(left)}. {self._advice}", err=True)
