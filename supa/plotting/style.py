"""The style of all figures: colours, markers, and texts that matplotlib shows as they are."""

from typing import TYPE_CHECKING

from supa.checks import counted
from supa.texts import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from supa.showers import Showers

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""The palette of Okabe and Ito, which colour-blind readers can tell apart."""
INK = "#333333"
GRID = "#e6e6e6"
SEQUENTIAL, DIVERGING, FRACTIONS = "viridis", "RdBu_r", "Blues"
"""The colour maps of energies, of signed differences, and of fractions."""
TRUE_COLOUR, GENERATED_COLOUR = "#7f7f7f", COLOURS[1]
LINES = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def hide_frame(axes: "Axes") -> None:
    """Hide the upper and the right border of axes.

    Args:
        axes: the axes.
    """
    axes.spines[["top", "right"]].set_visible(False)


def remark(axes: "Axes", words: str) -> None:
    """Write on empty axes why they are empty.

    Args:
        axes: the axes.
        words: the reason.
    """
    axes.text(0.5, 0.5, words, transform=axes.transAxes, ha="center", va="center", fontsize=9, color=INK)
    axes.tick_params(which="both", left=False, bottom=False, labelleft=False, labelbottom=False)


def literal(text: str) -> str:
    r"""Escape a user's text for matplotlib, which reads what stands between dollars as a formula.

    Args:
        text: the text.

    Returns:
        The text with its dollars and unprintable characters escaped.

    Example:
        >>> literal("$x$")
        '\\$x\\$'
    """
    return printable(text).replace("$", r"\$")


def deduplicate_labels(labels: list[str]) -> list[str]:
    """Return labels that differ from each other, for matplotlib.

    Args:
        labels: the user's labels.

    Returns:
        The same labels as ``literal`` returns them; equal ones are numbered.
    """
    return [literal(f"{label} ({k})" if labels.count(label) > 1 else label) for k, label in enumerate(labels)]


def shower_name(shower: "Showers") -> str:
    """Name one shower for a title.

    Args:
        shower: Showers of length one.

    Returns:
        Its index, and its seed or else its engine.
    """
    run = shower.run
    return f"shower {shower.index[0]}, {f'seed {run.seed}' if run.seed is not None else run.engine}"


def hits_text(number: int) -> str:
    """Write a number of hits for a title.

    Args:
        number: how many hits there are.

    Returns:
        Such as "1 hit", "1,234 hits" or "no hits".
    """
    return counted(number, "hit") if number else "no hits"
