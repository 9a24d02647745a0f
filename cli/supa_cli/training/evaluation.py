"""What the commands that evaluate a checkpoint share."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from supa.checks import counted
from supa_cli.tables import print_table

if TYPE_CHECKING:
    from supa_learning.checkpoint import Checkpoint


def checkpoint_facts(path: str, checkpoint: "Checkpoint") -> dict[str, Any]:
    """Return what JSON output says of every checkpoint.

    Args:
        path: the file.
        checkpoint: the checkpoint.

    Returns:
        Plain values by name.
    """
    return {
        "path": path,
        "seed": checkpoint.seed,
        "finished": checkpoint.finished,
        "epochs": checkpoint.epochs,
        "versions": dict(checkpoint.versions),
    }


def checkpoint_summary(checkpoint: "Checkpoint") -> str:
    """Return a phrase on the training of a checkpoint.

    Args:
        checkpoint: the checkpoint.

    Returns:
        Such as "seed 0; finished after 3 epochs".
    """
    state = "finished" if checkpoint.finished else "interrupted"
    return f"seed {checkpoint.seed}; {state} after {counted(checkpoint.epochs, 'epoch')}"


def print_confusion(classes: Sequence[str], matrix: Sequence[Sequence[int]], *, title: str = "") -> None:
    """Print a confusion matrix.

    Args:
        classes: names of the classes.
        matrix: counts by true class (row) and predicted class (column).
        title: what the counts are of, if anything.
    """
    rows = [[name, *(f"{count:,}" for count in counts)] for name, counts in zip(classes, matrix, strict=True)]
    what = "true class in rows, predicted class in columns"
    print_table(["", *classes], rows, title=f"{title}: {what}" if title else what)
