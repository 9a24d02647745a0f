"""Paths of figures, checked before the work."""

from pathlib import Path

import click

PAGES = (".html", ".htm")
"""The suffixes of interactive pages."""


def check_figure_path(path: Path, option: str, *, overwrite: bool, pages: bool = False) -> None:
    """Check that a figure can be written.

    Args:
        path: Path of the figure.
        option: Option that names the figure, such as ``"--plot"``.
        overwrite: Whether to replace an existing file.
        pages: Whether interactive pages are allowed.

    Raises:
        click.BadParameter: If the suffix is not that of a figure, or if the folder does not exist.
        click.ClickException: If the file exists and ``overwrite`` is False.
    """
    from matplotlib.backend_bases import FigureCanvasBase

    supported = [*FigureCanvasBase.get_supported_filetypes(), *(page.lstrip(".") for page in PAGES if pages)]
    if path.suffix.lstrip(".") not in supported:
        raise click.BadParameter(
            f"{path} was given, but the name of a figure must end in one of {', '.join(sorted(supported))}.",
            param_hint=option,
        )
    if not path.absolute().parent.is_dir():
        raise click.BadParameter(
            f"{path} was given, but the folder {path.parent} does not exist; make it first.", param_hint=option
        )
    if path.exists() and not overwrite:
        raise click.ClickException(f"{path} exists; choose another name, or overwrite it (--overwrite).")
