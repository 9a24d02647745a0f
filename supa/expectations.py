"""Exact expectations of the branching process, for configs without an energy cut-off.

A particle that enters slice l stops with probability s_l, splits with d_l and passes with p_l, independently of its
energy and direction. Let f_l(z) be the generating function of the hits that descend from it. Then
f_l(z) = s_l z + d_l f_{l+1}(z)^2 + p_l f_{l+1}(z), with f = 1 after the last slice. Its derivatives at z = 1 are the
moments of the number of hits. Setting z = 0 for some layers restricts the moments to showers that leave these layers
empty. Inclusion-exclusion over the layers then yields the moments of complete showers. The page *The physics* of the
documentation contains the derivation.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from supa.arrays import FloatArray
from supa.checks import counted, did_you_mean
from supa.config import ShowerConfig
from supa.physics import NO_LAYER, build_walk, fate_probabilities
from supa.presets import ConfigLike, as_config, preset_name

Keep = Literal["all", "complete"]

MAX_SUBSET_LAYERS = 12
_PRINTED_LAYERS = 8


class NoClosedFormError(ValueError):
    """Raised if the expectations of a config have no closed form.

    Example:
        >>> import supa
        >>> try:
        ...     supa.expectation("critical")
        ... except supa.NoClosedFormError:
        ...     print("simulate instead")
        simulate instead
    """


@dataclass(frozen=True, eq=False, repr=False)
class Expectation:
    """Exact expectations of one shower, returned by `expectation`.

    Energies are fractions of the incident energy. All values are means over the showers that ``keep`` selects, except
    ``probability_layer_empty`` and ``probability_complete``, which refer to all showers.

    Args:
        config: Physics of the showers.
        keep: ``"all"``, or ``"complete"`` for the showers with a hit in every readout layer.
        particles: (num_slices,) float64, mean number of particles that enter each slice.
        hits: (num_slices,) float64, mean number of hits in each slice.
        energy_entering: (num_slices,) float64, mean energy fraction that enters each slice.
        energy: (num_slices,) float64, mean energy fraction that stops in each slice.
        leaked_particles: Mean number of particles that leave the last slice.
        leaked_energy: Mean energy fraction that leaves the last slice.
        layer_hits: (num_layers,) float64, mean number of hits in each readout layer.
        layer_hits_covariance: (num_layers, num_layers) float64, covariance of the numbers of hits in the layers.
        layer_energy: (num_layers,) float64, mean energy fraction in each readout layer.
        probability_layer_empty: (num_layers,) float64, probability that a shower has no hit in the layer.
        probability_complete: Probability that a shower has a hit in every layer; NaN for more than 12 layers, because
            the number of terms is 2^layers.

    Example:
        >>> import supa
        >>> exact = supa.expectation("standard")
        >>> exact.layer_hits.round(2).tolist()
        [19.85, 50.57, 1.67]
        >>> round(exact.total_hits, 2), round(exact.total_hits_variance**0.5, 2)
        (72.09, 39.17)
        >>> round(float(exact.energy.sum()) + exact.leaked_energy, 12)
        1.0
    """

    config: ShowerConfig
    keep: Keep
    particles: FloatArray
    hits: FloatArray
    energy_entering: FloatArray
    energy: FloatArray
    leaked_particles: float
    leaked_energy: float
    layer_hits: FloatArray
    layer_hits_covariance: FloatArray
    layer_energy: FloatArray
    probability_layer_empty: FloatArray
    probability_complete: float

    def __repr__(self) -> str:
        name = preset_name(self.config) or "custom"
        layers = "1 layer" if len(self.layer_hits) == 1 else f"{len(self.layer_hits)} layers"
        return f"<Expectation of {name}, keep={self.keep!r}: {self.total_hits:.4g} hits in {layers}>"

    def __str__(self) -> str:
        header, *rows = [("", "mean", "std. deviation", "unit"), *self._table()]
        form = "{:<24}{:>13}{:>16}  {}".format
        lines = [repr(self), form(*header), *(form(*row).rstrip() for row in rows)]
        more = len(self.layer_hits) - _PRINTED_LAYERS
        return "\n".join(lines + ([f"... and {counted(more, 'more layer')}"] if more > 0 else []))

    @property
    def layer_hits_variance(self) -> FloatArray:
        """(num_layers,) float64, variance of the number of hits in each layer."""
        return np.diagonal(self.layer_hits_covariance).copy()

    @property
    def total_hits(self) -> float:
        """Mean number of hits in a shower."""
        return float(self.layer_hits.sum())

    @property
    def total_hits_variance(self) -> float:
        """Variance of the number of hits in a shower."""
        return float(self.layer_hits_covariance.sum())

    @property
    def tree_particles(self) -> float:
        """Mean number of particles in a recorded tree, including those that leak."""
        return float(self.particles.sum()) + self.leaked_particles

    def _table(self) -> list[tuple[str, str, str, str]]:
        """Return (quantity, mean, standard deviation, unit) for each line of the printed table."""
        hits, energies = [("hits", self.total_hits, self.total_hits_variance)], []
        for layer in range(min(len(self.layer_hits), _PRINTED_LAYERS)):
            hits.append((f"hits, layer {layer}", self.layer_hits[layer], self.layer_hits_variance[layer]))
            energies.append((f"energy, layer {layer}", self.layer_energy[layer]))
        rows = [(name, f"{mean:.6g}", f"{np.sqrt(variance):.6g}", "hits") for name, mean, variance in hits]
        rows += [(name, f"{mean:.6g}", "", "incident energy") for name, mean in energies]
        rows.append(("leaked energy", f"{self.leaked_energy:.6g}", "", "incident energy"))
        rows.append(("leaked particles", f"{self.leaked_particles:.6g}", "", "particles"))
        rows.append(("particles of the tree", f"{self.tree_particles:.6g}", "", "particles"))
        rows.append(("probability complete", f"{self.probability_complete:.6g}", "", ""))
        return rows

    def _repr_html_(self) -> str:
        """Return the table that a notebook shows."""
        from supa.html_table import html_table

        header = ("quantity", "mean", "std. deviation", "unit")
        table = html_table(self._table(), header=header, caption=repr(self)[1:-1])
        more = len(self.layer_hits) - _PRINTED_LAYERS
        return table + (f"<p>... and {counted(more, 'more layer')}</p>" if more > 0 else "")


def expectation(config: ConfigLike = "standard", *, keep: Keep = "all") -> Expectation:
    """Compute the exact expectations of a config.

    Args:
        config: Name of a preset, or a `ShowerConfig`.
        keep: ``"all"`` for means over all showers; ``"complete"`` for means over the showers with a hit in every
            readout layer.

    Returns:
        Expectations of hits, particles and energy fractions by slice and by readout layer.

    Raises:
        ValueError: If ``keep`` is neither ``"all"`` nor ``"complete"``.
        NoClosedFormError: If the config has a critical energy, so that the fates depend on the energies; or if
            ``keep`` is ``"complete"`` and the config has more than 12 layers or no complete showers.

    Example:
        >>> import supa
        >>> exact = supa.expectation("standard")
        >>> round(exact.total_hits, 2)
        72.09
        >>> showers = supa.simulate(2000, "standard", seed=1)
        >>> standard_error = (exact.total_hits_variance / len(showers)) ** 0.5
        >>> bool(abs(showers.num_hits.mean() - exact.total_hits) < 5 * standard_error)
        True
        >>> round(exact.probability_complete, 4)  # share of the showers with a hit in every readout layer
        0.3202
        >>> round(supa.expectation("standard", keep="complete").total_hits, 2)
        97.48
    """
    config = as_config(config)
    if keep not in ("all", "complete"):
        raise ValueError(
            f"keep: {keep!r} was given, but it must be 'all' or 'complete'.{did_you_mean(keep, ('all', 'complete'))}"
        )
    if config.critical_energy > 0:
        raise NoClosedFormError(
            f"With critical_energy = {config.critical_energy:g} GeV the fate of a particle depends on its energy, so "
            "the expectations have no closed form; simulate, or set critical_energy = 0."
        )
    layers = config.num_layers
    if keep == "complete" and layers > MAX_SUBSET_LAYERS:
        raise NoClosedFormError(
            f"keep='complete' needs 2^layers terms; {layers} layers were given, at most {MAX_SUBSET_LAYERS} are "
            "allowed."
        )
    # Row A is 1 in the layers that may be hit: first all layers, then all but one. Below, one row for each subset.
    alone = _Moments(config, np.vstack([np.ones((1, layers)), 1.0 - np.eye(layers)]))
    moments, weights, norm = alone, np.eye(1, layers + 1)[0], 1.0
    probability_complete = float("nan")
    if layers <= MAX_SUBSET_LAYERS:
        open_layers = ((np.arange(2**layers)[:, None] >> np.arange(layers)) & 1).astype(np.float64)
        signs = (-1.0) ** (layers - open_layers.sum(axis=1))
        subsets = _Moments(config, open_layers)
        probability_complete = float(signs @ subsets.probability)
        if keep == "complete":
            moments, weights, norm = subsets, signs, probability_complete
            if not norm > 1e-9:
                raise NoClosedFormError("No shower of this config has a hit in every readout layer; use keep='all'.")

    def mean(values: FloatArray) -> FloatArray:
        return np.asarray(np.tensordot(weights, values, axes=1) / norm)

    layer_hits = mean(moments.layer_hits)
    factorial = mean(moments.layer_pairs)
    energy, particles = mean(moments.energy), mean(moments.particles)
    layer_of_slice = build_walk(config).layer_of_slice
    return Expectation(
        config=config,
        keep=keep,
        particles=particles[:-1],
        hits=mean(moments.hits),
        energy_entering=np.cumsum(energy[::-1])[::-1][:-1],
        energy=energy[:-1],
        leaked_particles=float(particles[-1]),
        leaked_energy=float(energy[-1]),
        layer_hits=layer_hits,
        layer_hits_covariance=factorial + np.diag(layer_hits) - np.outer(layer_hits, layer_hits),
        layer_energy=np.array([energy[:-1][layer_of_slice == layer].sum() for layer in range(layers)]),
        probability_layer_empty=alone.probability[1:],
        probability_complete=probability_complete,
    )


def mean_particles(config: ShowerConfig) -> tuple[FloatArray, float]:
    """Compute the mean size of the showers of a config, ignoring its energy cut-off.

    Args:
        config: Physics of the showers.

    Returns:
        Mean number of particles that enter each slice and that leave the last one, (num_slices + 1,), and mean number
        of hits.
    """
    stop, split = fate_probabilities(config)
    particles = config.primary_count.mean * np.concatenate([[1.0], np.cumprod(1.0 - stop + split)])
    return particles, float((particles[:-1] * stop).sum())


class _Moments:
    """Moments of one shower, restricted to showers without hits in the closed layers.

    Each row of ``open_layers``, (subsets, layers), is 1 for open and 0 for closed layers. Every result has one row for
    each row of ``open_layers``.
    """

    def __init__(self, config: ShowerConfig, open_layers: FloatArray) -> None:
        rows, layers = open_layers.shape
        slices = config.num_slices
        stop, split = fate_probabilities(config)
        layer_of_slice = build_walk(config).layer_of_slice
        f = np.ones(rows)
        first = np.zeros((rows, layers))  # derivatives of f with respect to the z of each layer
        second = np.zeros((rows, layers, layers))
        hits = np.zeros((rows, slices))
        particles = np.zeros((rows, slices + 1))
        energy = np.zeros((rows, slices + 1))
        particles[:, -1] = energy[:, -1] = 1.0
        for l in range(slices - 1, -1, -1):
            passing = 1.0 - stop[l] - split[l]
            outer = first[:, :, None] * first[:, None, :]
            second = 2 * split[l] * outer + (2 * split[l] * f + passing)[:, None, None] * second
            growth = (2 * split[l] * f + passing)[:, None]
            first, hits, particles = growth * first, growth * hits, growth * particles
            energy = (split[l] * f + passing)[:, None] * energy
            f = split[l] * f**2 + passing * f
            if stop[l] > 0 and layer_of_slice[l] != NO_LAYER:
                stopped = stop[l] * open_layers[:, layer_of_slice[l]]
                f = f + stopped
                first[:, layer_of_slice[l]] += stopped
                hits[:, l] += stopped
                energy[:, l] += stopped
            particles[:, l] += f
        number = np.array(config.primary_count.probabilities())
        n = np.arange(len(number))
        power = f[:, None] ** np.maximum(n - 1, 0)
        each = (number * n * power).sum(axis=1)[:, None]  # derivative of the generating function of the primaries
        pairs = (number * n * (n - 1) * f[:, None] ** np.maximum(n - 2, 0)).sum(axis=1)[:, None, None]
        self.probability = (number * f[:, None] ** n).sum(axis=1)
        self.layer_hits = each * first
        self.layer_pairs = each[:, :, None] * second + pairs * first[:, :, None] * first[:, None, :]
        self.hits = each * hits
        self.particles = each * particles
        # The shares of the primaries sum to 1. The other primaries must leave the closed layers empty, too.
        self.energy = (number[1:] * power[:, 1:]).sum(axis=1)[:, None] * energy
