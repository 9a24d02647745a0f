"""``supa generate --shards``: simulate showers into a folder of files, in several processes."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from supa.checks import counted
from supa_cli.progress import progress
from supa_cli.signals import deferred_interrupts, mark_output_complete, raise_if_interrupted
from supa_cli.tables import print_facts
from supa_cli.terminal_text import echo

if TYPE_CHECKING:
    from supa import ShowerConfig
    from supa_datasets import ShardProgress, ShardReport


def check_options(out: str, *, keep: str, threads: int | None, overwrite: bool, resume: bool) -> None:
    """Check the options that a folder of shards excludes.

    Args:
        out: Name of the folder.
        keep: Value of --keep.
        threads: Value of --threads.
        overwrite: Whether --overwrite was given.
        resume: Whether --resume was given.

    Raises:
        click.UsageError: If an option is not allowed.
    """
    if keep == "complete":
        raise click.UsageError(
            "--keep complete and --shards cannot be used together: how many showers of a range of indices are kept is "
            "not known in advance. Write all showers and select the complete ones when you read them, or write one "
            "file for each --seed without --shards."
        )
    if threads is not None:
        raise click.UsageError(
            "--threads and --shards cannot be used together: each worker uses one thread; --workers sets their number."
        )
    if resume:
        raise click.UsageError("--resume is not needed with --shards: the same command always continues.")
    if overwrite:
        raise click.UsageError("--overwrite and --shards cannot be used together; choose a new folder, or remove OUT.")
    if Path(out).suffix in (".h5", ".hdf5") and not Path(out).is_dir():
        raise click.UsageError(f"{out}: with --shards, OUT is a folder; name it {Path(out).with_suffix('')}.")


def generate(
    out: Path,
    num_showers: int,
    config: "ShowerConfig",
    *,
    scheduler: str,
    workers: int | None,
    quiet: bool,
    **dataset: Any,
) -> None:
    """Generate the shards, show the progress, and print a summary.

    Args:
        out: Folder of the dataset.
        num_showers: Number of showers.
        config: Physics of the showers.
        scheduler: Value of --scheduler.
        workers: Value of --workers.
        quiet: Whether to print only errors.
        **dataset: The other arguments of ``generate_shards``.
    """
    from supa_datasets.shards.cluster import scheduler_address
    from supa_datasets.shards.generate import generate_shards
    from supa_datasets.shards.planning import planned_dataset

    try:
        planned_dataset(num_showers, config, **dataset)
        scheduler_address(scheduler, workers)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    started = time.perf_counter()
    began: float | None = None

    def left() -> str:
        return f"The finished files are in {out}; repeat the same command to make the others." * out.is_dir()

    with deferred_interrupts(left):
        with progress("simulating", "starting the workers", quiet=quiet, items="shards") as report:
            report(0, dataset["shards"])

            def show(state: "ShardProgress") -> None:
                nonlocal began
                raise_if_interrupted()
                began = began or time.perf_counter()
                report(state.done, state.total, _note(state))

            try:
                result = generate_shards(
                    out, num_showers, config, scheduler=scheduler, workers=workers, progress=show, **dataset
                )
            except ImportError as error:
                raise click.ClickException(str(error)) from None
        mark_output_complete()
    if not quiet:
        ended = time.perf_counter()
        _print(out, result, seconds=ended - started, start=(began or ended) - started)


def _note(state: "ShardProgress") -> str:
    texts = [counted(state.workers, "worker")]
    texts += [f"{state.lost:,} lost"] * bool(state.lost)
    texts += [counted(state.failures, "failure")] * bool(state.failures)
    return ", ".join(texts)


def _print(out: Path, report: "ShardReport", *, seconds: float, start: float) -> None:
    rate = report.simulated_showers / (seconds - start)
    print_facts(
        [
            ("folder", str(out)),
            ("shards", f"{report.shards:,}, of which {len(report.simulated):,} were simulated now"),
            ("showers", f"{report.showers:,}"),
            ("hits", f"{report.hits:,}"),
            ("size", f"{report.bytes / 1e6:,.1f} MB"),
            ("lost workers", f"{report.lost:,}"),
            ("failures", f"{len(report.failures):,}"),
            ("time", f"{seconds:.1f} s, of which {start:.1f} s to start"),
            ("rate", f"{rate:,.0f} showers/s after the start" if report.simulated else "-"),
        ]
    )
    for text in report.replaced:
        echo(f"Replaced: {text}")
    for text in report.failures:
        echo(f"Failed and repeated: {text}.")
