"""What the tests of the command share."""

import signal

import pytest


@pytest.fixture(autouse=True)
def _signals_are_put_back():
    """An interrupted command ends with its signals ignored; later tests start processes that must hear SIGTERM."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
