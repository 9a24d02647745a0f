"""``supa score``: score generated showers or predictions for a benchmark task, and print tables of scores."""

from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from supa.checks import counted
from supa.number_format import format_number, format_signed
from supa_cli import choices
from supa_cli.options import InputFile, OutputFile
from supa_cli.signals import mark_output_complete
from supa_cli.tables import print_table, with_error
from supa_cli.terminal_text import echo, safe

if TYPE_CHECKING:
    from supa_datasets import BenchmarkTask, Score


class _NameOrFile(click.ParamType):  # type: ignore[type-arg]
    """The name of a task or the path of a file. The shell completes both."""

    name = "text"

    def shell_complete(self, _ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Complete the name of a task, or else let the shell complete the path."""
        names = [CompletionItem(name) for name in choices.benchmark_tasks() if name.startswith(incomplete)]
        return names or [CompletionItem(incomplete, type="file")]


def _list(context: click.Context, _parameter: click.Parameter, asked: bool) -> None:
    """Print the tasks and exit."""
    if not asked:
        return
    from supa_datasets import benchmark_names, benchmark_task

    tasks = [benchmark_task(name) for name in benchmark_names()]
    rows = [[t.name, str(t.version), str(t.difficulty), t.kind, t.form, f"{t.num_showers:,}"] for t in tasks]
    print_table(["name", "version", "difficulty", "kind", "form", "showers"], rows)
    for task in tasks:
        click.echo(f"{click.style(task.name, bold=True)}: {task.title}")
    context.exit()


@click.command(name="score")
@click.argument("arguments", metavar="NAME FILE", nargs=-1, type=_NameOrFile())
@click.option("--json", "output", type=OutputFile(), metavar="OUT", help="Append the score to the file OUT, as JSON.")
@click.option("--label", help="Name of the model in tables.  [default: the name of FILE]")
@click.option("--table", is_flag=True, help="Print tables of the scores in files of --json, the best score first.")
@click.option("--quiet", is_flag=True, help="Print no progress.")
@click.option(
    "--list", is_flag=True, is_eager=True, expose_value=False, callback=_list, help="List the tasks and exit."
)
@click.pass_context
def command(
    context: click.Context, arguments: tuple[str, ...], output: str | None, label: str | None, table: bool, quiet: bool
) -> None:
    """Score the generated showers or the predictions in FILE for the benchmark task NAME.

    The true showers are simulated. Each metric is printed with its noise floor: the value that a true sample of the
    same size gets, or the optimal prediction. With --table, print the scores in several files instead.

    Example: supa score standard-points generated.h5 --json scores.json

    Example: supa score --table scores.json others.json
    """
    if table:
        if output is not None or label is not None:
            raise click.UsageError("--table prints existing scores; use it without --json and --label.")
        if not arguments:
            raise click.UsageError(
                "--table needs one or more files of --json, such as: supa score --table scores.json others.json"
            )
        _print_tables(arguments)
        return
    if len(arguments) != 2:
        raise click.UsageError(
            f"specify the name of a task and one file, got {counted(len(arguments), 'argument')}; supa score --list "
            "lists the tasks."
        )
    _score(context, *arguments, output, label, quiet)


def _score(context: click.Context, name: str, file: str, output: str | None, label: str | None, quiet: bool) -> None:
    from supa_datasets import add_score, benchmark_task, score_file

    try:
        task = benchmark_task(name)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    file = InputFile().convert(file, None, context)
    if output is not None:
        _check_output(output)

    def report_step(step: str) -> None:
        if not quiet:
            click.echo(f"{step} ...", err=True)

    score = score_file(task, file, label=label, progress=report_step)
    _print_score(task, score)
    if output is not None:
        add_score(output, score)
    mark_output_complete()


def _check_output(output: str) -> None:
    """Check the file of the scores before the score, which would otherwise be lost."""
    from supa_datasets import read_scores

    if Path(output).exists():
        read_scores([output])
    elif not Path(output).parent.is_dir():
        raise click.UsageError(f"--json {output!r}: the folder {Path(output).parent} does not exist; make it first.")


def _print_score(task: "BenchmarkTask", score: "Score") -> None:
    rows = [
        [
            metric.name,
            format_number(metric.value),
            with_error(metric.floor, metric.spread),
            "-" if metric.pull is None else format_signed(metric.pull),
        ]
        for metric in score.metrics
    ]
    title = f"{score.task} (version {score.task_version}): {counted(score.num_showers, 'shower')} of {score.label}"
    print_table(["", "value", "noise floor", "pull"], rows, title=title)
    left_out = [name for name, _ in task.metrics if name not in {metric.name for metric in score.metrics}]
    if left_out:
        click.echo(f"{left_out[0]}: needs the package scikit-learn: pip install 'supa-showers[compare]'")
    if score.num_showers != task.num_showers:
        click.echo(
            f"The standard number of showers is {task.num_showers:,}; only scores of equal numbers are compared."
        )
    if score.largest_differences:
        echo(f"Observables with the smallest p-values: {'; '.join(score.largest_differences)}")
    optimum = "true showers" if task.kind == "generation" else "the optimal prediction"
    if task.kind == "labelling":
        optimum = "the true labels"
    found = f"differs from {optimum}" if score.differs else f"has no significant difference from {optimum}"
    subject = "The sample" if task.kind == "generation" else "The prediction"
    click.secho(f"{subject} {found} (p = {score.p_value:.3g}).", bold=True)


def _print_tables(files: tuple[str, ...]) -> None:
    from supa_datasets import rank_scores, read_scores

    groups = rank_scores(read_scores(files))
    if not groups:
        raise click.ClickException("The files contain no scores.")
    for (name, version, num), scores in groups.items():
        metrics = list(dict.fromkeys(metric.name for score in scores for metric in score.metrics))
        floor = {metric.name: metric for score in scores for metric in score.metrics}
        rows = [
            [score.label, format_number(score.p_value, 2), *(_cell(score, name) for name in metrics), score.date]
            for score in scores
        ]
        floors = [with_error(floor[name].floor, floor[name].spread) for name in metrics]
        title = f"{safe(name)}, version {version}, {counted(num, 'shower')}; the best score first"
        print_table(["", "p", *metrics, "date"], [*rows, ["noise floor", "", *floors, ""]], title=title)
        versions = sorted({score.supa_version for score in scores})
        if len(versions) > 1:
            echo(f"These scores are from several versions of supa-showers: {', '.join(versions)}.\n")
        observables = sorted({score.num_observables for score in scores})
        if len(observables) > 1:
            numbers = ", ".join(map(str, observables))
            echo(f"These samples have different numbers of observables ({numbers}), because some have no slices.\n")
    if len({name for name, _, _ in groups}) < len(groups):
        click.echo("Scores of different versions of a task, or of different numbers of showers, cannot be compared.")


def _cell(score: "Score", name: str) -> str:
    return next((format_number(metric.value) for metric in score.metrics if metric.name == name), "-")
