"""Work of more than an hour is announced once."""

import pytest

from supa_cli.forecast import Forecast, in_words, seconds_left


@pytest.mark.parametrize(
    ("done", "total", "seconds", "at_once", "left"),
    [(1, 100, 60, 1, 5940), (50, 100, 60, 1, 60), (100, 100, 60, 1, 0), (0, 100, 60, 1, 5940), (0, 100, 60, 2, 2940)],
)
def test_the_remaining_time_follows_from_the_average_rate(done, total, seconds, at_once, left):
    assert seconds_left(done, total, seconds, at_once=at_once) == left


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(3700, "62 minutes"), (7200, "2 hours"), (26_000, "7 hours"), (172_800, "2 days"), (3e6, "35 days")],
)
def test_long_times_have_readable_units(seconds, words):
    assert in_words(seconds) == words


def _announced(steps, capsys, **options):
    """Return the announcements for steps (seconds, done) of 1,000 items."""
    now = [0.0]
    forecast = Forecast("Do less.", clock=lambda: now[0], **options)
    for seconds, done in steps:
        now[0] = seconds
        forecast(done, 1000)
    return capsys.readouterr().err


def test_long_work_is_announced_once_within_its_first_minute(capsys):
    steps = [(second, second / 10) for second in range(60)]
    assert _announced(steps, capsys) == "This will take about 3 hours. Do less.\n"
    assert _announced(steps, capsys, quiet=True) == ""
    assert _announced([(second, 10 * second) for second in range(60)], capsys) == ""


def test_earlier_work_does_not_count_for_the_rate(capsys):
    assert _announced([(0, 900), (30, 901), (40, 902)], capsys) == ""
    assert _announced([(0, 500), (30, 501)], capsys) == "This will take about 4 hours. Do less.\n"


def test_unfinished_work_yields_a_lower_bound(capsys):
    steps = [(second, 0) for second in range(60)]
    assert _announced(steps, capsys, at_once=4) == "This will take more than 3 hours. Do less.\n"


def test_nothing_is_printed_in_the_first_seconds(capsys):
    assert _announced([(0, 0), (19, 1)], capsys) == ""
