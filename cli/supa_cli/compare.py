"""``supa compare``: compare generated showers with true showers."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from supa.checks import counted
from supa.number_format import format_number, format_signed
from supa_cli.options import Count, InputFile
from supa_cli.signals import mark_output_complete
from supa_cli.tables import print_table, with_error
from supa_cli.terminal_text import echo, safe

if TYPE_CHECKING:
    from supa import Comparison

_MOST_ROWS = 20
_LONGEST_HEADING = 24


@click.command(name="compare")
@click.argument("true", type=InputFile(folders=True))
@click.argument("generated", type=InputFile(folders=True))
@click.option(
    "-o", "--output", type=click.Path(), help="Folder for report.html and comparison.json.  [default: no report]"
)
@click.option(
    "--seed", type=Count(0), default=0, show_default=True, help="Random seed of the permutations and bootstraps."
)
@click.option(
    "--permutations",
    type=Count(19),
    default=500,
    show_default=True,
    help="Number of permutations N. The smallest possible p-value is 1 / (N + 1).",
)
@click.option(
    "--fast", is_flag=True, help="Skip the scores that use all observables together. They take most of the time."
)
@click.option("--all", "every", is_flag=True, help="Print all observables, not only those that differ most.")
@click.option("--overwrite", is_flag=True, help="Replace an existing report.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option("--quiet", is_flag=True, help="Print no progress.")
def command(
    true: str,
    generated: str,
    output: str | None,
    seed: int,
    permutations: int,
    fast: bool,
    every: bool,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Compare the generated showers in the file GENERATED with the true showers in the file TRUE.

    For each observable, print the distance between the two samples and the noise floor, which is the distance between
    two true samples. Convert files of other formats with `supa convert` first.

    Example: supa compare true.h5 generated.h5 -o report
    """
    from supa import compare, write_report
    from supa_datasets import ShowerFile

    if output is not None:
        _make_folder(output, overwrite=overwrite)

    def report_step(step: str) -> None:
        if not quiet:
            click.echo(f"{step} ...", err=True)

    with ShowerFile(true) as one, ShowerFile(generated) as other:
        try:
            comparison = compare(
                one,
                other,
                names=_names(true, generated),
                seed=seed,
                repeats=permutations,
                multivariate=not fast,
                progress=report_step,
            )
        except ValueError as error:
            raise click.ClickException(str(error)) from None
    if output is None:
        mark_output_complete()
    if as_json:
        click.echo(json.dumps(comparison.to_dict(), indent=2))
    else:
        _print(comparison, every)
    if output is not None:
        report_step("drawing the report")
        page, _ = write_report(comparison, output)
        mark_output_complete()
        echo(page, err=as_json)


def _make_folder(output: str, *, overwrite: bool) -> None:
    """Create the folder of the report before the comparison, whose result would otherwise be lost."""
    if not output or (Path(output).exists() and not Path(output).is_dir()):
        raise click.UsageError(f"--output {output!r} is not a folder; specify a folder for the report.")
    if output == "-" or (
        Path(output).suffix in (".html", ".htm", ".json", ".pdf", ".png") and not Path(output).exists()
    ):
        raise click.UsageError(
            f"--output {output!r} was given, but it must be the name of a folder for report.html and comparison.json."
        )
    try:
        Path(output).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise click.UsageError(f"--output {output!r}: the folder cannot be created ({error.strerror}).") from None
    for name in ("report.html", "comparison.json"):
        file = Path(output) / name
        if file.exists() and not overwrite:
            raise click.ClickException(f"{file} exists; choose another folder, or overwrite it (--overwrite).")


def _names(true: str, generated: str) -> tuple[str, str]:
    """Return the names of the files, or "true" and "generated" if both files have the same name."""
    one, other = safe(Path(true).stem), safe(Path(generated).stem)
    return (one, other) if one != other else ("true", "generated")


def _print(comparison: "Comparison", every: bool) -> None:
    from supa.comparison.report import verdict

    c = comparison
    samples = {"true": c.true, "generated": c.generated}
    short = all(len(facts.name) <= _LONGEST_HEADING for facts in samples.values())
    one, other = (facts.name if short else role for role, facts in samples.items())
    for role, facts in samples.items():
        echo(f"{'' if short else f'{role}: '}{facts.name}: {counted(facts.showers, 'shower')}")
    click.echo(f"noise floors: {c.floor}\n")
    if c.scores:
        scores = (
            [
                s.name,
                with_error(*s.value),
                with_error(*s.floor),
                format_number(s.null_value),
                format_number(s.p_value, 3),
            ]
            for s in c.scores
        )
        print_table(["", "value", "noise floor", "equal", "p"], scores, title="All observables together")
    shown = c.observables if every else c.observables[:_MOST_ROWS]
    observables = (
        [
            o.name,
            format_number(o.p_value, 3),
            format_number(o.true_mean),
            format_number(o.generated_mean),
            with_error(*o.distance),
            format_number(o.distance_floor, 3),
            format_number(o.separation.value, 3),
            format_number(o.separation_floor, 3),
        ]
        for o in shown
    )
    title = "Observables, largest differences first; W1 in true standard deviations"
    print_table(["", "p", one, other, "W1", "floor", "separation", "floor"], observables, title=title)
    if len(shown) < len(c.observables):
        click.echo(f"... and {len(c.observables) - len(shown)} more (--all, or -o for the report)\n")
    if c.pulls:
        pulls = (
            [
                p.name,
                format_number(p.exact),
                format_number(p.true_mean),
                format_signed(p.true_pull),
                format_number(p.generated_mean),
                format_signed(p.generated_pull),
            ]
            for p in c.pulls
            if every or "slice" not in p.name
        )
        header = ["", "exact", one, "pull", other, "pull"]
        print_table(header, pulls, title="Means and exact expectations")
    elif c.no_pulls:
        echo(c.no_pulls)
    if c.left_out:
        click.echo(f"Only in one sample: {', '.join(c.left_out)}")
    for remark in c.remarks:
        echo(remark)
    click.secho(safe(verdict(c)), bold=True)
