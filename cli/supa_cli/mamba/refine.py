"""``supa mamba refine``: refine a sample of a generator with density ratios from a classifier."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from supa.checks import counted
from supa.number_format import format_number, format_percent, format_signed
from supa_cli.file_run import check_not_an_input, compression_option
from supa_cli.options import Choice, Count, InputFile, OutputFile
from supa_cli.signals import deferred_interrupts, mark_output_complete, raise_if_interrupted
from supa_cli.tables import print_table, with_error
from supa_cli.terminal_text import echo

if TYPE_CHECKING:
    from supa.comparison import RefinedSample


class _Method(Choice):
    """A method of refinement; the error for any other word says why the best of k is none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Check the method."""
        from supa.refined import NO_BEST_OF_K

        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            self.fail(f"{error.message} {NO_BEST_OF_K}", param, ctx)


@click.command(name="refine")
@click.argument("generated", type=InputFile())
@click.argument("out", type=OutputFile())
@click.option(
    "--against",
    required=True,
    metavar="TRAIN",
    type=InputFile(folders=True),
    help="File or folder of simulated showers with the config of the sample, such as the training showers.",
)
@click.option(
    "--by", type=_Method(["weights", "rejection", "resampling"]), required=True, help="Method of the refinement."
)
@click.option(
    "--keep",
    metavar="N",
    type=Count(1),
    help="Number of showers to keep; required for resampling. With weights, the smallest effective sample size.  "
    "[default: all accepted showers]",
)
@click.option(
    "--seed", type=Count(0), default=0, show_default=True, help="Random seed of the classifier and the choices."
)
@compression_option
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
@click.option("--quiet", is_flag=True, help="Print only errors.")
def command(
    generated: str,
    out: str,
    against: str,
    by: Any,
    keep: int | None,
    seed: int,
    compression: Any,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Refine the sample in the file GENERATED towards the true distribution, and write the HDF5 file OUT.

    A calibrated classifier learns to separate the sample from the showers of TRAIN. It gives each shower a weight, the
    true density over that of the model. `weights` writes all showers with their weights, `rejection` accepts showers
    with a probability proportional to the weight, and `resampling` chooses one of k successive showers.

    OUT is an ordinary shower file, which names the model and the refinement. Judge it with other true showers and
    another classifier.

    Example: supa mamba refine sample.h5 refined.h5 --against train.h5 --by resampling --keep 1e4
    """
    from supa_cli.suffixes import check_hdf5_ending

    check_hdf5_ending(out, f"`supa mamba refine {generated} {{}}` with your options", quiet=quiet)
    _check_output(Path(out), overwrite=overwrite)
    check_not_an_input(Path(out), (generated, against))
    from supa.comparison import refine_sample
    from supa_datasets import ShowerFile, load, save

    def report_step(step: str) -> None:
        raise_if_interrupted()
        if not quiet:
            click.echo(f"{step} ...", err=True)

    with ShowerFile(against) as true:
        refined = refine_sample(true, load(generated), by=by, keep=keep, seed=seed, progress=report_step)
    report_step("writing the file")
    with deferred_interrupts():
        save(refined.showers, out, compression=compression, overwrite=overwrite, weight=refined.weight)
        mark_output_complete()
    if not quiet:
        _print(refined, Path(out))


def _check_output(out: Path, *, overwrite: bool) -> None:
    """Check the file before the classifier is trained, whose result would otherwise be lost."""
    if not out.parent.is_dir():
        raise click.UsageError(f"{out}: the folder {out.parent} does not exist; make it first.")
    if out.exists() and not overwrite:
        raise click.ClickException(f"{out} exists; choose another name, or overwrite it (--overwrite).")


def _print(refined: "RefinedSample", out: Path) -> None:
    ratio, worst = refined.ratio, refined.ratio.worst_bin
    assert refined.showers.run.refinement is not None
    rows = [
        ["showers before and after", f"{len(ratio.weight):,} and {len(refined.showers):,}"],
        ["effective sample size", f"{ratio.effective_size:,.0f}"],
        ["mean weight", with_error(*ratio.mean)],
        ["largest weight", format_number(float(ratio.weight.max()))],
        ["acceptance", format_percent(refined.acceptance, 2)],
    ]
    if refined.cap is not None:
        rows.append(["cap of the weights", format_number(refined.cap)])
        rows.append(["part of the weights above the cap", format_percent(refined.truncated, 3)])
    if refined.showers.run.refinement.by == "resampling":
        k = len(ratio.weight) // len(refined.showers)
        effective = k * ratio.effective_size / len(ratio.weight)
        rows.append(["showers of a choice", f"{k}, of which {format_number(effective, 3)} effective"])
    rows.append(
        [
            "worst calibration bin",
            f"{format_percent(worst.predicted)} true predicted, {format_percent(worst.observed)} found "
            f"(pull {format_signed(worst.pull)})",
        ]
    )
    print_table(["", ""], rows, title=f"{out}: {counted(len(refined.showers), 'shower')}")
    largest = sorted(refined.means, key=lambda mean: -abs(mean.pulls[0]))[:5]
    means = (
        [
            mean.name,
            format_number(mean.true.value),
            format_number(mean.sampled.value),
            format_signed(mean.pulls[0]),
            format_number(mean.refined.value),
            format_signed(mean.pulls[1]),
        ]
        for mean in largest
    )
    title = "Means with the largest pulls against the true showers that refined the sample"
    print_table(["", "true", "sample", "pull", "refined", "pull"], means, title=title)
    if not ratio.closes:
        echo(
            "The weights do not close: the mean weight or the calibration is off by four standard errors. Use more "
            "showers, or a better generator."
        )
    echo("Judge the result with other true showers and another classifier, such as `supa compare`.")
