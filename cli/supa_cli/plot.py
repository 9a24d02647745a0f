"""``supa plot``: draw single showers, the image of a layer, or the profiles of one file or several."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from supa.checks import counted
from supa_cli.figure_path import PAGES, check_figure_path
from supa_cli.options import InputFile, Numbers, OutputFile
from supa_cli.signals import deferred_interrupts, mark_output_complete
from supa_cli.terminal_text import echo

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from supa_datasets import ShowerFile


@click.command(name="plot")
@click.argument("files", nargs=-1, required=True, type=InputFile(folders=True))
@click.option(
    "-o",
    "--output",
    type=OutputFile(),
    help="Figure to write (png, pdf, svg, ...), or interactive page (html, with --shower).  [default: FILE-KIND.png]",
)
@click.option(
    "--shower",
    "shower",
    type=Numbers(),
    metavar="K[,K...]",
    help="Index of the shower to draw, from 0. An .html page can show up to 6 showers side by side.",
)
@click.option(
    "--image",
    "layer",
    type=int,
    metavar="LAYER",
    help="Draw the energy per cell of this readout layer, numbered from 0.",
)
@click.option("--profile", is_flag=True, help="Draw the profiles and spectra of all showers. This is the default.")
@click.option("--overwrite", is_flag=True, help="Replace an existing figure.")
def command(
    files: tuple[str, ...],
    output: str | None,
    shower: tuple[int, ...] | None,
    layer: int | None,
    profile: bool,
    overwrite: bool,
) -> None:
    """Draw the showers of FILES.

    By default, draw the profiles and spectra of all showers together with their exact expectations. If there are
    several files, one figure shows them all.

    With --shower, draw one shower in three dimensions. If the name of the output ends in .html, write an interactive
    page with a slider over depth. This needs plotly (pip install 'supa-showers[display]').

    With --image, draw the energy per cell of one readout layer: the mean over all showers, or one shower (--shower).

    Example: supa plot showers.h5 --shower 3,5 -o showers.html
    """
    from supa_datasets import ShowerFile

    _check_choices(files, output, shower, layer, profile)
    stem = "-".join(Path(file).stem for file in files)
    numbers = "-".join(map(str, shower or ()))
    kinds = [f"{kind}{text}" for kind, text in (("shower", numbers), ("layer", layer)) if text not in ("", None)]
    name = Path(output or f"{stem}-{'-'.join(kinds) or 'profile'}.png")
    is_page = shower is not None and layer is None
    check_figure_path(name, "--output", overwrite=overwrite, pages=is_page)
    with ExitStack() as stack:
        opened = [stack.enter_context(ShowerFile(file)) for file in files]
        if shower is not None:
            _check_indices(shower, len(opened[0]))
        figure = _figure(opened, [Path(file).stem for file in files], name, shower, layer)
    with deferred_interrupts():
        if name.suffix in PAGES:
            from supa.plotting import write_page

            write_page(figure, name)
        else:
            figure.savefig(name, dpi=150)
        mark_output_complete()
    echo(name)


def _check_choices(
    files: tuple[str, ...], output: str | None, shower: tuple[int, ...] | None, layer: int | None, profile: bool
) -> None:
    """Check that the options fit together, before the files are opened."""
    for option, given in (("--shower", shower), ("--image", layer)):
        if given is not None and profile:
            raise click.UsageError(f"{option} and --profile cannot be used together; choose one.")
        if given is not None and len(files) > 1:
            raise click.UsageError(f"{option} draws one file, but {len(files)} were given.")
    page = output is not None and Path(output).suffix in PAGES
    if page and (shower is None or layer is not None):
        raise click.UsageError(
            f"{output}: only single showers have an interactive page; give --shower 0, for example, without --image."
        )
    if shower is None or len(shower) == 1:
        return
    if not page:
        raise click.UsageError(
            f"--shower: {len(shower)} showers were given, but only an interactive page can show several; write one "
            "with -o NAME.html, or give one shower."
        )
    from supa.plotting.interactive import MAX_SHOWERS

    if len(shower) > MAX_SHOWERS:
        raise click.UsageError(f"--shower: {len(shower)} showers were given, but a page shows at most {MAX_SHOWERS}.")


def _check_indices(shower: tuple[int, ...], number: int) -> None:
    for index in shower:
        if not 0 <= index < number:
            allowed = f"the last index is {number - 1}" if number else "none can be drawn"
            raise click.BadParameter(
                f"{index} was given, but the file has {counted(number, 'shower')}; {allowed}.",
                param_hint="--shower",
            )


def _figure(
    files: "list[ShowerFile]", labels: list[str], name: Path, shower: tuple[int, ...] | None, layer: int | None
) -> Any:
    from supa.plotting import plot_interactive, plot_profiles, plot_shower

    if layer is not None:
        return _image(files[0], layer, None if shower is None else shower[0])
    if shower is None:
        return plot_profiles(*(file.chunks() for file in files), labels=labels)
    if name.suffix in PAGES:
        return plot_interactive(files[0][list(shower)])
    return plot_shower(files[0][shower[0]])


def _image(file: "ShowerFile", layer: int, shower: int | None) -> "Figure":
    """Draw a layer of one shower or of all; the cells suit the first showers of the file."""
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
