"""``supa generate``: simulate showers into a file."""

import time
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from supa.checks import counted
from supa_cli.options import Choice, Count, OutputFile, PresetName, chosen_config
from supa_cli.progress import progress
from supa_cli.signals import deferred_interrupts, interruptible, mark_output_complete, raise_if_interrupted
from supa_cli.terminal_text import echo

if TYPE_CHECKING:
    from supa import ShowerConfig, Showers


@click.command(name="generate")
@click.argument("out", type=OutputFile())
@click.option("-n", "--num-showers", type=Count(1), required=True, help="How many showers to write, such as 1e6.")
@click.option("--energy", metavar="GEV", help="Incident energy: 65, 1:100, log:1:100 or 10,20,50.")
@click.option("--preset", type=PresetName(), help="Named physics; see `supa presets`.  [default: standard]")
@click.option("--config", "config_file", type=click.Path(dir_okay=False), help="Physics from a .toml or .json file.")
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Change one constant; may be repeated.")
@click.option("--seed", type=Count(0), default=0, show_default=True, help="Shower k of a seed is always the same.")
@click.option("--first", type=Count(0), default=0, show_default=True, help="Index of the first shower.")
@click.option(
    "--keep",
    type=Choice(["all", "complete"]),
    default="all",
    show_default=True,
    help="complete: drop showers with an empty readout layer, and go on until N are kept.",
)
@click.option(
    "--record",
    type=Choice(["hits", "particles"]),
    default="hits",
    show_default=True,
    help="particles: write the whole trees, too.",
)
@click.option(
    "--engine",
    type=Choice(["cpu", "cuda", "reference"]),
    default="cpu",
    show_default=True,
    help="reference: the sequential random stream of the public reference code.",
)
@click.option("--threads", type=Count(1), help="Threads that simulate.  [default: all processors]")
@click.option("--compression", type=Choice(["none", "lz4", "zstd", "gzip"]), default="none", show_default=True)
@click.option("--overwrite", is_flag=True, help="Replace the file.")
@click.option("--resume", is_flag=True, help="Go on with an interrupted run, or make a finished file longer.")
@click.option("--quiet", is_flag=True, help="Print errors only.")
def command(
    out: str,
    num_showers: int,
    energy: str | None,
    preset: str | None,
    config_file: str | None,
    changes: tuple[str, ...],
    seed: int,
    first: int,
    keep: Any,
    record: Any,
    engine: Any,
    threads: int | None,
    compression: Any,
    overwrite: bool,
    resume: bool,
    quiet: bool,
) -> None:
    """Simulate showers into the HDF5 file OUT.

    OUT appears only when it is whole. An interrupted run leaves OUT.partial, which the same command takes up again
    with --resume, to the same bytes.
    """
    if overwrite and resume:
        raise click.UsageError("--overwrite and --resume exclude each other; choose one.")
    _check_ending(out, quiet=quiet)
    config = _config(preset, config_file, changes, energy)

    from supa import Run, stream
    from supa.simulation_plan import random_stream
    from supa_cli.summary import Summary
    from supa_datasets import ResumeInfo, ShowerWriter, resumable

    arguments = {"seed": seed, "keep": keep, "record": record, "engine": engine, "threads": threads}
    try:
        stream(num_showers, config, first=first, **arguments)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    run = Run(config=config, seed=seed, first=first, engine=random_stream(engine), keep=keep, attempts=None)
    path, started, has_particles = Path(out), time.perf_counter(), record == "particles"
    stored = resumable(path, run, has_particles=has_particles) if resume else ResumeInfo(0, False)
    if stored.showers > num_showers:
        raise click.UsageError(
            f"{path} already holds {counted(stored.showers, 'shower')}, more than the {num_showers} asked for."
        )
    if stored == ResumeInfo(num_showers, True):
        if not quiet:
            echo(f"{path} holds {counted(num_showers, 'shower')} of this run already.")
        return
    summary = Summary(run)

    def add_existing(showers: "Showers") -> None:
        raise_if_interrupted()
        summary.add(showers)

    def left() -> str:
        partial = Path(f"{path}.partial")
        return f"What was finished is in {partial}; go on with the same command and --resume." * partial.exists()

    with deferred_interrupts(left):
        with ShowerWriter(
            path,
            run,
            has_particles=has_particles,
            compression=compression,
            overwrite=overwrite,
            resume=resume,
            on_existing=add_existing,
        ) as writer:
            resumed = writer.num_showers
            with progress("simulating", "starting (the first run compiles for some seconds)", quiet=quiet) as told:
                told(resumed, num_showers)
                chunks = stream(num_showers - resumed, config, first=writer.next_attempt, **arguments)
                for chunk in interruptible(chunks):
                    writer.append(chunk)
                    summary.add(chunk)
                    told(writer.num_showers, num_showers)
        mark_output_complete()
    if quiet:
        return
    seconds = time.perf_counter() - started
    summary.print(path, made=num_showers - resumed, seconds=seconds)


def _check_ending(out: str, *, quiet: bool) -> None:
    from supa_cli.suffixes import format_of, is_of_another_kind

    name, form, whole = Path(out), format_of(out), Path(out).with_suffix(".h5")
    if form == "supa":
        return
    if form == "reference" or is_of_another_kind(out):
        raise click.UsageError(f"{out}: showers are written as HDF5, not as {name.suffix}; name the file {whole}.")
    if form is not None:
        raise click.UsageError(
            f"{out}: showers are written as HDF5, but {name.suffix} is the ending of the format {form}. Run two "
            f"commands: `supa generate {whole}` with your options, then `supa convert {whole} {out}`."
        )
    if not quiet:
        echo(f"Note: {out} will be an HDF5 file, whose usual ending is .h5.", err=True)


def _config(
    preset: str | None, config_file: str | None, changes: tuple[str, ...], energy: str | None
) -> "ShowerConfig":
    from supa import preset as preset_config

    config = chosen_config(preset, config_file) or preset_config("standard")
    try:
        config = config.replace(**dict(_change(text) for text in changes))
        return config.replace(incident_energy=energy) if energy is not None else config
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _change(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise click.UsageError(f"--set {text!r} was given, but it must be KEY=VALUE, such as --set num_slices=24.")
    try:
        read = tomllib.loads(f"value = {value}")
    except (tomllib.TOMLDecodeError, RecursionError):
        read = {}
    # What is no single value of TOML is a text without its quotes.
    return key.strip(), read["value"] if read.keys() == {"value"} else value.strip()
