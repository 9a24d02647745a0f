"""ShowerConfig: every constant of the simulated physics, validated."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

from supa.checks import check_int, check_real, format_value
from supa.initial_conditions import EnergyLike, EnergySpectrum, PrimaryCount, PrimaryCountLike
from supa.serialise import Config

MAX_SLICES = 62
MAX_POLAR_ANGLE = 1.5


def _pair(allowed: Callable[[float], bool], ordered: bool, words: str, name: str, value: object) -> tuple[float, float]:
    message = f"{name}: {format_value(value)} was given, but it must be two numbers {words}."
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise ValueError(message)
    try:
        first, second = (check_real(allowed, words, name, entry) for entry in value)
    except ValueError:
        raise ValueError(message) from None
    if ordered and first > second:
        raise ValueError(message)
    return first, second


def _layers(name: str, value: object) -> tuple[tuple[int, int], ...]:
    shape = isinstance(value, list | tuple) and all(isinstance(e, list | tuple) and len(e) == 2 for e in value)
    if not shape or not isinstance(value, list | tuple) or not 1 <= len(value) <= MAX_SLICES:
        raise ValueError(
            f"{name}: {format_value(value)} was given, but it must be 1 to {MAX_SLICES} pairs (first slice, "
            "last slice), such as ((5, 8), (9, 17), (18, 27))."
        )
    bound = partial(check_int, 0, 10**6, name)
    return tuple((bound(first), bound(last)) for first, last in value)


Probability = Annotated[float, partial(check_real, lambda v: 0 <= v <= 1, "from 0 to 1")]
Positive = Annotated[float, partial(check_real, lambda v: v > 0, "above 0")]
NotNegative = Annotated[float, partial(check_real, lambda v: v >= 0, "that is 0 or above")]
OpeningAngle = Annotated[
    tuple[float, float],
    partial(
        _pair, lambda v: 0 < v <= math.pi / 2, False, "in radians, above 0 and at most pi/2, the ends of the range"
    ),
]
PolarAngle = Annotated[
    tuple[float, float],
    partial(_pair, lambda v: 0 <= v <= MAX_POLAR_ANGLE, True, f"in radians, ascending, from 0 to {MAX_POLAR_ANGLE}"),
]
Azimuth = Annotated[
    tuple[float, float],
    partial(_pair, lambda v: abs(v) <= 2 * math.pi, True, "in radians, ascending, from -2 pi to 2 pi"),
]


@dataclass(frozen=True, kw_only=True)
class ShowerConfig(Config):
    """Every constant of the walk and of its initial conditions; the defaults are the preset ``standard``.

    A particle that enters slice l stops there (leaving a hit), splits in two, or passes. Lengths are in the
    simulator's unit, energies in GeV, angles in radians. ``docs/explanation/physics.md`` derives each formula.

    Args:
        num_slices: slices that are simulated, numbered from 0; what leaves the last one leaks. 1 to 62.
        slice_spacing: distance between two slices (length unit).
        stop_amplitude: height a of the stop curve p_stop(l) = min(1, a (l / stop_scale) ** stop_exponent), 0 to 1.
        stop_scale: the slice at which the stop curve reaches its amplitude.
        stop_exponent: exponent of the stop curve, at least 0.
        first_stop_slice: the slice from which particles may stop; the slices before it are "early", the others "late".
        split_early: probability to split in an early slice.
        split_late: probability to split in a late slice, see ``split_late_rule``.
        split_late_rule: ``"fixed"``: the probability is ``split_late``, or what stopping leaves if that is less;
            ``"shared"``: stopping and splitting together have the probability ``split_late``.
        opening_angle: the angle theta between two children is uniform from the first value to the second.
        deviation: delta is uniform within +-deviation * theta; the children leave at theta/2 -+ delta. 0 to below 0.5.
        energy_sharing: ``"balanced"``: E1 theta1 = E2 theta2; ``"equal"``: half and half.
        readout_layers: (first slice, last slice) of each readout layer, both included.
        frame: ``"parent"``: children leave at theta1 and theta2 from their parent's direction; ``"reference"``: with
            the rotation of the public reference code, which is the transpose of that.
        critical_energy: a particle below this energy stops at once (GeV); 0 is off.
        incident_energy: energy of a shower (GeV): 65, "1:100", "log:1:100", "10,20,50"; see ``EnergySpectrum``.
        polar_angle: range of the primaries' polar angle, drawn uniformly in the angle; 0 to 1.5.
        azimuth: range of the primaries' azimuth, drawn uniformly; -2 pi to 2 pi.
        impact_spread: standard deviation of the normal law of the impact point's x and of its y (length unit).
        num_primaries: 1, 2, ... or "poisson:MEAN"; the incident energy is shared uniformly over all divisions.

    Raises:
        ValueError: a constant is outside its range, or two of them contradict each other.
    """

    num_slices: Annotated[int, partial(check_int, 1, MAX_SLICES)] = 28
    slice_spacing: Positive = 2.0
    stop_amplitude: Probability = 1.0
    stop_scale: Positive = 27.0
    stop_exponent: NotNegative = 0.75
    first_stop_slice: Annotated[int, partial(check_int, 0, MAX_SLICES)] = 7
    split_early: Probability = 0.6
    split_late: Probability = 0.3
    split_late_rule: Literal["fixed", "shared"] = "fixed"
    opening_angle: OpeningAngle = (math.pi / 16, math.pi / 32)
    deviation: Annotated[
        float, partial(check_real, lambda v: 0 <= v < 0.5, "from 0 to below 0.5, the share of theta")
    ] = 0.25
    energy_sharing: Literal["balanced", "equal"] = "balanced"
    readout_layers: Annotated[tuple[tuple[int, int], ...], _layers] = ((5, 8), (9, 17), (18, 27))
    frame: Literal["parent", "reference"] = "parent"
    critical_energy: NotNegative = 0.0
    incident_energy: Annotated[EnergyLike, lambda _, value: EnergySpectrum.parse(value)] = 65.0
    polar_angle: PolarAngle = (0.0, 0.0)
    azimuth: Azimuth = (0.0, 0.0)
    impact_spread: NotNegative = 0.0
    num_primaries: Annotated[PrimaryCountLike, lambda _, value: PrimaryCount.parse(value)] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.first_stop_slice > self.num_slices:
            raise ValueError(
                f"first_stop_slice: {self.first_stop_slice} was given, but there are only {self.num_slices} slices "
                "(num_slices); it can be at most that."
            )
        self._check_layers()

    def _check_layers(self) -> None:
        layers = self.readout_layers
        for layer, (first, last) in enumerate(layers):
            if first >= self.num_slices:
                raise ValueError(
                    f"readout_layers: layer {layer} (slices {first} to {last}) lies behind the last slice "
                    f"{self.num_slices - 1}; move it forward or raise num_slices."
                )
            if first > last or (layer and first <= layers[layer - 1][1]):
                raise ValueError(
                    f"readout_layers: {layers} was given, but each layer must be (first slice, last slice) and begin "
                    "behind the one before it."
                )
        earliest = 0 if self.critical_energy > 0 else self.first_stop_slice
        unread = sorted(set(range(earliest, self.num_slices)) - {s for a, b in layers for s in range(a, b + 1)})
        if unread:
            raise ValueError(
                f"readout_layers: particles can stop in slice {unread[0]}, which belongs to no layer of {layers}; "
                f"cover every slice from {earliest} to {self.num_slices - 1}."
            )

    @property
    def spectrum(self) -> EnergySpectrum:
        """The law of the incident energy."""
        return EnergySpectrum.parse(self.incident_energy)

    @property
    def primary_count(self) -> PrimaryCount:
        """The law of the number of primaries."""
        return PrimaryCount.parse(self.num_primaries)

    @property
    def num_layers(self) -> int:
        """Number of readout layers."""
        return len(self.readout_layers)

    def to_dict(self) -> dict[str, Any]:
        """Return the constants as plain values; laws are written as text."""
        laws = {"incident_energy": str(self.incident_energy), "num_primaries": str(self.num_primaries)}
        return super().to_dict() | laws
