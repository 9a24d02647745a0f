"""The style of all figures: colours, markers, axes, and texts that matplotlib shows unchanged."""

import math
from typing import TYPE_CHECKING, Any

from supa.checks import counted
from supa.plotting.encoding import COLOURS as COLOURS
from supa.texts import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from supa.showers import Showers

INK = "#333333"
GRID = "#e6e6e6"
SEQUENTIAL, DIVERGING, FRACTIONS = "viridis", "RdBu_r", "Blues"
"""The colour maps of energies, of signed differences, and of fractions."""
TRUE_COLOUR, GENERATED_COLOUR = "#7f7f7f", COLOURS[1]
LINES = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def hide_frame(axes: "Axes") -> None:
    """Hide the top and right borders of axes.

    Args:
        axes: The axes.
    """
    axes.spines[["top", "right"]].set_visible(False)


def use_log_scale(axes: "Axes", which: str) -> None:
    """Make an axis logarithmic, with readable tick labels.

    Args:
        axes: The axes.
        which: ``"x"`` or ``"y"``.
    """
    axes.set(**{f"{which}scale": "log"})
    label_log_axis(axes.xaxis if which == "x" else axes.yaxis)


def label_log_axis(axis: Any) -> None:
    """Label a logarithmic axis with plain numbers near 1, such as 0.1 and 20, and with powers of ten elsewhere.

    Matplotlib's own labels of minor ticks, such as 3x10^1, are hard to read.

    Args:
        axis: The axis, whose limits are set.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    decades = math.log10(high / low) if 0 < low < high else 3
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 1.5 else (1,), numticks=8))
    axis.set_major_formatter(FuncFormatter(lambda value, _: log_tick(value)))
    axis.set_minor_formatter(NullFormatter())


def log_tick(value: float) -> str:
    r"""Format the label of a tick of a logarithmic axis.

    Args:
        value: The tick, above 0.

    Returns:
        A plain number from 0.01 to 1000, else a power of ten.

    Example:
        >>> log_tick(0.2), log_tick(1e-6), log_tick(2e-6)
        ('0.2', '$10^{-6}$', '$2\\cdot10^{-6}$')
    """
    if not value > 0:
        return ""
    if 0.0099 < value < 1001:
        return f"{value:g}"
    power = math.floor(math.log10(value) + 1e-9)
    factor = f"{value / 10**power:g}"
    return f"$10^{{{power}}}$" if factor == "1" else rf"${factor}\cdot10^{{{power}}}$"


def remark(axes: "Axes", words: str) -> None:
    """Write on empty axes why they are empty.

    Args:
        axes: The axes.
        words: The reason.
    """
    axes.text(0.5, 0.5, words, transform=axes.transAxes, ha="center", va="center", fontsize=9, color=INK)
    axes.tick_params(which="both", left=False, bottom=False, labelleft=False, labelbottom=False)


def literal(text: str) -> str:
    r"""Escape a text from a user for matplotlib, which typesets text between dollar signs as a formula.

    Args:
        text: The text.

    Returns:
        The text with escaped dollar signs and unprintable characters.

    Example:
        >>> literal("$x$")
        '\\$x\\$'
    """
    return printable(text).replace("$", r"\$")


def deduplicate_labels(labels: list[str]) -> list[str]:
    """Return distinct labels, escaped for matplotlib.

    Args:
        labels: Labels from the user.

    Returns:
        The labels, escaped by ``literal``; equal labels are numbered.
    """
    return [literal(f"{label} ({k})" if labels.count(label) > 1 else label) for k, label in enumerate(labels)]


def shower_name(shower: "Showers") -> str:
    """Return the name of a shower for a title.

    Args:
        shower: Showers of length one.

    Returns:
        The index of the shower, and its seed or, without a seed, its engine.
    """
    run = shower.run
    return f"shower {shower.index[0]}, {f'seed {run.seed}' if run.seed is not None else run.engine}"


def hits_text(number: int) -> str:
    """Format a number of hits for a title.

    Args:
        number: Number of hits.

    Returns:
        A text such as "1 hit", "1,234 hits" or "no hits".
    """
    return counted(number, "hit") if number else "no hits"
