"""SUPA: particle showers whose truth is known, in any amount, from a branching walk through slices of matter."""

from importlib.metadata import version

from supa.config import ShowerConfig
from supa.expectations import Expectation, NoClosedFormError, expectation
from supa.initial import EnergySpectrum, PrimaryCount
from supa.presets import PRESETS, Preset, preset, preset_name
from supa.ragged import Ragged
from supa.showers import Run, Showers
from supa.simulation import simulate, stream

__version__ = version("supa-showers")

__all__ = [
    "PRESETS",
    "EnergySpectrum",
    "Expectation",
    "NoClosedFormError",
    "Preset",
    "PrimaryCount",
    "Ragged",
    "Run",
    "ShowerConfig",
    "Showers",
    "__version__",
    "expectation",
    "preset",
    "preset_name",
    "simulate",
    "stream",
]
