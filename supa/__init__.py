"""SUPA: particle showers whose truth is known, in any amount, from a branching walk through slices of matter."""

import importlib
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from supa.config import ShowerConfig
from supa.expectations import Expectation, NoClosedFormError, expectation
from supa.grids import CALOGAN, Cartesian, Grid, Polar
from supa.imported import from_hits
from supa.initial import EnergySpectrum, PrimaryCount
from supa.presets import PRESETS, Preset, preset, preset_name
from supa.ragged import Ragged
from supa.showers import Run, Showers
from supa.simulation import simulate, stream

if TYPE_CHECKING:
    from supa.comparison import Comparison, compare, write_report

__version__ = version("supa-showers")

# Looked up when they are asked for: who simulates need not wait for the observables and distances.
_OF_COMPARISON = ("Comparison", "compare", "write_report")

__all__ = [
    "CALOGAN",
    "PRESETS",
    "Cartesian",
    "Comparison",
    "EnergySpectrum",
    "Expectation",
    "Grid",
    "NoClosedFormError",
    "Polar",
    "Preset",
    "PrimaryCount",
    "Ragged",
    "Run",
    "ShowerConfig",
    "Showers",
    "__version__",
    "compare",
    "expectation",
    "from_hits",
    "preset",
    "preset_name",
    "simulate",
    "stream",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name in _OF_COMPARISON:
        return getattr(importlib.import_module("supa.comparison"), name)
    raise AttributeError(f"module 'supa' has no attribute {name!r}")
