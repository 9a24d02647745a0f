"""Graph benchmarks by name, from raw files on the disk or downloaded by PyTorch Geometric."""

from supa_datasets.graph_benchmarks.sets import GraphBenchmark, degree_features, load_benchmark
from supa_datasets.graph_benchmarks.sources import BENCHMARKS, BenchmarkSource

__all__ = ["BENCHMARKS", "BenchmarkSource", "GraphBenchmark", "degree_features", "load_benchmark"]
