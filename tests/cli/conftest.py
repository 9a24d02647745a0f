"""Fixtures for the tests of the command."""

import signal
import sys

import pytest

from supa_cli import main


@pytest.fixture(autouse=True)
def _signals_are_put_back():
    """Restore the signal handlers: an interrupted command ignores signals, and later tests send SIGTERM."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def run_supa(monkeypatch, capsys):
    """Run ``supa`` in this process; return its exit status, standard output and standard error."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["supa", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main.main()
        printed = capsys.readouterr()
        return stop.value.code or 0, printed.out, printed.err

    return run
