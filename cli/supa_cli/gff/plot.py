"""``supa gff plot``: draw the results of ``supa gff bench``."""

from pathlib import Path

import click

from supa_cli.figure_path import check_figure_path
from supa_cli.options import OutputFile
from supa_cli.signals import deferred_interrupts, mark_output_complete
from supa_cli.terminal_text import echo


@click.command(name="plot")
@click.argument("results", type=click.Path(dir_okay=False))
@click.option("-o", "--output", type=OutputFile(), help="Figure to write (png, pdf, svg, ...).  [default: RESULTS.png]")
@click.option("--overwrite", is_flag=True, help="Replace an existing figure.")
def command(results: str, output: str | None, overwrite: bool) -> None:
    """Draw the accuracy of the methods in RESULTS over training time and over peak memory.

    RESULTS is a file of `supa gff bench`. If it contains a method with several settings, only the latest are drawn.
    """
    from supa_gff.bench.figures import plot_results
    from supa_gff.bench.results import latest, read_results

    name = Path(output or f"{Path(results).stem}.png")
    check_figure_path(name, "--output", overwrite=overwrite)
    try:
        figure = plot_results(latest(read_results(results)))
    except FileNotFoundError:
        raise click.UsageError(f"{results}: there is no such file; `supa gff bench` writes one.") from None
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    with deferred_interrupts():
        figure.savefig(name, dpi=150)
        mark_output_complete()
    echo(name)
