"""Summary of a generated file: its means next to the exact expectations."""

import math
from pathlib import Path
from typing import Any

import click
import numpy as np

from supa import NoClosedFormError, Run, Showers, expectation
from supa.number_format import format_percent, format_signed
from supa.running_moments import RunningMoments
from supa_cli.tables import print_facts, print_table
from supa_cli.terminal_text import echo


class Summary:
    """Means over showers, with their standard errors.

    Args:
        run: Origin of the showers.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._showers = self._hits = 0
        self._attempts = 0
        self._names = ["hits"]
        for layer in range(run.config.num_layers):
            self._names += [f"hits, layer {layer}", f"energy fraction, layer {layer}"]
        self._moments = RunningMoments()

    def add(self, showers: Showers) -> None:
        """Add showers.

        Args:
            showers: Showers of the run.
        """
        n, layers = len(showers), self._run.config.num_layers
        shower = showers.hits.group_of_row()
        cell = shower * layers + showers.layer
        hits = np.bincount(cell, minlength=n * layers).reshape(n, layers)
        energy = np.bincount(cell, weights=showers.energy, minlength=n * layers).reshape(n, layers)
        fraction = energy / showers.incident_energy[:, None]
        table = np.column_stack([hits.sum(axis=1), *[c for k in range(layers) for c in (hits[:, k], fraction[:, k])]])
        self._moments.add(table)
        self._showers += n
        self._hits += showers.hits.num_rows
        if n:
            self._attempts = int(showers.index[-1]) + 1 - self._run.first

    def print(self, path: Path, *, simulated: int, seconds: float) -> None:
        """Print the summary.

        Args:
            path: Path of the finished file.
            simulated: Number of showers that this command simulated.
            seconds: Elapsed time in seconds.
        """
        print_facts(
            [
                ("file", str(path)),
                ("showers", f"{self._showers:,}"),
                ("attempts", f"{self._attempts:,}"),
                ("acceptance", format_percent(self._showers / self._attempts, 2)),
                ("hits", f"{self._hits:,}"),
                ("file size", f"{path.stat().st_size / 1e6:,.1f} MB"),
                ("time", f"{seconds:.1f} s" + (f", {simulated / seconds:,.0f} showers/s" if simulated else "")),
                ("seed", f"{self._run.seed}"),
            ]
        )
        click.echo()
        means = []
        exact, reason = self._exact()
        mean, error = self._moments.mean, self._moments.standard_error
        for k, name in enumerate(self._names):
            compared = _compared(mean[k], error[k], exact.get(name))
            means.append([name, f"{mean[k]:.6g}", f"{error[k]:.2g}", *compared])
        if self._run.keep == "complete":
            p = self._showers / self._attempts
            error_p = math.sqrt(p * (1 - p) / self._attempts)
            means.append(["acceptance", f"{p:.6g}", f"{error_p:.2g}", *_compared(p, error_p, exact.get("acceptance"))])
        title = "Means per shower; pull = (measured - exact) / standard error"
        print_table(["", "measured", "std. error", "exact", "pull"], means, title=title)
        if reason:
            echo(reason)

    def _exact(self) -> tuple[dict[str, float], str]:
        """Return the exact means, or the reason why they are not available."""
        try:
            truth = expectation(self._run.config, keep=self._run.keep)
        except NoClosedFormError as error:
            return {}, str(error)
        values: dict[str, Any] = {"hits": truth.total_hits}
        for layer in range(self._run.config.num_layers):
            values[f"hits, layer {layer}"] = truth.layer_hits[layer]
            values[f"energy fraction, layer {layer}"] = truth.layer_energy[layer]
        if self._run.keep == "complete":
            values["acceptance"] = truth.probability_complete
        return values, ""


def _compared(mean: float, error: float, exact: float | None) -> tuple[str, str]:
    if exact is None:
        return "-", "-"
    return f"{exact:.6g}", format_signed((mean - exact) / error) if error > 0 and math.isfinite(error) else "-"
