"""``supa generate``: simulate showers into a file."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from supa_cli.file_run import (
    FileRun,
    check_existing_file_options,
    compression_option,
    existing_file_options,
    first_option,
    threads_option,
)
from supa_cli.options import Choice, Count, OutputFile, PresetName, changed_config, chosen_config

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
@first_option
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
@threads_option
@compression_option
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
@existing_file_options
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
    check_existing_file_options(overwrite=overwrite, resume=resume)
    from supa_cli.suffixes import check_hdf5_ending

    check_hdf5_ending(out, "`supa generate {}` with your options", quiet=quiet)
    config = _config(preset, config_file, changes, energy)

    from supa import Run, simulate, stream
    from supa.simulation import map_stream
    from supa.simulation_plan import random_stream
    from supa_cli.summary import ChunkSums, chunk_sums

    arguments = {"seed": seed, "keep": keep, "record": record, "engine": engine, "threads": threads}
    try:
        stream(num_showers, config, first=first, **arguments)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    started = time.perf_counter()
    run = Run(config=config, seed=seed, first=first, engine=random_stream(engine), keep=keep, attempts=None)

    def with_sums(showers: "Showers") -> "tuple[Showers, ChunkSums]":
        """Sum in the threads that simulate. Types are converted where the showers are copied into the writer."""
        return showers, chunk_sums(showers)

    FileRun(
        path=Path(out),
        run=run,
        num_showers=num_showers,
        has_particles=record == "particles",
        compression=compression,
        threads=threads,
        overwrite=overwrite,
        resume=resume,
        quiet=quiet,
    ).write(
        lambda count, begin: map_stream(with_sums, count, config, first=begin, **arguments),
        started=started,
        doing="simulating",
        starting="compiling" if _must_compile(engine) else "starting",
        prepare=lambda: chunk_sums(simulate(0, config, record=record, engine=engine)),
    )


def _must_compile(engine: str) -> bool:
    """Return whether the start will take a few seconds because the CPU engine is compiled."""
    from supa.compiler import has_machine_code

    return engine == "cpu" and not has_machine_code("supa.engines.cpu")


def _config(
    preset: str | None, config_file: str | None, changes: tuple[str, ...], energy: str | None
) -> "ShowerConfig":
    from supa import preset as preset_config

    return changed_config(chosen_config(preset, config_file) or preset_config("standard"), changes, energy)
