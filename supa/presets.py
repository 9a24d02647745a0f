"""The named configs. Their exact expectations are listed by ``supa presets`` and in ``docs/reference/presets.md``."""

import math
from dataclasses import dataclass
from typing import TypeAlias

from supa.checks import did_you_mean
from supa.config import ShowerConfig

ConfigLike: TypeAlias = str | ShowerConfig


@dataclass(frozen=True)
class Preset:
    """A named config.

    Args:
        name: its name on the command line and in Python.
        summary: one line on what it is for.
        config: the constants.
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
            "the reference's constants with its frame and its number of slices put right",
            _STANDARD,
        ),
        Preset(
            "reference",
            "the public reference code to the letter: 24 slices, children turned by the transposed rotation",
            _STANDARD.replace(num_slices=24, frame="reference"),
        ),
        Preset(
            "dense",
            "the reference's first published parameters: 17 times the hits, nearly every shower complete",
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
            "whatever does not stop splits, so the tree is binary and its depth is its number of splits",
            _STANDARD.replace(split_early=1.0, split_late=1.0),
        ),
        Preset(
            "symmetric",
            "fixed opening angle pi/24, equal energies: only fates and azimuths are random",
            _STANDARD.replace(opening_angle=(math.pi / 24, math.pi / 24), deviation=0.0),
        ),
        Preset(
            "single-layer",
            "standard read out by one layer",
            _STANDARD.replace(readout_layers=((5, 27),)),
        ),
        Preset(
            "critical",
            "standard with an energy cut-off of 0.2 GeV and energies from 1 to 100 GeV: hits grow with log E",
            _STANDARD.replace(
                critical_energy=0.2, readout_layers=((0, 8), (9, 17), (18, 27)), incident_energy="log:1:100"
            ),
        ),
        Preset(
            "two-primaries",
            "two primaries that hit 2 units (1 slice spacing) around the axis and share the energy",
            _STANDARD.replace(num_primaries=2, impact_spread=2.0),
        ),
    )
}


def preset(name: str) -> ShowerConfig:
    """Return the config of a preset.

    Args:
        name: the preset's name.

    Returns:
        The config.

    Raises:
        ValueError: there is no preset of this name.
    """
    if name not in PRESETS:
        raise ValueError(f"There is no preset {name!r}; choose from {', '.join(PRESETS)}.{did_you_mean(name, PRESETS)}")
    return PRESETS[name].config


def preset_name(config: ShowerConfig) -> str | None:
    """Return which preset a config is, whatever its incident energy.

    Args:
        config: the config.

    Returns:
        The preset's name, or None if it is none.
    """
    for candidate in PRESETS.values():
        if candidate.config.replace(incident_energy=config.incident_energy) == config:
            return candidate.name
    return None


def as_config(config: ConfigLike) -> ShowerConfig:
    """Accept a preset's name where a config is wanted.

    Args:
        config: a preset's name or a config.

    Returns:
        The config.

    Raises:
        ValueError: there is no preset of this name, or it is neither a name nor a config.
    """
    if isinstance(config, str):
        return preset(config)
    if not isinstance(config, ShowerConfig):
        raise ValueError(f"config: {config!r} was given, but it must be a preset's name or a ShowerConfig.")
    return config
