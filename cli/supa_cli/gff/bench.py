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

_ADVICE = (
    "Fewer --methods, --datasets, --folds or --seeds, or more processes (-j) take less; the same command goes on where "
    "it was stopped."
)


@click.command(name="bench")
@click.option(
    "--datasets",
    type=CompletedName(choices.datasets, several=True),
    metavar="NAMES",
    default="MUTAG,PROTEINS",
    show_default=True,
    help="Sets, with commas.",
)
@click.option(
    "--methods",
    type=CompletedName(choices.methods, several=True),
    metavar="NAMES",
    help="Methods, with commas.  [default: all]",
)
@click.option(
    "--convs",
    type=CompletedName(choices.convolutions, several=True),
    metavar="NAMES",
    default="gin",
    show_default=True,
    help="Convolutions, with commas.",
)
@click.option("--folds", type=Count(2), default=10, show_default=True, help="Stratified folds of each set.")
@click.option("--seeds", type=Count(1), default=3, show_default=True, help="Trainings of each fold, seeds 0, 1, ...")
@click.option("--reference", type=CompletedName(choices.methods), help="Method to compare with.  [default: backprop]")
@click.option("-j", "--workers", type=Count(1), default=1, show_default=True, help="Processes, of one thread each.")
@click.option("--root", type=Folder(exists=True), help="Folder of the sets' raw files.  [default: download them]")
@click.option("--output", type=OutputFile(), default="results.jsonl", show_default=True, help="File of results.")
@click.option("--table", "table_file", type=OutputFile(), help="Write the table to this file, too.")
@click.option("--quiet", is_flag=True, help="Print the table and errors only.")
def command(
    datasets: str,
    methods: str | None,
    convs: str,
    folds: int,
    seeds: int,
    reference: str | None,
    workers: int,
    root: str | None,
    output: str,
    table_file: str | None,
    quiet: bool,
) -> None:
    """Compare methods by cross-validation on graph benchmarks, and print a table in Markdown.

    Each finished job is a line of the file of results. The same command goes on where it was stopped: it runs what the
    file does not hold, or holds with other settings, and what failed.
    """
    if table_file is not None and not Path(table_file).absolute().parent.is_dir():
        raise click.UsageError(f"--table {table_file!r}: its folder does not exist; make it first.")
    chosen_sets = _names("--datasets", "a set", datasets, choices.datasets())
    chosen = (
        _names("--methods", "a method", methods, choices.methods()) if methods is not None else [*choices.methods()]
    )
    chosen_convs = _names("--convs", "a convolution", convs, choices.convolutions())
    if reference is not None and reference not in chosen:
        hint = did_you_mean(reference, chosen)
        raise click.UsageError(f"--reference {reference!r} is none of the methods: {', '.join(chosen)}.{hint}")

    from supa_gff.bench import runners
    from supa_gff.bench.results import ResultsFile
    from supa_gff.bench.table import REFERENCE, table
    from supa_gff.bench.worker_pool import run_jobs

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
            echo(f"{counted(len(jobs), 'job')}, {len(jobs) - len(missing):,} of them done before in {output}", err=True)
        with (
            deferred_interrupts(lambda: f"What was finished is in {output}; the same command goes on."),
            progress("training", "starting the processes", quiet=quiet or not missing, things="jobs") as told,
        ):
            forecast = Forecast(_ADVICE, at_once=workers, quiet=quiet)
            done = 0

            def tell(now: int, total: int) -> None:
                nonlocal done
                done = now
                told(now, total)

            def pause() -> None:
                raise_if_interrupted()
                forecast(done, len(missing))

            failures = run_jobs(missing, file, root=root, workers=workers, progress=tell, pause=pause)
            mark_output_complete()
        results = file.of(jobs)
    page = table(results, reference=reference or REFERENCE)
    if table_file is not None:
        Path(table_file).write_text(page, encoding="utf-8")
    for line in page.splitlines():
        echo(line)
    if failures:
        raise click.ClickException(
            f"{counted(failures, 'job')} failed; the table tells why. The same command tries again."
        )


def _names(option: str, what: str, text: str, allowed: Iterable[str]) -> list[str]:
    """Read names with commas between them, and check them before PyTorch is loaded, which takes seconds."""
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise click.UsageError(f"{option} {text!r} was given, but it must be names with commas between them.")
    try:
        for name in names:
            check_name([*allowed], what, name)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    return names
