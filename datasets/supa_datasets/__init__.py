"""Shower files, conversions, and what researchers load from them."""

from supa_datasets.conversion.awkward_arrays import from_awkward
from supa_datasets.conversion.binning import read_binning
from supa_datasets.conversion.converter import convert
from supa_datasets.conversion.formats import Format
from supa_datasets.conversion.registry import FORMATS
from supa_datasets.hdf5 import COMPRESSIONS, Compression, ShowerFile, ShowerWriter, Stored, load, resumable, save

__all__ = [
    "COMPRESSIONS",
    "FORMATS",
    "Compression",
    "Format",
    "ShowerFile",
    "ShowerWriter",
    "Stored",
    "convert",
    "from_awkward",
    "load",
    "read_binning",
    "resumable",
    "save",
]
