"""Fixtures for the tests of the command."""

import signal

import pytest


@pytest.fixture(autouse=True)
def _signals_are_put_back():
    """Restore the signal handlers: an interrupted command ignores signals, and later tests send SIGTERM."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
