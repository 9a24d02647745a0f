"""Suffixes of output files, which must not belong to another format."""

from pathlib import Path

from supa_datasets.conversion.names import SUFFIXES

_OTHERS = (".csv", ".json", ".npy", ".pickle", ".pkl", ".pt", ".pth", ".txt", ".xml")


def format_of(path: str) -> str | None:
    """Return the shower format of a suffix.

    Args:
        path: Path of the file.

    Returns:
        A name of ``SUFFIXES``, the first if several formats share the suffix; None if no format has it.
    """
    ending = Path(path).suffix.lower()
    return next((name for name, endings in SUFFIXES.items() if ending in endings), None)


def is_of_another_kind(path: str) -> bool:
    """Return whether a suffix belongs to files that never contain showers.

    Args:
        path: Path of the file.

    Returns:
        True for suffixes such as .txt and .json.
    """
    return Path(path).suffix.lower() in _OTHERS


def fits(path: str, name: str) -> bool:
    """Return whether a suffix is allowed for a format.

    Args:
        path: Path of the file.
        name: Name of the format, one of ``SUFFIXES``.

    Returns:
        True if the suffix belongs to the format or to no format, or if the format has no suffixes.
    """
    endings = SUFFIXES[name]
    return not endings or Path(path).suffix.lower() in endings or format_of(path) is None
