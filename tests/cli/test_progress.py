"""Progress on a terminal and elsewhere: the start is named, and the rate excludes it."""

import io
import re

import pytest
from rich.console import Console

from supa_cli import progress as module


@pytest.fixture
def clock(monkeypatch):
    """Return a list whose last entry is the time in seconds."""
    times = [0.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: times[-1])
    return times


def test_plain_lines_exclude_the_start_and_the_reused_items(clock, capsys):
    with module.progress("simulating", "compiling", quiet=False) as report:
        report(400, 1000)
        clock.append(30.0)
        report(400, 1000)
        clock.append(36.0)
        report(400, 1000, "2 workers")
        clock.append(42.0)
        report(600, 1000)
        report(1000, 1000)
    assert capsys.readouterr().err.splitlines() == [
        "compiling",
        " 40.0 %  400 of 1,000 showers; 2 workers",
        " 60.0 %  600 of 1,000 showers, 17 showers/s, 24 s left",
        "100.0 %  1,000 of 1,000 showers, 50 showers/s, 0 s left",
    ]


def test_the_bar_shows_a_spinner_until_the_second_call():
    with module.progress_bar(Console(file=io.StringIO(), force_terminal=True), "showers") as bar:
        report = module._Bar(bar, "simulating", "compiling")

        def line() -> str:
            printed = Console(file=io.StringIO(), width=120)
            printed.print(bar.get_renderable())
            return printed.file.getvalue()

        report(0, 1000)
        assert re.match(r"[⠀-⣿] compiling +0%", line())
        report(0, 1000)
        report(500, 1000)
        assert re.match(r"  simulating +50%", line())
        assert "500/1000" in line()


def test_quiet_shows_nothing(capsys):
    with module.progress("simulating", "compiling", quiet=True) as report:
        report(0, 10)
        report(10, 10)
    assert capsys.readouterr() == ("", "")
