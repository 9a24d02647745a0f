"""Estimate of the remaining time, printed once if it exceeds an hour."""

import time
from collections.abc import Callable

import click

_HOUR = 3600.0
_SOONEST = 20.0  # seconds, after which the slow first steps no longer dominate the estimate
_LATEST = 45.0  # seconds, after which unfinished work yields a lower bound


def seconds_left(done: float, total: float, seconds: float, *, at_once: int = 1) -> float:
    """Estimate the remaining time from the average rate.

    Args:
        done: Number of items that were completed.
        total: Number of items at the start.
        seconds: Elapsed time in seconds.
        at_once: Number of items that are processed in parallel.

    Returns:
        Remaining seconds; a lower bound if no item is completed.

    Example:
        >>> seconds_left(1, 100, 60), seconds_left(0, 100, 60, at_once=2)
        (5940.0, 2940.0)
    """
    if done > 0:
        return seconds * (total - done) / done
    return seconds * total / at_once - seconds


def in_words(seconds: float) -> str:
    """Format a long time.

    Args:
        seconds: Time in seconds.

    Returns:
        A text such as "90 minutes", "7 hours" or "3 days".

    Example:
        >>> in_words(5400), in_words(26000), in_words(300_000)
        ('90 minutes', '7 hours', '3 days')
    """
    if seconds < 2 * _HOUR:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / _HOUR:.0f} hours" if seconds < 48 * _HOUR else f"{seconds / 24 / _HOUR:.0f} days"


class Forecast:
    """Warns once on standard error if the remaining time exceeds an hour.

    Args:
        advice: Sentence on how to save time.
        at_once: Number of items that are processed in parallel.
        quiet: Whether to print nothing.
        clock: Function that returns the time in seconds.
    """

    def __init__(
        self, advice: str, *, at_once: int = 1, quiet: bool = False, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._advice, self._at_once, self._silent, self._clock = advice, at_once, quiet, clock
        self._first: tuple[float, float] | None = None

    def __call__(self, done: float, total: float) -> None:
        """Update the estimate. The first call starts the clock.

        Args:
            done: Number of completed items.
            total: Number of all items.
        """
        if self._silent:
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
            self._silent = True
            bound = "" if done > before else "more than "
            click.echo(f"This will take {bound or 'about '}{in_words(left)}. {self._advice}", err=True)
