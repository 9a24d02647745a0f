"""Shower files, and what researchers load from them."""

from supa_datasets.hdf5 import COMPRESSIONS, Compression, ShowerFile, ShowerWriter, Stored, load, resumable, save

__all__ = ["COMPRESSIONS", "Compression", "ShowerFile", "ShowerWriter", "Stored", "load", "resumable", "save"]
