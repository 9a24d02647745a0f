"""``supa gff bench``: compare methods by cross-validation on graph benchmarks."""

from collections.abc import Iterable
from pathlib import Path

import click

from supa.checks import check_name, counted, did_you_mean
from supa_cli import choices
from supa_cli.forecast import Forecast
from supa_cli.options import CompletedName, Count, Folder, OutputFile
from supa_cli.progress import progress
from supa_cli.signals import deferred_interrupts, mark_output_complete, raise_if_interrupted
from supa_cli.terminal_text import echo
from supa_cli.training.options import DEVICE, device_of

_ADVICE = (
    "To save time, use fewer --methods, --datasets, --folds or --seeds, or more processes (-j). To resume an "
    "interrupted run, repeat the command."
)


@click.command(name="bench")
@click.option(
    "--datasets",
    type=CompletedName(choices.datasets, several=True),
    metavar="NAMES",
    default="MUTAG,PROTEINS",
    show_default=True,
    help="Graph benchmarks, separated by commas.",
)
@click.option(
    "--methods",
    type=CompletedName(choices.methods, several=True),
    metavar="NAMES",
    help="Methods, separated by commas.  [default: all]",
)
@click.option(
    "--convs",
    type=CompletedName(choices.convolutions, several=True),
    metavar="NAMES",
    default="gin",
    show_default=True,
    help="Convolutions, separated by commas.",
)
@click.option("--folds", type=Count(2), default=10, show_default=True, help="Number of stratified folds per benchmark.")
@click.option(
    "--seeds",
    type=Count(1),
    default=3,
    show_default=True,
    help="Number of training runs per fold, with seeds 0, 1, ...",
)
@click.option(
    "--reference",
    type=CompletedName(choices.methods),
    help="Method with which the other methods are compared.  [default: backprop]",
)
@click.option(
    "-j", "--workers", type=Count(1), default=1, show_default=True, help="Number of processes, with one thread each."
)
@DEVICE
@click.option(
    "--root", type=Folder(exists=True), help="Folder with the raw files of the benchmarks.  [default: download]"
)
@click.option(
    "--output",
    type=OutputFile(),
    default="results.jsonl",
    show_default=True,
    help="Results file, to which each finished job is appended.",
)
@click.option(
    "--table",
    "table_file",
    type=OutputFile(),
    help="File to which the table is written, in addition to standard output.",
)
@click.option("--quiet", is_flag=True, help="Print only the table and errors.")
def command(
    datasets: str,
    methods: str | None,
    convs: str,
    folds: int,
    seeds: int,
    reference: str | None,
    workers: int,
    device: str,
    root: str | None,
    output: str,
    table_file: str | None,
    quiet: bool,
) -> None:
    """Compare methods by cross-validation on graph benchmarks, and print a Markdown table.

    Each finished job is one line of the results file. To resume an interrupted run, repeat the command. It skips the
    jobs that the file already contains with the same settings, and repeats failed jobs.

    On a GPU, the folds and seeds of a method on a dataset are trained together where the method supports it. Their
    results are stored together. The time, memory and energy of each job are then equal shares.

    Example: supa gff bench --datasets MUTAG --folds 3 --seeds 1
    """
    if table_file is not None and not Path(table_file).absolute().parent.is_dir():
        raise click.UsageError(f"--table {table_file!r}: its folder does not exist; make it first.")
    chosen_sets = _names("--datasets", "a graph benchmark", datasets, choices.datasets())
    chosen = (
        _names("--methods", "a method", methods, choices.methods()) if methods is not None else [*choices.methods()]
    )
    chosen_convs = _names("--convs", "a convolution", convs, choices.convolutions())
    if reference is not None and reference not in chosen:
        hint = did_you_mean(reference, chosen)
        raise click.UsageError(f"--reference {reference!r} is not one of the methods {', '.join(chosen)}.{hint}")

    from supa_gff.bench import runners
    from supa_gff.bench.results import ResultsFile
    from supa_gff.bench.table import REFERENCE, table
    from supa_gff.bench.worker_pool import run_jobs, visible_gpus

    place = device_of(device)
    try:
        jobs = runners.make_jobs(chosen_sets, chosen, chosen_convs, folds=folds, seeds=seeds)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    with ResultsFile(output) as file:
        missing = file.missing(jobs)
        try:
            with deferred_interrupts():
                runners.prepare((job.dataset for job in missing), root)
        except ValueError as error:
            raise click.UsageError(str(error)) from None
        if not quiet:
            echo(f"{counted(len(jobs), 'job')}, of which {output} contains {len(jobs) - len(missing):,}", err=True)
        with (
            deferred_interrupts(lambda: f"The finished jobs are in {output}; repeat the command to resume."),
            progress("training", "starting the processes", quiet=quiet or not missing, items="jobs") as report,
        ):
            on_gpu = place == "cuda"
            together = max(map(len, runners.group_jobs(missing)), default=1) if on_gpu else 1
            forecast = Forecast(_ADVICE, at_once=workers * together, quiet=quiet)
            done = 0

            def update(now: int, total: int) -> None:
                nonlocal done
                done = now
                report(now, total)

            def pause() -> None:
                raise_if_interrupted()
                forecast(done, len(missing))

            failures = run_jobs(
                missing, file, root=root, workers=workers, device=place, gpus=visible_gpus() if on_gpu else (),
                group=runners.group_jobs if on_gpu else None, progress=update, pause=pause,
            )  # fmt: skip
            mark_output_complete()
        results = file.of(jobs)
    page = table(results, reference=reference or REFERENCE)
    if table_file is not None:
        Path(table_file).write_text(page, encoding="utf-8")
    for line in page.splitlines():
        echo(line)
    if failures:
        raise click.ClickException(
            f"{counted(failures, 'job')} failed; the table shows the reasons. Repeat the command to try again."
        )


def _names(option: str, what: str, text: str, allowed: Iterable[str]) -> list[str]:
    """Split names at commas, and check them before PyTorch is imported, which takes seconds."""
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise click.UsageError(f"{option} {text!r} was given, but it must be names separated by commas.")
    try:
        for name in names:
            check_name([*allowed], what, name)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    return names
