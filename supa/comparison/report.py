"""Report of a comparison: a self-contained HTML page, and the numbers as JSON."""

import base64
import io
import json
import os
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from supa.atomic_file import atomic_write, temporary_path
from supa.checks import counted
from supa.comparison.figures import correlation_figure, example_figure, histogram_figures
from supa.comparison.results import Comparison, ObservableResult, SampleFacts
from supa.number_format import format_number, format_with_error
from supa.plotting.style import COLOURS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FACTS = ["sample", "showers", "hits", "preset", "incident energy (GeV)", "keep", "engine", "seed"]
_OBSERVABLE = ["observable", "true mean", "generated mean", "W1", "floor", "p", "separation", "floor", "KS", "floor"]
_EXPLANATION = (
    "<p class='note'>W1 is the Wasserstein-1 distance in units of the true standard deviation, KS is the "
    "Kolmogorov-Smirnov distance, and p is the p-value of W1. The noise floor is the same number between two true "
    "samples. Shaded rows have p below 0.05. Of many observables, 5 % have p below 0.05 by chance; the joint p-value "
    "above accounts for this.</p>"
)
_SCORES_NOTE = (
    "<p class='note'>The column “equal samples” contains the value for infinitely large samples from the same "
    "distribution. A score indicates a difference if it is farther from this value than its noise floor is.</p>"
)
_HISTOGRAMS_NOTE = (
    "<p class='note'>The observables are sorted by p-value. The lower panels show the ratio of the generated to the "
    "true histogram; triangles mark ratios outside the axis.</p>"
)
_STYLE = f"""
body {{ font: 15px/1.45 system-ui, sans-serif; color: #222; max-width: 1100px; margin: 2em auto; padding: 0 1em; }}
h1 {{ font-size: 1.6em; }} h2 {{ font-size: 1.2em; margin-top: 2em; }}
table {{ border-collapse: collapse; font-size: 13px; }} td, th {{ padding: 2px 10px; text-align: right; }}
th {{ border-bottom: 1px solid #999; font-weight: 600; }} td:first-child, th:first-child {{ text-align: left; }}
tr.differs td {{ background: #fbe9dd; }} img {{ max-width: 100%; }}
.verdict {{ font-size: 1.15em; padding: .6em 1em; background: #f2f2f2; border-left: 4px solid {COLOURS[0]}; }}
.verdict.differs {{ border-color: {COLOURS[1]}; }} .note {{ color: #555; font-size: 13px; }}
"""


