"""Table of benchmark results in Markdown: accuracies, published results, and differences from a reference method."""

from collections.abc import Sequence

import numpy as np

from supa.checks import counted
from supa_datasets import BENCHMARKS
from supa_gff.bench.published import Published, published
from supa_gff.bench.results import Result
from supa_gff.bench.scores import Scores, scores_of
from supa_gff.bench.significance import corrected_t_test, holm, wilcoxon_signed_rank

REFERENCE = "backprop"
"""Default reference method, with which the others are compared."""

Row = tuple[str, str]

_NOTHING = "-"


def table(results: Sequence[Result], *, reference: str = REFERENCE) -> str:
    """Format results as a page of Markdown.

    Accuracies are means over folds with the sample standard deviation over folds, after averaging the seeds of each
    fold. Incomplete cells are marked, and do not contribute to means, ranks or tests.

    Args:
        results: Results of one configuration for each dataset, method and convolution, in the order of the table.
        reference: Name of the reference method.

    Returns:
        The page.

    Raises:
        ValueError: If there are no results, or results of several configurations are mixed.
    """
    if not results:
        raise ValueError("There are no results yet; run the benchmark first.")
    scores = scores_of(results)
    parts = [
        _accuracies(scores), _differences(scores, reference), _costs(scores, results), _failures(results),
        _conditions(results),
    ]  # fmt: skip
    return "\n\n".join(part for part in parts if part) + "\n"


def _accuracies(scores: Scores) -> str:
    """Return the table of accuracies."""
    ranks = _mean_ranks(scores)
    lines = [["method", *scores.sets, "mean", "mean rank"]]
    incomplete = False
    for row in scores.rows:
        cells, means = [], []
        for name in scores.sets:
            cell = scores.cells.get((row, name))
            if cell is None:
                cells.append(_NOTHING)
            elif cell.complete:
                cells.append(_figure(cell.mean, cell.deviation))
                means.append(cell.mean)
            else:
                incomplete = True
                existing = int(np.isfinite(cell.folds).sum())
                cells.append(f"{_figure(cell.mean, cell.deviation)} ({existing} of {counted(len(cell.folds), 'fold')})")
        mean = f"{np.mean(means):.1f}" if len(means) == len(scores.sets) else _NOTHING
        lines.append([_label(row), *cells, mean, f"{ranks[row]:.1f}" if row in ranks else _NOTHING])
    tasks = dict.fromkeys(BENCHMARKS[name].task for name in scores.sets if name in BENCHMARKS)
    quoted = [row for task in tasks for row in published(task, scores.sets)]
    notes = list(dict.fromkeys(_note(one) for one in quoted))
    for one in quoted:
        figures = [_quoted_figure(one, name) for name in scores.sets]
        label = f"*{_quoted_label(one)}, quoted [{notes.index(_note(one)) + 1}]*"
        lines.append([label, *figures, _NOTHING, _NOTHING])
    text = ["Test accuracy in percent: mean ± sample standard deviation over folds (after averaging seeds).", ""]
    text += _markdown(lines)
    if incomplete:
        text += ["", "Cells with missing folds or seeds do not contribute to means, ranks or tests."]
    if quoted:
        text += ["", "Quoted rows are published results. Their protocols differ:", ""]
        text += [f"- [{number}] {note}" for number, note in enumerate(notes, 1)]
    return "\n".join(text)


def _mean_ranks(scores: Scores) -> dict[Row, float]:
    """Return the mean rank of each row that is complete on every dataset. The best rank is 1; ties share a rank."""
    from scipy.stats import rankdata

    rows = [row for row in scores.rows if all(scores.complete(row, name) is not None for name in scores.sets)]
    if len(rows) < 2:
        return {}
    means = np.array([[scores.cells[row, name].mean for name in scores.sets] for row in rows])
    return dict(zip(rows, rankdata(-means, axis=0).mean(axis=1).tolist(), strict=True))


def _differences(scores: Scores, reference: str) -> str:
    """Return the table of differences from the reference, with their p-values."""
    references = [row for row in scores.rows if row[0] == reference]
    if not references:
        return f"There are no results of the reference method {reference}." if len(scores.rows) > 1 else ""
    compared = [(row, _reference_of(row, references)) for row in scores.rows if row[0] != reference]
    found: dict[tuple[Row, str], tuple[float, float]] = {}
    for row, against in compared:
        for name in scores.sets:
            ours, theirs = scores.complete(row, name), scores.complete(against, name)
            if ours is not None and theirs is not None and len(ours.folds) == len(theirs.folds):
                differences = ours.folds - theirs.folds
                ratio = max(ours.test_over_train, theirs.test_over_train)
                found[row, name] = float(differences.mean()), corrected_t_test(differences, ratio)
    if not found:
        return ""
    adjusted = dict(zip(found, holm([p for _, p in found.values()]), strict=True))
    over_sets = {
        row: wilcoxon_signed_rank([found[row, name][0] for name in scores.sets if (row, name) in found])
        for row, _ in compared
        if any((row, name) in found for name in scores.sets)
    }
    over_adjusted = dict(zip(over_sets, holm(list(over_sets.values())), strict=True))
    lines = [["method", "reference", *scores.sets, "all datasets"]]
    for row, against in compared:
        cells = [
            f"{found[row, name][0]:+z.1f} ({_p(adjusted[row, name])})" if (row, name) in found else _NOTHING
            for name in scores.sets
        ]
        over = _p(over_adjusted[row]) if row in over_adjusted else _NOTHING
        lines.append([_label(row), _label(against), *cells, over])
    return "\n".join(
        [
            f"Difference from {reference} in percentage points. The p-values are two-sided. Single datasets: corrected "
            "resampled t-test of Nadeau and Bengio (2003) on paired folds, after averaging seeds, since runs on the "
            "same fold are not independent, with Holm's correction for "
            f"{counted(len(found), 'test')}. All datasets: Wilcoxon's signed-rank test, with Holm's correction for "
            f"{counted(len(over_sets), 'test')}.",
            "",
            *_markdown(lines),
        ]
    )


