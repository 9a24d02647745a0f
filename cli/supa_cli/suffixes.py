"""Suffixes of output files, which must not belong to another format."""

from pathlib import Path

import click

from supa_cli.terminal_text import echo
from supa_datasets.conversion.names import SUFFIXES

_OTHERS = (".ckpt", ".csv", ".json", ".npy", ".pickle", ".pkl", ".pt", ".pth", ".toml", ".txt", ".xml")


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
        True for suffixes such as .ckpt and .json.
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


def check_hdf5_ending(path: str, command: str, *, quiet: bool) -> None:
    """Check that the suffix of a shower file is not that of another format.

    Args:
        path: Path of the file to write.
        command: Command that writes a file named ``{}``, for the message.
        quiet: Whether to print nothing about an unusual suffix.

    Raises:
        click.UsageError: If the suffix belongs to another format.
    """
    name, form, hdf5_name = Path(path), format_of(path), Path(path).with_suffix(".h5")
    if form == "supa":
        return
    if form == "reference" or is_of_another_kind(path):
        raise click.UsageError(f"{path}: showers are written as HDF5, not as {name.suffix}; name the file {hdf5_name}.")
    if form is not None:
        raise click.UsageError(
            f"{path}: showers are written as HDF5, but {name.suffix} is a suffix of the format {form}. Run two "
            f"commands: {command.format(hdf5_name)}, then `supa convert {hdf5_name} {path}`."
        )
    if not quiet:
        echo(f"Note: {path} will be an HDF5 file, whose usual suffix is .h5.", err=True)
