"""ShowerConfig: every constant of the simulated physics, validated, with its JSON and TOML forms."""

import dataclasses
import json
import math
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from supa.checks import check_int, check_real, did_you_mean, format_value
from supa.initial_conditions import EnergyLike, EnergySpectrum, PrimaryCount, PrimaryCountLike
from supa.texts import read_json

MAX_SLICES = 62
MAX_POLAR_ANGLE = 1.5


@dataclass(frozen=True, kw_only=True)
class ShowerConfig:
    """Every constant of the walk and of its initial conditions; the defaults are the preset ``standard``.

    A particle that enters slice l stops there (leaving a hit), splits in two, or passes. Lengths are in the
    simulator's unit, energies in GeV, angles in radians. ``docs/physics.md`` derives each formula.

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

    num_slices: int = 28
    slice_spacing: float = 2.0
    stop_amplitude: float = 1.0
    stop_scale: float = 27.0
    stop_exponent: float = 0.75
    first_stop_slice: int = 7
    split_early: float = 0.6
    split_late: float = 0.3
    split_late_rule: Literal["fixed", "shared"] = "fixed"
    opening_angle: tuple[float, float] = (math.pi / 16, math.pi / 32)
    deviation: float = 0.25
    energy_sharing: Literal["balanced", "equal"] = "balanced"
    readout_layers: tuple[tuple[int, int], ...] = ((5, 8), (9, 17), (18, 27))
    frame: Literal["parent", "reference"] = "parent"
    critical_energy: float = 0.0
    incident_energy: EnergyLike = 65.0
    polar_angle: tuple[float, float] = (0.0, 0.0)
    azimuth: tuple[float, float] = (0.0, 0.0)
    impact_spread: float = 0.0
    num_primaries: PrimaryCountLike = 1

    def __post_init__(self) -> None:
        for name, check in _CHECKS.items():
            object.__setattr__(self, name, check(name, getattr(self, name)))
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

    def replace(self, **changes: Any) -> "ShowerConfig":
        """Return a copy with some constants changed.

        Args:
            **changes: fields and their new values.

        Returns:
            The changed config.

        Raises:
            ValueError: a name is not a field, or a value is not allowed.
        """
        return ShowerConfig(**{**_fields_of(self), **_known(changes)})

    def to_dict(self) -> dict[str, Any]:
        """Return the constants as plain numbers, texts and lists.

        Returns:
            A dictionary that ``from_dict`` reads and that JSON and TOML can hold.
        """
        plain = _fields_of(self)
        for name in ("incident_energy", "num_primaries"):
            plain[name] = str(plain[name])
        return {name: _listed(value) for name, value in plain.items()}

    @classmethod
    def from_dict(cls, constants: Mapping[str, Any]) -> "ShowerConfig":
        """Make a config from a dictionary; what it does not name keeps its default.

        Args:
            constants: fields and their values.

        Returns:
            The config.

        Raises:
            ValueError: a name is not a field, or a value is not allowed.
        """
        if not isinstance(constants, Mapping):
            raise ValueError(f"A config must be an object with one entry a constant, not {format_value(constants)}.")
        return cls(**_known(constants))

    def to_json(self) -> str:
        """Write the config as JSON.

        Returns:
            The text of one JSON object.
        """
        return json.dumps(self.to_dict(), indent=2)

    @classmethod
    def from_json(cls, text: str | bytes) -> "ShowerConfig":
        """Read a config from JSON.

        Args:
            text: one JSON object.

        Returns:
            The config.

        Raises:
            ValueError: the text is no JSON object, a name is not a field, or a value is not allowed.
        """
        try:
            constants = read_json(text)
        except ValueError as error:
            raise ValueError(f"The config is not valid JSON: {error}.") from None
        return cls.from_dict(constants)

    def to_toml(self) -> str:
        """Write the config as TOML.

        Returns:
            The text, one constant a line.
        """
        # Numbers, texts and nested lists are written alike in JSON and TOML.
        return "".join(f"{name} = {json.dumps(value)}\n" for name, value in self.to_dict().items())

    @classmethod
    def from_toml(cls, text: str) -> "ShowerConfig":
        """Read a config from TOML.

        Args:
            text: a TOML document with one key for each constant.

        Returns:
            The config.

        Raises:
            ValueError: the text is no TOML, a name is not a field, or a value is not allowed.
        """
        try:
            constants = tomllib.loads(text)
        except (tomllib.TOMLDecodeError, TypeError, RecursionError) as error:
            raise ValueError(f"The config is not valid TOML: {error}.") from None
        return cls.from_dict(constants)

    @classmethod
    def from_file(cls, path: str | PathLike[str]) -> "ShowerConfig":
        """Read a config from a ``.json`` or ``.toml`` file.

        Args:
            path: the file.

        Returns:
            The config.

        Raises:
            ValueError: the file cannot be read, has another ending, or holds no valid config.
        """
        path = Path(path)
        readers: dict[str, Callable[[str], ShowerConfig]] = {".json": cls.from_json, ".toml": cls.from_toml}
        if path.suffix not in readers:
            raise ValueError(f"{path}: a config file must end in .json or .toml.")
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{path}: the config file cannot be read ({error}).") from None
        try:
            return readers[path.suffix](text)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None


def _fields_of(config: ShowerConfig) -> dict[str, Any]:
    return {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}


def _known(constants: Mapping[str, Any]) -> Mapping[str, Any]:
    names = {field.name for field in dataclasses.fields(ShowerConfig)}
    for name in constants:
        if name not in names:
            raise ValueError(
                f"{name!r} is no constant of a ShowerConfig; choose from {', '.join(sorted(names))}."
                f"{did_you_mean(name, names)}"
            )
    return constants


def _listed(value: Any) -> Any:
    return [_listed(entry) for entry in value] if isinstance(value, tuple) else value


def _choice(choices: tuple[str, ...], name: str, value: object) -> str:
    if value not in choices:
        raise ValueError(
            f"{name}: {format_value(value)} was given, but it must be {' or '.join(repr(c) for c in choices)}."
            f"{did_you_mean(value, choices)}"
        )
    return str(value)


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
            "last slice), such "
            "as ((5, 8), (9, 17), (18, 27))."
        )
    bound = partial(check_int, 0, 10**6, name)
    return tuple((bound(first), bound(last)) for first, last in value)


_probability = partial(check_real, lambda v: 0 <= v <= 1, "from 0 to 1")
_positive = partial(check_real, lambda v: v > 0, "above 0")
_not_negative = partial(check_real, lambda v: v >= 0, "that is 0 or above")

_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "num_slices": partial(check_int, 1, MAX_SLICES),
    "slice_spacing": _positive,
    "stop_amplitude": _probability,
    "stop_scale": _positive,
    "stop_exponent": _not_negative,
    "first_stop_slice": partial(check_int, 0, MAX_SLICES),
    "split_early": _probability,
    "split_late": _probability,
    "split_late_rule": partial(_choice, ("fixed", "shared")),
    "opening_angle": partial(
        _pair, lambda v: 0 < v <= math.pi / 2, False, "in radians, above 0 and at most pi/2, the ends of the range"
    ),
    "deviation": partial(check_real, lambda v: 0 <= v < 0.5, "from 0 to below 0.5, the fraction of theta"),
    "energy_sharing": partial(_choice, ("balanced", "equal")),
    "readout_layers": _layers,
    "frame": partial(_choice, ("parent", "reference")),
    "critical_energy": _not_negative,
    "incident_energy": lambda name, value: EnergySpectrum.parse(value),
    "polar_angle": partial(
        _pair, lambda v: 0 <= v <= MAX_POLAR_ANGLE, True, f"in radians, ascending, from 0 to {MAX_POLAR_ANGLE}"
    ),
    "azimuth": partial(_pair, lambda v: abs(v) <= 2 * math.pi, True, "in radians, ascending, from -2 pi to 2 pi"),
    "impact_spread": _not_negative,
    "num_primaries": lambda name, value: PrimaryCount.parse(value),
}
