"""Summary of a generated file: its means next to the exact expectations."""

import math
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np

from supa import NoClosedFormError, Run, Showers, expectation
from supa.arrays import ByteArray, FloatArray, IntArray
from supa.compiler import kernel
from supa.number_format import format_percent, format_signed
from supa.running_moments import RunningMoments
from supa_cli.tables import print_facts, print_table
from supa_cli.terminal_text import echo


class ChunkSums(NamedTuple):
    """What the summary needs of some showers."""

    table: FloatArray
    """(showers, 1 + 2 layers) hits, then hits and energy fraction of each layer."""
    last_index: int | None
    """Index of the last shower; None if there are no showers."""


def chunk_sums(showers: Showers) -> ChunkSums:
    """Compute the hits and the energy of every shower in every layer. Several threads may call this function.

    Args:
        showers: Showers of a run.

    Returns:
        Sums for ``Summary.add``.
    """
    table = np.zeros((len(showers), 1 + 2 * showers.config.num_layers))
    # Showers from a file are float32. A single type needs less compilation.
    energy = np.asarray(showers.energy, dtype=np.float64)
    _sum_hits(showers.offset, showers.layer, energy, showers.incident_energy, table)
    return ChunkSums(table, int(showers.index[-1]) if len(showers) else None)


@kernel
def _sum_hits(
    offset: IntArray, layer: ByteArray, energy: FloatArray, incident_energy: FloatArray, table: FloatArray
) -> None:
    for k in range(len(incident_energy)):
        i, stop = offset[k], offset[k + 1]
        table[k, 0] = stop - i
        while i < stop:  # hits are ordered by layer, so the sums of a layer stay in registers
            here, first, total = layer[i], i, 0.0
            while i < stop and layer[i] == here:
                total += energy[i]
                i += 1
            table[k, 1 + 2 * here] += i - first
            table[k, 2 + 2 * here] += total / incident_energy[k]


class Summary:
    """Means over showers, with their standard errors.

    Args:
        run: Origin of the showers.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._hits = self._attempts = 0
        self._names = ["hits"]
        for layer in range(run.config.num_layers):
            self._names += [f"hits, layer {layer}", f"energy fraction, layer {layer}"]
        self._moments = RunningMoments()

    def add(self, sums: ChunkSums) -> None:
        """Add showers.

        Args:
            sums: Sums of the next showers of the run.
        """
        self._moments.add(sums.table)
        self._hits += int(sums.table[:, 0].sum())
        if sums.last_index is not None:
            self._attempts = sums.last_index + 1 - self._run.first

    def print(self, path: Path, *, made: int, seconds: float, start: float) -> None:
        """Print the summary.

        Args:
            path: Path of the finished file.
            made: Number of showers that this command simulated or sampled.
            seconds: Elapsed time in seconds.
            start: Seconds of these until the first shower could begin, including the compilation.
        """
        showers = self._moments.count
        print_facts(
            [
                ("file", str(path)),
                ("showers", f"{showers:,}"),
                *([] if self._run.model is not None else self._selection(showers)),
                ("hits", f"{self._hits:,}"),
                ("file size", f"{path.stat().st_size / 1e6:,.1f} MB"),
                ("time", f"{seconds:.1f} s, of which {start:.1f} s to start"),
                ("rate", f"{made / (seconds - start):,.0f} showers/s after the start" if made else "-"),
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
            p = showers / self._attempts
            error_p = math.sqrt(p * (1 - p) / self._attempts)
            means.append(["acceptance", f"{p:.6g}", f"{error_p:.2g}", *_compared(p, error_p, exact.get("acceptance"))])
        title = "Means per shower; pull = (measured - exact) / standard error"
        print_table(["", "measured", "std. error", "exact", "pull"], means, title=title)
        if reason:
            echo(reason)

    def _selection(self, showers: int) -> list[tuple[str, str]]:
        acceptance = format_percent(showers / self._attempts, 2)
        return [("attempts", f"{self._attempts:,}"), ("acceptance", acceptance)]

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
