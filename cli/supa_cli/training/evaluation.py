"""Output that all commands for the evaluation of checkpoints share."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from supa.checks import counted
from supa_cli.tables import print_table

if TYPE_CHECKING:
    from supa_learning.checkpoint import Checkpoint


def checkpoint_facts(path: str, checkpoint: "Checkpoint") -> dict[str, Any]:
    """Return the part of the JSON output that all checkpoints share.

    Args:
        path: Path of the checkpoint.
        checkpoint: The checkpoint.

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
    """Summarise the training of a checkpoint.

    Args:
        checkpoint: The checkpoint.

    Returns:
        A phrase such as "seed 0; finished after 3 epochs".
    """
    state = "finished" if checkpoint.finished else "interrupted"
    return f"seed {checkpoint.seed}; {state} after {counted(checkpoint.epochs, 'epoch')}"


def print_confusion(classes: Sequence[str], matrix: Sequence[Sequence[int]], *, title: str = "") -> None:
    """Print a confusion matrix.

    Args:
        classes: Names of the classes.
        matrix: Counts by true class (row) and predicted class (column).
        title: Title of the table, if any.
    """
    rows = [[name, *(f"{count:,}" for count in counts)] for name, counts in zip(classes, matrix, strict=True)]
    what = "true class in rows, predicted class in columns"
    print_table(["", *classes], rows, title=f"{title}: {what}" if title else what)
