"""Presets, which are named configs.

``supa presets`` and the page *Presets* of the documentation list their exact expectations.
"""

import math
from dataclasses import dataclass
from typing import TypeAlias

from supa.checks import did_you_mean
from supa.config import ShowerConfig

ConfigLike: TypeAlias = str | ShowerConfig


@dataclass(frozen=True)
class Preset:
    """Named config.

    Args:
        name: Name of the preset on the command line and in Python.
        summary: Description of the preset in one line.
        config: Constants of the preset.

    Example:
        >>> import supa
        >>> list(supa.PRESETS)[:3]
        ['standard', 'reference', 'dense']
        >>> supa.PRESETS["dense"].config.split_late_rule
        'shared'
    """

    name: str
    summary: str
    config: ShowerConfig


_STANDARD = ShowerConfig()

PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            "standard",
            "the constants of the public reference code, with corrected directions and all 28 slices",
            _STANDARD,
        ),
        Preset(
            "reference",
            "exactly as in the public reference code: 24 slices, children rotated by the transposed matrix",
            _STANDARD.replace(num_slices=24, frame="reference"),
        ),
        Preset(
            "dense",
            "the constants of the first published version of the reference code: 17 times as many hits",
            _STANDARD.replace(
                num_slices=24,
                stop_amplitude=0.9,
                stop_exponent=1.25,
                split_early=0.8,
                split_late=0.8,
                split_late_rule="shared",
            ),
        ),
        Preset(
            "no-pass",
            "every particle stops or splits, none passes: binary trees",
            _STANDARD.replace(split_early=1.0, split_late=1.0),
        ),
        Preset(
            "symmetric",
            "fixed opening angle of pi/24 and equal energies: only fates and azimuths are random",
            _STANDARD.replace(opening_angle=(math.pi / 24, math.pi / 24), deviation=0.0),
        ),
        Preset(
            "single-layer",
            "standard with a single readout layer",
            _STANDARD.replace(readout_layers=((5, 27),)),
        ),
        Preset(
            "critical",
            "standard with an energy cut-off of 0.2 GeV and 1 to 100 GeV: the number of hits grows with log E",
            _STANDARD.replace(
                critical_energy=0.2, readout_layers=((0, 8), (9, 17), (18, 27)), incident_energy="log:1:100"
            ),
        ),
        Preset(
            "two-primaries",
            "two primaries that share the energy, with impact points spread by 2 length units around the axis",
            _STANDARD.replace(num_primaries=2, impact_spread=2.0),
        ),
    )
}
"""Presets by name."""


def preset(name: str) -> ShowerConfig:
    """Return the config of a preset.

    Args:
        name: Name of the preset, one of `PRESETS`.

    Returns:
        Config of the preset.

    Raises:
        ValueError: If there is no preset of this name.

    Example:
        >>> import supa
        >>> supa.preset("standard") == supa.ShowerConfig()
        True
        >>> supa.preset("dense").num_slices
        24
        >>> supa.preset("dens")
        Traceback (most recent call last):
        ValueError: There is no preset 'dens'; choose from standard, reference, ... Did you mean 'dense'?
    """
    if name not in PRESETS:
        raise ValueError(f"There is no preset {name!r}; choose from {', '.join(PRESETS)}.{did_you_mean(name, PRESETS)}")
    return PRESETS[name].config


def preset_name(config: ShowerConfig) -> str | None:
    """Return the name of the preset that equals a config, apart from the incident energy.

    Args:
        config: Config to look up.

    Returns:
        Name of the preset, or None if no preset matches.

    Example:
        >>> import supa
        >>> supa.preset_name(supa.ShowerConfig(incident_energy="1:100"))
        'standard'
        >>> supa.preset_name(supa.ShowerConfig(split_early=0.7)) is None
        True
    """
    for candidate in PRESETS.values():
        if candidate.config.replace(incident_energy=config.incident_energy) == config:
            return candidate.name
    return None


def as_config(config: ConfigLike) -> ShowerConfig:
    """Return a config, given a config or the name of a preset.

    Args:
        config: Name of a preset, or a config.

    Returns:
        The config.

    Raises:
        ValueError: If there is no preset of this name, or if the value is neither a name nor a config.
    """
    if isinstance(config, str):
        return preset(config)
    if not isinstance(config, ShowerConfig):
        raise ValueError(f"config: {config!r} was given, but it must be the name of a preset or a ShowerConfig.")
    return config