def _costs(scores: Scores, results: Sequence[Result]) -> str:
    """Return the table of parameters, time, memory and energy."""
    lines = [["method", "parameters", "seconds", "MB", "joules", "deviation over seeds"]]
    for row in scores.rows:
        cells = [cell for name in scores.sets if (cell := scores.complete(row, name)) is not None]
        if len(cells) < len(scores.sets):
            continue
        counts = sorted({cell.parameters for cell in cells})
        means = [
            float(np.mean([getattr(cell, name) / unit for cell in cells]))
            for name, unit in (
                ("wall_seconds", 1), ("memory_bytes", 1e6), ("energy_joules", 1), ("seed_deviation", 1),
            )
        ]  # fmt: skip
        parameters = f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"
        lines.append([_label(row), parameters, *(_NOTHING if np.isnan(mean) else f"{mean:,.3g}" for mean in means)])
    if len(lines) == 1:
        return ""
    text = [
        "Cost of a job (training and test on one fold): mean over datasets of the median over folds and seeds. The "
        "last column is the standard deviation over seeds of the mean accuracy over folds, averaged over datasets.",
        *_sharing(results),
    ]
    return "\n".join([" ".join(text), "", *_markdown(lines)])


def _sharing(results: Sequence[Result]) -> list[str]:
    """Return what the costs of jobs have in common with those of other jobs."""
    costs = [r.measured.cost for r in results if r.measured is not None and r.measured.cost is not None]
    members, processes = (max((getattr(cost, name) for cost in costs), default=1) for name in ("members", "processes"))
    shared = []
    if members > 1:
        shared.append(
            f"Up to {members} jobs were trained together; their time, memory and energy are equal shares of those of "
            "all of them."
        )
    if any(cost.processes > 1 and cost.device == "cuda" for cost in costs):
        shared.append(
            f"Up to {processes} processes used the GPU at the same time: times are longer than alone, and energies "
            "include the work of the other processes."
        )
    return shared


def _reference_of(row: Row, references: Sequence[Row]) -> Row:
    """Return the reference with the same convolution, or the first one if there is none."""
    return next((one for one in references if one[1] == row[1]), references[0])


def _failures(results: Sequence[Result]) -> str:
    """Return a list of the failed jobs, with each reason once."""
    reasons: dict[str, list[str]] = {}
    for result in results:
        if result.error is not None:
            job = result.job
            reasons.setdefault(result.error, []).append(f"{job.row} on {job.dataset}, fold {job.fold}, seed {job.seed}")
    if not reasons:
        return ""
    lines = ["Jobs that failed:", ""]
    for reason, jobs in reasons.items():
        more = f" and {len(jobs) - 3} more" if len(jobs) > 3 else ""
        lines.append(f"- {'; '.join(sorted(jobs)[:3])}{more}: {reason}")
    return "\n".join(lines)


def _conditions(results: Sequence[Result]) -> str:
    """Return a description of the folds, seeds, machines and versions."""
    folds = sorted({r.job.folds for r in results})
    seeds = sorted({r.job.seed for r in results})
    machines = sorted({r.machine for r in results})
    versions = sorted({", ".join(f"{k} {v}" for k, v in r.versions.items()) for r in results})
    return "\n".join(
        [
            f"{', '.join(map(str, folds))} stratified folds, "
            f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}. Epochs and layers are selected on "
            "a validation part of each fold, never on its test part. Nodes are also split into folds, not by the masks "
            "of the dataset.",
            "",
            *(f"- {line}" for line in (*machines, *versions)),
        ]
    )


def _figure(mean: float, deviation: float) -> str:
    return f"{mean:.1f}" if np.isnan(deviation) else f"{mean:.1f} ± {deviation:.1f}"


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def _label(row: Row) -> str:
    return f"{row[0]} ({row[1]})" if row[1] else row[0]


def _quoted_label(row: Published) -> str:
    about = [row.conv] if row.conv else []
    if row.layers is not None:
        about.append(counted(row.layers, "layer"))
    return f"{row.method} ({', '.join(about)})" if about else row.method


def _quoted_figure(row: Published, name: str) -> str:
    """Format a published number with the digits of its source."""
    if name not in row.values:
        return _NOTHING
    return f"*{row.values[name]:g} ± {row.errors[name]:g}*" if name in row.errors else f"*{row.values[name]:g}*"


def _note(row: Published) -> str:
    return f"{row.source[0].upper()}{row.source[1:]}. {row.caveat}".strip()


def _markdown(lines: Sequence[Sequence[str]]) -> list[str]:
    """Return rows of cells as the lines of an aligned Markdown table. The first row is the header."""
    widths = [max(len(line[k]) for line in lines) for k in range(len(lines[0]))]
    rows = []
    for line in lines:
        first, *others = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        rows.append("| " + " | ".join([first, *(cell.strip().rjust(len(cell)) for cell in others)]) + " |")
    rule = "|" + "|".join("-" * (w + 1) + (":" if k else "-") for k, w in enumerate(widths)) + "|"
    return [rows[0], rule, *rows[1:]]
