"""Shower files, conversions, and loaders that give showers to PyTorch as points, graphs, sequences and images."""

import importlib
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from supa_datasets.conversion.awkward_arrays import from_awkward
    from supa_datasets.conversion.binning import read_binning
    from supa_datasets.conversion.converter import convert
    from supa_datasets.conversion.formats import Format
    from supa_datasets.conversion.registry import FORMATS
    from supa_datasets.graph_benchmarks import BENCHMARKS, BenchmarkSource, GraphBenchmark, load_benchmark
    from supa_datasets.hdf5 import ShowerFile, load, save
    from supa_datasets.hdf5_create import COMPRESSIONS, Compression
    from supa_datasets.loaders.batches import BucketSampler
    from supa_datasets.loaders.edges import Nearest, Tree, Within
    from supa_datasets.loaders.graphs import GraphDataset
    from supa_datasets.loaders.images import ImageDataset
    from supa_datasets.loaders.normalisation import Normalisation
    from supa_datasets.loaders.points import PointDataset
    from supa_datasets.loaders.sequences import SequenceDataset
    from supa_datasets.loaders.splits import SPLITS, in_split
    from supa_datasets.loaders.targets import TARGETS, Target
    from supa_datasets.loaders.tasks import PRESET_CLASSES
    from supa_datasets.resume import ResumeInfo, resumable
    from supa_datasets.validation import Fault
    from supa_datasets.writer import ShowerWriter

_MODULES = {
    "graph_benchmarks": ("BENCHMARKS", "BenchmarkSource", "GraphBenchmark", "load_benchmark"),
    "conversion.awkward_arrays": ("from_awkward",),
    "conversion.binning": ("read_binning",),
    "conversion.converter": ("convert",),
    "conversion.formats": ("Format",),
    "conversion.registry": ("FORMATS",),
    "hdf5": ("ShowerFile", "load", "save"),
    "hdf5_create": ("COMPRESSIONS", "Compression"),
    "loaders.batches": ("BucketSampler",),
    "loaders.edges": ("Nearest", "Tree", "Within"),
    "loaders.graphs": ("GraphDataset",),
    "loaders.images": ("ImageDataset",),
    "loaders.normalisation": ("Normalisation",),
    "loaders.points": ("PointDataset",),
    "loaders.sequences": ("SequenceDataset",),
    "loaders.splits": ("SPLITS", "in_split"),
    "loaders.targets": ("TARGETS", "Target"),
    "loaders.tasks": ("PRESET_CLASSES",),
    "resume": ("ResumeInfo", "resumable"),
    "validation": ("Fault",),
    "writer": ("ShowerWriter",),
}

__all__ = [
    "BENCHMARKS",
    "COMPRESSIONS",
    "FORMATS",
    "PRESET_CLASSES",
    "SPLITS",
    "TARGETS",
    "BenchmarkSource",
    "BucketSampler",
    "Compression",
    "Fault",
    "Format",
    "GraphBenchmark",
    "GraphDataset",
    "ImageDataset",
    "Nearest",
    "Normalisation",
    "PointDataset",
    "ResumeInfo",
    "SequenceDataset",
    "ShowerFile",
    "ShowerWriter",
    "Target",
    "Tree",
    "Within",
    "convert",
    "from_awkward",
    "in_split",
    "load",
    "load_benchmark",
    "read_binning",
    "resumable",
    "save",
]


def __getattr__(name: str) -> Any:
    # Looked up when they are asked for: HDF5 and Numba take a while to load; PyTorch takes seconds, and is not always
    # installed.
    module = next((module for module, names in _MODULES.items() if name in names), None)
    if module is None:
        if not name.startswith("_") and find_spec(f"supa_datasets.{name}"):
            return importlib.import_module(f"supa_datasets.{name}")
        raise AttributeError(f"module 'supa_datasets' has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(f"supa_datasets.{module}"), name)
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "torch_geometric"):
            raise
        raise ImportError(
            f"supa_datasets.{name} needs the package {error.name}: pip install 'supa-showers[learn]'."
        ) from None


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
