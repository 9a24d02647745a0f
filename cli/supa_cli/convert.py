"""``supa convert``: convert a file of showers to another format."""

import os
from pathlib import Path
from typing import Any

import click

from supa_cli import choices
from supa_cli.options import Choice, CompletedName, InputFile, OutputFile, PresetName, chosen_config
from supa_cli.progress import progress
from supa_cli.signals import deferred_interrupts, mark_output_complete, raise_if_interrupted
from supa_cli.tables import print_table
from supa_cli.terminal_text import echo


def _list(context: click.Context, _parameter: click.Parameter, asked: bool) -> None:
    """Print the formats and exit."""
    if not asked:
        return
    from supa_datasets import FORMATS

    rows = []
    for form in FORMATS.values():
        can = ["yes" if end is not None else "-" for end in (form.reader, form.writer)]
        rows.append([form.name, " ".join(form.extensions) or "-", *can])
    print_table(["name", "suffixes", "read", "write"], rows)
    for form in FORMATS.values():
        click.echo(f"{form.name}: {form.description}")
    context.exit()


@click.command(name="convert")
@click.argument("source", metavar="IN", type=InputFile(folders=True))
@click.argument("target", metavar="OUT", type=OutputFile())
@click.option(
    "--from",
    "from_format",
    type=CompletedName(choices.formats),
    help="Format of IN.  [default: detected from the suffix and the contents]",
)
@click.option(
    "--to", "to_format", type=CompletedName(choices.formats), help="Format of OUT.  [default: detected from the suffix]"
)
@click.option("--preset", type=PresetName(), help="Preset of the showers, if IN does not store their config.")
@click.option(
    "--config",
    "config_file",
    type=click.Path(dir_okay=False),
    help="Config of the showers as a .toml or .json file, instead of --preset.",
)
@click.option(
    "--depth",
    type=Choice(["slice", "layer"]),
    help="Whether the depth in showerdata files, or a layer in CaloChallenge files, is a slice or a readout layer.  "
    "[default: slice for showerdata, detected for CaloChallenge]",
)
@click.option(
    "--binning", "xml", type=click.Path(dir_okay=False), metavar="XML", help="Binning file of a CaloChallenge dataset."
)
@click.option("--particle", metavar="NAME", help="Particle to select from the binning file, by name or pid.")
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
@click.option("--quiet", is_flag=True, help="Print only errors.")
@click.option(
    "--list", is_flag=True, is_eager=True, expose_value=False, callback=_list, help="List the formats and exit."
)
def command(
    source: str,
    target: str,
    from_format: str | None,
    to_format: str | None,
    preset: str | None,
    config_file: str | None,
    depth: Any,
    xml: str | None,
    particle: str | None,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Convert the showers in the file IN to the file OUT.

    OUT appears only when it is complete. To list the formats, run `supa convert --list`.

    Example: supa convert showers.h5 showers.parquet
    """
    from supa.checks import did_you_mean
    from supa_cli.suffixes import fits, format_of
    from supa_datasets import FORMATS, convert, read_binning
    from supa_datasets.conversion.names import SUFFIXES

    for option, name in (("--from", from_format), ("--to", to_format)):
        if name is not None and name not in FORMATS:
            raise click.BadParameter(
                f"{name!r} was given, but the formats are {', '.join(FORMATS)}.{did_you_mean(name, FORMATS)}",
                param_hint=option,
            )
    if to_format is not None and target != source and not fits(target, to_format):
        raise click.UsageError(
            f"{target}: the suffix belongs to the format {format_of(target)}, but --to is {to_format}; use the suffix "
            f"{SUFFIXES[to_format][0]}."
        )
    if particle is not None and xml is None:
        raise click.UsageError("--particle selects from the binning file; also use --binning.")
    config = chosen_config(preset, config_file)
    binning = None if xml is None else read_binning(xml, particle)
    begun = False

    def left() -> str:
        if begun:
            Path(f"{os.path.realpath(target)}.partial").unlink(missing_ok=True)
        return ""

    with deferred_interrupts(left), progress("converting", "converting", quiet=quiet) as report:

        def update(done: int, total: int) -> None:
            nonlocal begun
            begun = True  # from now on, the unfinished file belongs to this command
            raise_if_interrupted()
            report(done, total)

        convert(
            source,
            target,
            from_format=from_format,
            to_format=to_format,
            config=config,
            depth=depth,
            binning=binning,
            overwrite=overwrite,
            progress=update,
            note=None if quiet else lambda sentence: echo(sentence, err=True),
        )
        mark_output_complete()
