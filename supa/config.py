"""The constants of the simulated physics, with validation."""

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
NotNegative = Annotated[float, partial(check_real, lambda v: v >= 0, "of at least 0")]
OpeningAngle = Annotated[
    tuple[float, float],
    partial(_pair, lambda v: 0 < v <= math.pi / 2, False, "in radians, each above 0 and at most pi/2"),
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
    """Constants of the simulated physics and of its initial conditions.

    A particle that enters slice l stops there and leaves a hit, splits in two, or passes to slice l + 1. The defaults
    are those of the preset ``standard``. Lengths are in the length unit of the simulator, energies in GeV, angles in
    radians. The page *The physics* of the documentation explains each formula.

    A config is immutable and hashable. `ShowerConfig.replace` returns a changed copy; ``to_toml``, ``to_json``,
    ``to_dict``, ``from_file`` and their counterparts write and read configs.

    Args:
        num_slices: Number of slices, from 1 to 62, numbered from 0. Particles that leave the last slice leak.
        slice_spacing: Distance between two slices (length unit).
        stop_amplitude: Amplitude a of the stop probability, from 0 to 1. In slice l a particle stops with the
            probability p_stop(l) = min(1, a (l / stop_scale) ** stop_exponent).
        stop_scale: Slice number at which the stop probability equals its amplitude.
        stop_exponent: Exponent of the stop probability, at least 0.
        first_stop_slice: First slice in which particles can stop. The slices before it are called early, the others
            late.
        split_early: Probability to split in an early slice.
        split_late: Probability to split in a late slice; see ``split_late_rule``.
        split_late_rule: ``"fixed"``: a particle splits with probability min(split_late, 1 - p_stop). ``"shared"``: it
            splits with probability max(0, split_late - p_stop), so that stopping and splitting share ``split_late``.
        opening_angle: Range (first, last) of the angle theta between two children, drawn uniformly; each above 0 and
            at most pi/2.
        deviation: Largest absolute value of delta / theta, from 0 to below 0.5. The angle delta is uniform between
            -deviation * theta and +deviation * theta; the children leave at theta/2 - delta and theta/2 + delta.
        energy_sharing: ``"balanced"``: the children share the energy such that E1 theta1 = E2 theta2. ``"equal"``: each
            child receives one half.
        readout_layers: Pairs (first slice, last slice), both inclusive, one for each readout layer. Every slice in
            which particles can stop must belong to a layer.
        frame: ``"parent"``: the angles of the children are measured from the direction of their parent.
            ``"reference"``: use the rotation matrix of the public reference code, which is the transpose.
        critical_energy: Energy in GeV below which a particle stops immediately. 0 disables the cut-off.
        incident_energy: Distribution of the incident energy in GeV: 65, ``"1:100"``, ``"log:1:100"`` or
            ``"10,20,50"``; see `EnergySpectrum`.
        polar_angle: Range (lowest, highest) of the polar angle of the primaries, drawn uniformly; from 0 to 1.5.
        azimuth: Range (lowest, highest) of the azimuth of the primaries, drawn uniformly; from -2 pi to 2 pi.
        impact_spread: Standard deviation of the normal distribution of the impact point, in x and in y (length unit).
        num_primaries: Number of primaries: 1, 2, ... or ``"poisson:MEAN"``; see `PrimaryCount`. The primaries share
            the incident energy; all divisions of the energy are equally likely.

    Raises:
        ValueError: If a constant is outside its range or two constants contradict each other.

    Example:
        >>> import supa
        >>> config = supa.ShowerConfig(num_slices=12, readout_layers=((7, 9), (10, 11)), incident_energy="1:100")
        >>> config.num_layers
        2
        >>> hot = config.replace(split_early=0.8)
        >>> hot == supa.ShowerConfig.from_toml(hot.to_toml())
        True
        >>> config.replace(split_early=1.8)
        Traceback (most recent call last):
        ValueError: split_early: 1.8 was given, but it must be a number from 0 to 1.
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
    deviation: Annotated[float, partial(check_real, lambda v: 0 <= v < 0.5, "from 0 to below 0.5")] = 0.25
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
                f"first_stop_slice: {self.first_stop_slice} was given, but it must be at most num_slices = "
                f"{self.num_slices}."
            )
        self._check_layers()

    def _check_layers(self) -> None:
        layers = self.readout_layers
        for layer, (first, last) in enumerate(layers):
            if first >= self.num_slices:
                raise ValueError(
                    f"readout_layers: layer {layer} (slices {first} to {last}) starts after the last slice, "
                    f"{self.num_slices - 1}; start it earlier or raise num_slices."
                )
            if first > last or (layer and first <= layers[layer - 1][1]):
                raise ValueError(
                    f"readout_layers: {layers} was given, but each layer must be (first slice, last slice) and start "
                    "after the previous one."
                )
        earliest = 0 if self.critical_energy > 0 else self.first_stop_slice
        unread = sorted(set(range(earliest, self.num_slices)) - {s for a, b in layers for s in range(a, b + 1)})
        if unread:
            raise ValueError(
                f"readout_layers: particles can stop in slice {unread[0]}, which is not in any layer of {layers}; "
                f"cover every slice from {earliest} to {self.num_slices - 1}."
            )

    @property
    def spectrum(self) -> EnergySpectrum:
        """Distribution of the incident energy."""
        return EnergySpectrum.parse(self.incident_energy)

    @property
    def primary_count(self) -> PrimaryCount:
        """Distribution of the number of primaries."""
        return PrimaryCount.parse(self.num_primaries)

    @property
    def num_layers(self) -> int:
        """Number of readout layers."""
        return len(self.readout_layers)

    def to_dict(self) -> dict[str, Any]:
        """Return the constants as plain values.

        Returns:
            Value of each constant by name. ``incident_energy`` and ``num_primaries`` are strings.
        """
        texts = {"incident_energy": str(self.incident_energy), "num_primaries": str(self.num_primaries)}
        return super().to_dict() | texts
