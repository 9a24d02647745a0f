"""The summary of a generated file: what was made, and how it compares with the exact expectations."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from supa import NoClosedFormError, Run, Showers, expectation
from supa_cli.printed import cell


class Summary:
    """Sums over showers, from which their means and errors follow.

    Args:
        run: what makes the showers.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._showers = self._hits = 0
        self._attempts = 0
        self._names = ["hits"]
        for layer in range(run.config.num_layers):
            self._names += [f"hits, layer {layer}", f"energy fraction, layer {layer}"]
        self._sums, self._squares = np.zeros(len(self._names)), np.zeros(len(self._names))

    def add(self, showers: Showers) -> None:
        """Take showers in.

        Args:
            showers: some of the run's showers.
        """
        n, layers = len(showers), self._run.config.num_layers
        shower = showers.hits.group_of_row()
        cell = shower * layers + showers.layer
        hits = np.bincount(cell, minlength=n * layers).reshape(n, layers)
        energy = np.bincount(cell, weights=showers.energy, minlength=n * layers).reshape(n, layers)
        fraction = energy / showers.incident_energy[:, None]
        table = np.column_stack([hits.sum(axis=1), *[c for k in range(layers) for c in (hits[:, k], fraction[:, k])]])
        self._sums += table.sum(axis=0)
        self._squares += np.square(table).sum(axis=0)
        self._showers += n
        self._hits += showers.hits.num_rows
        if n:
            self._attempts = int(showers.index[-1]) + 1 - self._run.first

    def print(self, path: Path, *, made: int, seconds: float) -> None:
        """Print the summary.

        Args:
            path: the finished file.
            made: how many showers this run made.
            seconds: how long that took.
        """
        from rich.console import Console
        from rich.table import Table

        facts = Table(show_header=False, box=None)
        facts.add_row("file", cell(path))
        facts.add_row("showers", f"{self._showers:,}")
        facts.add_row("attempts", f"{self._attempts:,}")
        facts.add_row("acceptance", f"{100 * self._showers / self._attempts:.2f} %")
        facts.add_row("hits", f"{self._hits:,}")
        facts.add_row("file size", f"{path.stat().st_size / 1e6:,.1f} MB")
        facts.add_row("time", f"{seconds:.1f} s" + (f", {made / seconds:,.0f} showers/s" if made else ""))
        facts.add_row("seed", f"{self._run.seed}")
        console = Console()
        console.print(facts)
        means = Table(title="Means of a shower; pull = (measured - exact) / standard error", title_justify="left")
        means.add_column("", no_wrap=True)
        for heading in ("measured", "std. error", "exact", "pull"):
            means.add_column(heading, justify="right", no_wrap=True)
        exact, reason = self._exact()
        mean = self._sums / self._showers
        error = np.sqrt(np.maximum(self._squares / self._showers - mean**2, 0) / max(self._showers - 1, 1))
        for k, name in enumerate(self._names):
            means.add_row(name, f"{mean[k]:.6g}", f"{error[k]:.2g}", *_compared(mean[k], error[k], exact.get(name)))
        if self._run.keep == "complete":
            p = self._showers / self._attempts
            spread = math.sqrt(p * (1 - p) / self._attempts)
            means.add_row("acceptance", f"{p:.6g}", f"{spread:.2g}", *_compared(p, spread, exact.get("acceptance")))
        console.print(means)
        if reason:
            console.print(cell(reason))

    def _exact(self) -> tuple[dict[str, float], str]:
        """Give the exact means, and why there are none if there are none."""
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
    return f"{exact:.6g}", f"{(mean - exact) / error:+z.2f}" if error > 0 and math.isfinite(error) else "-"
