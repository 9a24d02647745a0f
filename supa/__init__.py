"""Simulate particle showers as a branching process through slices of matter, and compare samples of showers.

The main entry points are `simulate`, `stream`, `expectation` and `compare`.
"""

from typing import TYPE_CHECKING

from supa.lazy_imports import lazy_names

if TYPE_CHECKING:
    from supa.cells import Cartesian as Cartesian
    from supa.cells import Polar as Polar
    from supa.comparison import Comparison as Comparison
    from supa.comparison import compare as compare
    from supa.comparison import write_report as write_report
    from supa.config import ShowerConfig as ShowerConfig
    from supa.expectations import Expectation as Expectation
    from supa.expectations import NoClosedFormError as NoClosedFormError
    from supa.expectations import expectation as expectation
    from supa.external import from_hits as from_hits
    from supa.gpu import GpuShowers as GpuShowers
    from supa.gpu import simulate_on_gpu as simulate_on_gpu
    from supa.grids import CALOGAN as CALOGAN
    from supa.grids import Grid as Grid
    from supa.initial_conditions import EnergySpectrum as EnergySpectrum
    from supa.initial_conditions import PrimaryCount as PrimaryCount
    from supa.presets import PRESETS as PRESETS
    from supa.presets import Preset as Preset
    from supa.presets import preset as preset
    from supa.presets import preset_name as preset_name
    from supa.ragged import Ragged as Ragged
    from supa.refined import Refinement as Refinement
    from supa.showers import Run as Run
    from supa.showers import Showers as Showers
    from supa.simulation import simulate as simulate
    from supa.simulation import stream as stream
    from supa.version import __version__ as __version__

__getattr__, __dir__, __all__ = lazy_names(__name__)
