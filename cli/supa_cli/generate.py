"""``supa generate``: simulate showers into a file."""

import time
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from supa.checks import counted
from supa_cli.append_thread import appending
from supa_cli.options import Choice, Count, OutputFile, PresetName, chosen_config
from supa_cli.progress import progress
from supa_cli.signals import deferred_interrupts, interruptible, mark_output_complete, raise_if_interrupted
from supa_cli.terminal_text import echo

if TYPE_CHECKING:
    from supa import ShowerConfig, Showers


@click.command(name="generate")
@click.argument("out", type=OutputFile(folders=True))
@click.option("-n", "--num-showers", type=Count(1), required=True, help="Number of showers to write, such as 1e6.")
@click.option(
    "--energy",
    metavar="GEV",
    help="Incident energy in GeV: fixed (65), uniform (1:100), log-uniform (log:1:100), or one of a list (10,20,50).  "
    "[default: that of the config]",
)
@click.option("--preset", type=PresetName(), help="Preset; `supa presets` lists them.  [default: standard]")
@click.option("--config", "config_file", type=click.Path(dir_okay=False), help="Config as a .toml or .json file.")
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="KEY=VALUE",
    help="Set one constant of the config, such as num_slices=24. Can be repeated.",
)
@click.option(
    "--seed", type=Count(0), default=0, show_default=True, help="Random seed. Config, seed and index define a shower."
)
@click.option("--first", type=Count(0), default=0, show_default=True, help="Index of the first shower.")
@click.option(
    "--keep",
    type=Choice(["all", "complete"]),
    default="all",
    show_default=True,
    help="Which showers to write: all, or only those with a hit in every readout layer (complete).",
)
@click.option(
    "--record",
    type=Choice(["hits", "particles"]),
    default="hits",
    show_default=True,
    help="What to write: only the hits, or also every particle of the trees (particles).",
)
@click.option(
    "--engine",
    type=Choice(["cpu", "cuda", "reference"]),
    default="cpu",
    show_default=True,
    help="Simulation engine: cpu, cuda (the same showers, simulated on an NVIDIA GPU) or reference (the showers of the "
    "public reference code).",
)
@click.option("--threads", type=Count(1), help="Number of threads.  [default: number of processors]")
@click.option(
    "--compression",
    type=Choice(["none", "lz4", "zstd", "gzip"]),
    default="none",
    show_default=True,
    help="Compression of the file; lz4 and zstd need the package hdf5plugin.",
)
@click.option("--shards", type=Count(1), help="Write a folder of this number of files, in several processes.")
@click.option(
    "--scheduler",
    metavar="local|ADDRESS|FILE",
    help="With --shards: local processes, or a dask scheduler by its address (tcp://host:8786) or scheduler file.  "
    "[default: local]",
)
@click.option(
    "--workers", type=Count(1), help="With --shards: number of local processes.  [default: number of processors]"
)
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
@click.option("--resume", is_flag=True, help="Resume an interrupted run, or append showers to a finished file.")
@click.option("--quiet", is_flag=True, help="Print only errors.")
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
    shards: int | None,
    scheduler: str | None,
    workers: int | None,
    overwrite: bool,
    resume: bool,
    quiet: bool,
) -> None:
    """Simulate showers into the HDF5 file OUT.

    OUT appears only when it is complete. An interrupted run leaves OUT.partial. To complete it, repeat the command
    with --resume. The result is identical to that of an uninterrupted run.

    With --shards, OUT is a folder of files, which processes on this or on many machines write. To continue an
    interrupted run, repeat the same command. All commands accept the folder instead of a file.

    Example: supa generate showers.h5 -n 1e5 --energy log:1:100
    """
    if shards is not None:
        from supa_cli.generate_shards import check_options, generate

        check_options(out, keep=keep, threads=threads, overwrite=overwrite, resume=resume)
        generate(
            Path(out),
            num_showers,
            _config(preset, config_file, changes, energy),
            shards=shards,
            seed=seed,
            first=first,
            record=record,
            engine=engine,
            compression=compression,
            scheduler=scheduler or "local",
            workers=workers,
            quiet=quiet,
        )
        return
    for option, value in (("--scheduler", scheduler), ("--workers", workers)):
        if value is not None:
            raise click.UsageError(f"{option} needs --shards, the number of files to write.")
    if Path(out).is_dir():
        raise click.UsageError(f"{out} is a folder; name a file, or write a folder of files with --shards.")
    if overwrite and resume:
        raise click.UsageError("--overwrite and --resume cannot be used together; choose one.")
    _check_ending(out, quiet=quiet)
    config = _config(preset, config_file, changes, energy)

    from supa import Run, simulate, stream
    from supa.simulation import map_stream
    from supa.simulation_plan import random_stream
    from supa_cli.summary import ChunkSums, Summary, chunk_sums
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
            f"{path} already contains {counted(stored.showers, 'shower')}, more than the {num_showers:,} requested."
        )
    if stored == ResumeInfo(num_showers, True):
        if not quiet:
            echo(f"{path} already contains {counted(num_showers, 'shower')} of this run.")
        return
    summary = Summary(run)

    def add_existing(showers: "Showers") -> None:
        raise_if_interrupted()
        summary.add(chunk_sums(showers))

    def prepare(showers: "Showers") -> "tuple[Showers, ChunkSums]":
        """Sum in the threads that simulate. Types are converted where the showers are copied into the writer."""
        return showers, chunk_sums(showers)

    def left() -> str:
        partial = Path(f"{path}.partial")
        return f"The finished showers are in {partial}; resume with the same command and --resume." * partial.exists()

    with deferred_interrupts(left):
        with ShowerWriter(
            path,
            run,
            has_particles=has_particles,
            compression=compression,
            threads=threads,
            overwrite=overwrite,
            resume=resume,
            on_existing=add_existing,
        ) as writer:
            done = resumed = writer.num_showers
            with progress("simulating", "compiling" if _must_compile(engine) else "starting", quiet=quiet) as report:
                report(resumed, num_showers)
                chunk_sums(simulate(0, config, record=record, engine=engine))  # compiles everything
                start = time.perf_counter() - started
                report(resumed, num_showers)
                results = map_stream(prepare, num_showers - resumed, config, first=writer.next_attempt, **arguments)
                with appending(writer) as append:
                    for showers, sums in interruptible(results):
                        append(showers)
                        summary.add(sums)
                        done += len(showers)
                        report(done, num_showers)
                        del showers, sums  # their memory can be used again
        mark_output_complete()
    if quiet:
        return
    seconds = time.perf_counter() - started
    summary.print(path, simulated=num_showers - resumed, seconds=seconds, start=start)


def _must_compile(engine: str) -> bool:
    """Return whether the start will take a few seconds because the CPU engine is compiled."""
    from supa.compiler import has_machine_code

    return engine == "cpu" and not has_machine_code("supa.engines.cpu")


def _check_ending(out: str, *, quiet: bool) -> None:
    from supa_cli.suffixes import format_of, is_of_another_kind

    name, form, hdf5_name = Path(out), format_of(out), Path(out).with_suffix(".h5")
    if form == "supa":
        return
    if form == "reference" or is_of_another_kind(out):
        raise click.UsageError(f"{out}: showers are written as HDF5, not as {name.suffix}; name the file {hdf5_name}.")
    if form is not None:
        raise click.UsageError(
            f"{out}: showers are written as HDF5, but {name.suffix} is a suffix of the format {form}. Run two "
            f"commands: `supa generate {hdf5_name}` with your options, then `supa convert {hdf5_name} {out}`."
        )
    if not quiet:
        echo(f"Note: {out} will be an HDF5 file, whose usual suffix is .h5.", err=True)


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
    # Text that is not a TOML value is a string without quotes.
    return key.strip(), read["value"] if read.keys() == {"value"} else value.strip()
