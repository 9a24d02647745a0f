"""Graph benchmarks by name: downloaded by PyTorch Geometric, or made from raw files on the disk without a network."""

from supa_datasets.graph_benchmarks.sets import GraphBenchmark, degree_features, load_benchmark
from supa_datasets.graph_benchmarks.sources import BENCHMARKS, BenchmarkSource

__all__ = ["BENCHMARKS", "BenchmarkSource", "GraphBenchmark", "degree_features", "load_benchmark"]
