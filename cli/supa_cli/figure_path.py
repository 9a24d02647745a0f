"""Paths of figures, checked before the work."""

from pathlib import Path

import click


def check_figure_path(path: Path, option: str, *, overwrite: bool) -> None:
    """Check that a figure can be written.

    Args:
        path: its file.
        option: the option that names it, such as ``"--plot"``.
        overwrite: whether a file of this name is replaced.

    Raises:
        click.BadParameter: its ending is no picture's, or its folder is not there.
        click.ClickException: the file is there, and overwrite was not asked for.
    """
    from matplotlib.backend_bases import FigureCanvasBase

    supported = FigureCanvasBase.get_supported_filetypes()
    if path.suffix.lstrip(".") not in supported:
        raise click.BadParameter(
            f"{path} was given, but a picture must end in one of {', '.join(sorted(supported))}.", param_hint=option
        )
    if not path.absolute().parent.is_dir():
        raise click.BadParameter(
            f"{path} was given, but the folder {path.parent} does not exist; make it first.", param_hint=option
        )
    if path.exists() and not overwrite:
        raise click.ClickException(f"{path} exists; choose another name, or overwrite it (--overwrite).")
