"""Formatting of numbers: few digits, no negative zero, a placeholder for missing numbers."""

import pytest

from supa.number_format import format_number, format_percent, format_signed, format_with_error

NAN, INF = float("nan"), float("inf")


def test_numbers_have_few_digits():
    assert [format_number(v) for v in (0.123456, 123456.0, -0.0, 0.0, None, NAN, INF)] == [
        "0.1235", "1.235e+05", "0", "0", "-", "-", "inf"
    ]  # fmt: skip
    assert format_number(0.123456, 2, missing="") == "0.12"
    assert format_number(NAN, missing="") == ""


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [(0.5, 0.0123, "0.5 ± 0.01"), (-0.0, 1.0, "0 ± 1"), (0.5, NAN, "0.5"), (INF, 1.0, "inf"), (0.5, INF, "0.5")],
)
def test_errors_have_one_digit(value, error, text):
    assert format_with_error(value, error) == text


def test_numbers_never_round_to_negative_zero():
    assert [format_signed(v) for v in (1.236, -1.236, -0.001, 0.0)] == ["+1.24", "-1.24", "+0.00", "+0.00"]
    assert [format_percent(v) for v in (0.12345, 1.0, -1e-9)] == ["12.3 %", "100.0 %", "0.0 %"]
    assert format_percent(0.123456, 2) == "12.35 %"
