"""Formatting of numbers for tables, titles and reports. Numbers that round to zero have no minus sign."""

import math


def format_number(value: float | None, digits: int = 4, *, missing: str = "-") -> str:
    """Format a number with a few significant digits.

    Args:
        value: Number to format; None or NaN if it is missing.
        digits: Number of significant digits.
        missing: Text for a missing number.

    Returns:
        Formatted number.

    Example:
        >>> format_number(0.123456), format_number(-0.0), format_number(None)
        ('0.1235', '0', '-')
    """
    return missing if value is None or math.isnan(value) else f"{value:z.{digits}g}"


def format_with_error(value: float, error: float, *, sign: str = "±", missing: str = "-") -> str:
    """Format a number with its standard error.

    Args:
        value: Number to format.
        error: Standard error; NaN if it is unknown.
        sign: Text between the number and its error.
        missing: Text for a missing number.

    Returns:
        Number and error, or only the number if one of them is not finite.

    Example:
        >>> format_with_error(0.5, 0.0123), format_with_error(0.5, float("nan"))
        ('0.5 ± 0.01', '0.5')
    """
    number = format_number(value, missing=missing)
    return f"{number} {sign} {error:.1g}" if math.isfinite(value) and math.isfinite(error) else number


def format_signed(value: float, decimals: int = 2) -> str:
    """Format a difference with its sign.

    Args:
        value: Difference to format.
        decimals: Number of decimals.

    Returns:
        Formatted difference.

    Example:
        >>> format_signed(1.234), format_signed(-0.001)
        ('+1.23', '+0.00')
    """
    return f"{value:+z.{decimals}f}"


def format_percent(fraction: float, decimals: int = 1) -> str:
    """Format a fraction as a percentage.

    Args:
        fraction: Fraction to format; 1 is 100 %.
        decimals: Number of decimals.

    Returns:
        Formatted percentage.

    Example:
        >>> format_percent(0.1234), format_percent(-1e-9, 2)
        ('12.3 %', '0.00 %')
    """
    return f"{100 * fraction:z.{decimals}f} %"
