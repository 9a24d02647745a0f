"""``supa plot``: draw one shower, the image of a layer, or the profiles of many showers, of one file or several."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from supa.checks import counted
from supa_cli.figure_path import check_figure_path
from supa_cli.options import InputFile, OutputFile
from supa_cli.signals import deferred_interrupts, mark_output_complete
from supa_cli.terminal_text import echo

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from supa_datasets import ShowerFile


@click.command(name="plot")
@click.argument("files", nargs=-1, required=True, type=InputFile())
@click.option("-o", "--output", type=OutputFile(), help="Picture to write (png, pdf, svg, ...).")
@click.option("--shower", type=int, metavar="K", help="Draw the K-th shower of the file, counted from 0.")
@click.option("--image", "layer", type=int, metavar="LAYER", help="Draw the energy in the cells of this readout layer.")
@click.option("--profile", is_flag=True, help="Draw profiles and spectra of all showers (default).")
@click.option("--overwrite", is_flag=True, help="Replace the file.")
def command(
    files: tuple[str, ...],
    output: str | None,
    shower: int | None,
    layer: int | None,
    profile: bool,
    overwrite: bool,
) -> None:
    """Draw showers of FILES: one in three dimensions, or profiles and spectra of all with the exact expectation.

    With --image: the energy in the cells of a layer, of one shower (--shower) or the mean over all. Several files are
    drawn into one figure of profiles.
    """
    from supa.plotting import plot_profiles, plot_shower
    from supa_datasets import ShowerFile

    for option, given in (("--shower", shower), ("--image", layer)):
        if given is not None and profile:
            raise click.UsageError(f"{option} and --profile exclude each other; choose one.")
        if given is not None and len(files) > 1:
            raise click.UsageError(f"{option} draws one file, but {len(files)} were given.")
    stem = "-".join(Path(file).stem for file in files)
    kinds = [f"{kind}{number}" for kind, number in (("shower", shower), ("layer", layer)) if number is not None]
    name = Path(output or f"{stem}-{'-'.join(kinds) or 'profile'}.png")
    check_figure_path(name, "--output", overwrite=overwrite)
    with ExitStack() as stack:
        opened = [stack.enter_context(ShowerFile(file)) for file in files]
        if shower is not None and not 0 <= shower < len(opened[0]):
            are = "is" if len(opened[0]) == 1 else "are"
            raise click.BadParameter(
                f"{shower} was given, but the file's {counted(len(opened[0]), 'shower')} {are} numbered from 0.",
                param_hint="--shower",
            )
        if layer is not None:
            figure = _image(opened[0], layer, shower)
        elif shower is None:
            figure = plot_profiles(*(file.chunks() for file in opened), labels=[Path(file).stem for file in files])
        else:
            figure = plot_shower(opened[0][shower])
    with deferred_interrupts():
        figure.savefig(name, dpi=150)
        mark_output_complete()
    echo(name)


def _image(file: "ShowerFile", layer: int, shower: int | None) -> "Figure":
    """Draw a layer of one shower of a file, or of all; the cells are those that suit the first showers of the file."""
    from supa.plotting import plot_image
    from supa.plotting.image_cells import image_cells

    layers = file.run.config.num_layers
    if not 0 <= layer < layers:
        raise click.BadParameter(
            f"{layer} was given, but the readout layers of these showers are 0 to {layers - 1}.", param_hint="--image"
        )
    if shower is None:
        return plot_image(file.chunks(), layer)
    first = next(file.chunks())
    cells = image_cells(first, layer) if (first.layer == layer).any() else None
    return plot_image(file[shower], layer, cells=cells)
