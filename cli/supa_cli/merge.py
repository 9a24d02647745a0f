"""``supa merge``: merge a folder of shards into one file."""

from pathlib import Path

import click

from supa.checks import counted
from supa_cli.options import Folder, OutputFile
from supa_cli.progress import progress
from supa_cli.signals import deferred_interrupts, mark_output_complete, raise_if_interrupted
from supa_cli.suffixes import format_of
from supa_cli.terminal_text import echo


@click.command(name="merge")
@click.argument("folder", type=Folder(exists=True))
@click.argument("out", type=OutputFile())
@click.option(
    "--virtual",
    is_flag=True,
    help="Write a small HDF5 virtual file, which refers to the shards instead of containing their showers.",
)
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
@click.option("--resume", is_flag=True, help="Continue an interrupted merge.")
@click.option("--quiet", is_flag=True, help="Print only errors.")
def command(folder: str, out: str, virtual: bool, overwrite: bool, resume: bool, quiet: bool) -> None:
    """Merge the shards in FOLDER, from supa generate --shards, into the HDF5 file OUT.

    OUT has the same bytes as a file of the same showers from supa generate without --shards. The checksum of each shard
    is verified.

    Example: supa merge dataset dataset.h5
    """
    for one, other, given in (
        ("--overwrite", "--resume", overwrite and resume),
        ("--virtual", "--resume", virtual and resume),
    ):
        if given:
            raise click.UsageError(f"{one} and {other} cannot be used together; choose one.")
    if format_of(out) != "supa":
        raise click.UsageError(f"{out}: showers are written as HDF5; name the file {Path(out).with_suffix('.h5')}.")
    from supa_datasets import merge_shards
    from supa_datasets.shards.manifest import Manifest

    def left() -> str:
        partial = Path(f"{out}.partial")
        return f"The merged showers are in {partial}; repeat the command with --resume." * partial.exists()

    with deferred_interrupts(left):
        with progress("merging", "checking", quiet=quiet) as report:

            def show(done: int, total: int) -> None:
                raise_if_interrupted()
                report(done, total)

            merge_shards(folder, out, virtual=virtual, overwrite=overwrite, resume=resume, progress=show)
        mark_output_complete()
    if not quiet:
        manifest = Manifest.of_folder(Path(folder))
        echo(f"{out}: {counted(manifest.num_showers, 'shower')} of {counted(len(manifest.shards), 'shard')}.")
