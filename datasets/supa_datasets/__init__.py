"""Shower files, conversions to other formats, and PyTorch datasets of showers, with graph benchmarks."""

from typing import TYPE_CHECKING

from supa.lazy_imports import lazy_names

if TYPE_CHECKING:
    from supa_datasets.benchmark_tasks.definitions import benchmark_names as benchmark_names
    from supa_datasets.benchmark_tasks.predictions import save_predictions as save_predictions
    from supa_datasets.benchmark_tasks.ranking import add_score as add_score
    from supa_datasets.benchmark_tasks.ranking import rank_scores as rank_scores
    from supa_datasets.benchmark_tasks.ranking import read_scores as read_scores
    from supa_datasets.benchmark_tasks.score import Score as Score
    from supa_datasets.benchmark_tasks.score import ScoreMetric as ScoreMetric
    from supa_datasets.benchmark_tasks.scoring import score_file as score_file
    from supa_datasets.benchmark_tasks.scoring import score_predictions as score_predictions
    from supa_datasets.benchmark_tasks.scoring import score_showers as score_showers
    from supa_datasets.benchmark_tasks.task import BenchmarkTask as BenchmarkTask
    from supa_datasets.benchmark_tasks.task import benchmark_task as benchmark_task
    from supa_datasets.compression import COMPRESSIONS as COMPRESSIONS
    from supa_datasets.compression import Compression as Compression
    from supa_datasets.conversion.awkward_arrays import from_awkward as from_awkward
    from supa_datasets.conversion.binning import read_binning as read_binning
    from supa_datasets.conversion.converter import convert as convert
    from supa_datasets.conversion.formats import Format as Format
    from supa_datasets.conversion.registry import FORMATS as FORMATS
    from supa_datasets.events import overlay_events as overlay_events
    from supa_datasets.graph_benchmarks import BENCHMARKS as BENCHMARKS
    from supa_datasets.graph_benchmarks import BenchmarkSource as BenchmarkSource
    from supa_datasets.graph_benchmarks import GraphBenchmark as GraphBenchmark
    from supa_datasets.graph_benchmarks import load_benchmark as load_benchmark
    from supa_datasets.hdf5 import ShowerFile as ShowerFile
    from supa_datasets.hdf5 import load as load
    from supa_datasets.hdf5 import save as save
    from supa_datasets.loaders.batches import BucketSampler as BucketSampler
    from supa_datasets.loaders.edges import Nearest as Nearest
    from supa_datasets.loaders.edges import Tree as Tree
    from supa_datasets.loaders.edges import Within as Within
    from supa_datasets.loaders.graphs import GraphDataset as GraphDataset
    from supa_datasets.loaders.images import ImageDataset as ImageDataset
    from supa_datasets.loaders.normalisation import Normalisation as Normalisation
    from supa_datasets.loaders.points import PointDataset as PointDataset
    from supa_datasets.loaders.sequences import SequenceDataset as SequenceDataset
    from supa_datasets.loaders.splits import SPLITS as SPLITS
    from supa_datasets.loaders.splits import in_split as in_split
    from supa_datasets.loaders.targets import TARGETS as TARGETS
    from supa_datasets.loaders.targets import Target as Target
    from supa_datasets.loaders.tasks import PRESET_CLASSES as PRESET_CLASSES
    from supa_datasets.resume import ResumeInfo as ResumeInfo
    from supa_datasets.resume import resumable as resumable
    from supa_datasets.shards.generate import generate_shards as generate_shards
    from supa_datasets.shards.merge import merge_shards as merge_shards
    from supa_datasets.shards.report import ShardProgress as ShardProgress
    from supa_datasets.shards.report import ShardReport as ShardReport
    from supa_datasets.streams.shower_stream import ShowerStream as ShowerStream
    from supa_datasets.validation import Fault as Fault
    from supa_datasets.writer import ShowerWriter as ShowerWriter

__getattr__, __dir__, __all__ = lazy_names(__name__)
