"""SUPA: particle showers whose truth is known, in any amount, from a branching walk through slices of matter."""

import importlib
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from supa.cells import Cartesian, Polar
    from supa.comparison import Comparison, compare, write_report
    from supa.config import ShowerConfig
    from supa.expectations import Expectation, NoClosedFormError, expectation
    from supa.external import from_hits
    from supa.grids import CALOGAN, Grid
    from supa.initial_conditions import EnergySpectrum, PrimaryCount
    from supa.presets import PRESETS, Preset, preset, preset_name
    from supa.ragged import Ragged
    from supa.showers import Run, Showers
    from supa.simulation import simulate, stream

    __version__: str

_MODULES = {
    "cells": ("Cartesian", "Polar"),
    "comparison": ("Comparison", "compare", "write_report"),
    "config": ("ShowerConfig",),
    "expectations": ("Expectation", "NoClosedFormError", "expectation"),
    "grids": ("CALOGAN", "Grid"),
    "external": ("from_hits",),
    "initial_conditions": ("EnergySpectrum", "PrimaryCount"),
    "presets": ("PRESETS", "Preset", "preset", "preset_name"),
    "ragged": ("Ragged",),
    "showers": ("Run", "Showers"),
    "simulation": ("simulate", "stream"),
}

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
    # Looked up when they are asked for: a command that checks its options need not wait for Numba.
    if name == "__version__":
        from importlib.metadata import version

        return version("supa-showers")
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(f"supa.{module}"), name)
    if not name.startswith("_") and find_spec(f"supa.{name}"):
        return importlib.import_module(f"supa.{name}")
    raise AttributeError(f"module 'supa' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
