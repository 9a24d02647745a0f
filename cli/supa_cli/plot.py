"""``supa plot``: draw one shower, or the profiles of many, of one file or several."""

from contextlib import ExitStack
from pathlib import Path

import click

from supa.checks import counted
from supa_cli.interruption import finished, in_order
from supa_cli.options import InputFile, OutputFile
from supa_cli.pictures import check_picture
from supa_cli.printed import echo


@click.command(name="plot")
@click.argument("files", nargs=-1, required=True, type=InputFile())
@click.option("-o", "--output", type=OutputFile(), help="Picture to write (png, pdf, svg, ...).")
@click.option("--shower", type=int, metavar="K", help="Draw the K-th shower of the file, counted from 0.")
@click.option("--profile", is_flag=True, help="Draw profiles and spectra of all showers (default).")
def command(files: tuple[str, ...], output: str | None, shower: int | None, profile: bool) -> None:
    """Draw showers of FILES: one in three dimensions, or profiles and spectra of all with the exact expectation.

    Several files are drawn into one figure.
    """
    from supa.plot import plot_profiles, plot_shower
    from supa_datasets import ShowerFile

    if shower is not None and profile:
        raise click.UsageError("--shower and --profile exclude each other; choose one.")
    if shower is not None and len(files) > 1:
        raise click.UsageError(f"--shower draws a shower of one file, but {len(files)} were given.")
    stem = "-".join(Path(file).stem for file in files)
    name = Path(output or f"{stem}-{'profile' if shower is None else f'shower{shower}'}.png")
    check_picture(name, "--output")
    with ExitStack() as stack:
        opened = [stack.enter_context(ShowerFile(file)) for file in files]
        if shower is None:
            figure = plot_profiles(*(file.chunks() for file in opened), labels=[Path(file).stem for file in files])
        else:
            if not 0 <= shower < len(opened[0]):
                are = "is" if len(opened[0]) == 1 else "are"
                raise click.BadParameter(
                    f"{shower} was given, but the file's {counted(len(opened[0]), 'shower')} {are} numbered from 0.",
                    param_hint="--shower",
                )
            figure = plot_shower(opened[0][shower])
    with in_order():
        figure.savefig(name, dpi=150)
        finished()
    echo(name)
