"""Suffixes of output files: a file of one format must not have the suffix of another."""

from pathlib import Path

from supa_datasets.conversion.names import SUFFIXES

_OTHERS = (".csv", ".json", ".npy", ".pickle", ".pkl", ".pt", ".pth", ".txt", ".xml")


def format_of(path: str) -> str | None:
    """Return the format of showers that a file's ending stands for.

    Args:
        path: the file.

    Returns:
        A name of ``SUFFIXES``, the first where several formats share the ending; None if no format has it.
    """
    ending = Path(path).suffix.lower()
    return next((name for name, endings in SUFFIXES.items() if ending in endings), None)


def is_of_another_kind(path: str) -> bool:
    """Return whether a file's ending stands for something that is no shower file at all.

    Args:
        path: the file.

    Returns:
        Whether it does, such as for .txt and .json.
    """
    return Path(path).suffix.lower() in _OTHERS


def fits(path: str, name: str) -> bool:
    """Return whether a file of a format may have its ending.

    Args:
        path: the file.
        name: the format, one of ``SUFFIXES``.

    Returns:
        Whether the ending is one of the format's, or no format has it; a format without endings takes any.
    """
    endings = SUFFIXES[name]
    return not endings or Path(path).suffix.lower() in endings or format_of(path) is None