def write_report(comparison: Comparison, folder: str | os.PathLike[str]) -> tuple[Path, Path]:
    """Write a report with tables and figures to a folder.

    The folder contains ``report.html``, a self-contained page, and ``comparison.json``, all numbers of the report.
    Each file is written atomically.

    Args:
        comparison: Result of `compare`.
        folder: Folder of the report. It is created if it does not exist. An older report in it is replaced.

    Returns:
        The paths of ``report.html`` and ``comparison.json``.

    Raises:
        ValueError: If ``folder`` is a file.
        OSError: If the files cannot be written.

    Example:
        >>> import supa
        >>> true, generated = supa.simulate(60, "single-layer", seed=1), supa.simulate(60, "single-layer", seed=2)
        >>> result = supa.compare(true, generated, repeats=19, multivariate=False)
        >>> page, numbers = supa.write_report(result, "report")
        >>> page.name, numbers.name
        ('report.html', 'comparison.json')
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file, but the report needs a folder; choose another path.")
    folder.mkdir(parents=True, exist_ok=True)
    page, numbers = folder / "report.html", folder / "comparison.json"
    _write(page, html_of(comparison))
    _write(numbers, json.dumps(comparison.to_dict(), indent=1) + "\n")
    return page, numbers


def _write(path: Path, text: str) -> None:
    temporary_path(path).unlink(missing_ok=True)  # a leftover of a killed process, or a symbolic link to another file
    with atomic_write(path) as file:
        file.write(text.encode())


def verdict(comparison: Comparison) -> str:
    """Summarise in one sentence whether the samples differ, and in which observables.

    Args:
        comparison: The comparison.

    Returns:
        The sentence.
    """
    p = f"joint p = {comparison.joint_p_value:.3g}"
    if not comparison.differs:
        return f"No significant difference ({p} for all observables of showers together)."
    found = [o.name for o in comparison.observables if o.level == "shower"][:3]
    return f"The samples differ ({p}). Largest differences: {'; '.join(found)}."


def html_of(comparison: Comparison) -> str:
    """Return the report as HTML.

    Args:
        comparison: The comparison.

    Returns:
        A self-contained page with embedded figures.
    """
    c = comparison
    title = f"Comparison of {c.generated.name} with {c.true.name}"
    parts = [
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>{escape(title)}</title>",
        f"<style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>",
        f"<p class='verdict{' differs' if c.differs else ''}'>{escape(verdict(c))}</p>",
        *(f"<p class='verdict differs'>{escape(remark)}</p>" for remark in c.remarks),
        _table(_FACTS, map(_facts_row, (c.true, c.generated))),
        f"<p class='note'>Noise floors: {escape(c.floor)}. {counted(c.repeats, 'permutation')}, seed {c.seed}. "
        + escape("; ".join(f"{name} {version}" for name, version in c.versions.items()))
        + (f". Observables of only one sample: {escape(', '.join(c.left_out))}" if c.left_out else "")
        + ". The page <i>Compare a generator with true showers</i> of the documentation explains all numbers.</p>",
    ]
    if c.scores:
        rows = (
            [
                s.name,
                _with_error(*s.value),
                _with_error(*s.floor),
                _number(s.null_value),
                _number(s.p_value),
                f"{s.rows:,}",
            ]
            for s in c.scores
        )
        parts += ["<h2>All observables together</h2>"]
        parts += [_table(["score", "value", "noise floor", "equal samples", "p", "showers used"], rows), _SCORES_NOTE]
    parts += ["<h2>Observables</h2>", _EXPLANATION]
    parts += [_table(_OBSERVABLE, map(_observable_row, c.observables), [o.p_value < 0.05 for o in c.observables])]
    parts += ["<h2>Means and exact expectations</h2>"]
    if c.pulls:
        rows = (
            [p.name, *map(_number, (p.exact, p.true_mean, p.true_pull, p.generated_mean, p.generated_pull))]
            for p in c.pulls
        )
        header = ["mean of", "exact", "true", "pull", "generated", "pull"]
        parts += [_table(header, rows, [abs(p.generated_pull) > 3 for p in c.pulls])]
        parts += [
            "<p class='note'>A pull is (mean - exact) / standard error. Shaded rows have a generated pull beyond 3.</p>"
        ]
    else:
        parts += [f"<p>{escape(c.no_pulls or 'The samples have no mean with an exact expectation in common.')}</p>"]
    parts += ["<h2>Histograms</h2>", _HISTOGRAMS_NOTE]
    parts += [_image(figure, "histograms of observables") for figure in histogram_figures(c)]
    parts += ["<h2>Correlations</h2>", _image(correlation_figure(c), "correlations between observables")]
    parts += ["<h2>Example showers</h2>", _image(example_figure(c), "hits of example showers"), "</body></html>\n"]
    return "\n".join(parts)


def _facts_row(facts: SampleFacts) -> list[str]:
    preset, seed = facts.preset or "custom", "" if facts.seed is None else str(facts.seed)
    numbers = [f"{facts.showers:,}", f"{facts.hits:,}"]
    return [facts.name, *numbers, preset, facts.incident_energy, facts.keep, facts.engine, seed]


def _observable_row(o: ObservableResult) -> list[str]:
    return [
        o.name,
        _number(o.true_mean),
        _number(o.generated_mean),
        _with_error(*o.distance),
        _number(o.distance_floor),
        _number(o.p_value),
        _with_error(*o.separation),
        _number(o.separation_floor),
        _number(o.ks.statistic if o.ks else None),
        _number(o.ks_floor),
    ]


def _table(header: list[str], rows: Iterable[list[str]], marked: list[bool] | None = None) -> str:
    lines = ["<table><tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in header) + "</tr>"]
    for number, row in enumerate(rows):
        kind = " class='differs'" if marked and marked[number] else ""
        lines.append(f"<tr{kind}>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>")
    return "\n".join([*lines, "</table>"])


def _number(value: float | None) -> str:
    return format_number(value, missing="").replace("inf", "∞")


def _with_error(value: float, error: float) -> str:
    return format_with_error(value, error, missing="").replace("inf", "∞")


def _image(figure: "Figure", description: str) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return f"<img alt='{description}' src='data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}'>"
