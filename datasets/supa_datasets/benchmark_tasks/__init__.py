"""Benchmark tasks: showers by name, and the scores of generated showers and of predictions."""

from supa_datasets.benchmark_tasks.predictions import save_predictions
from supa_datasets.benchmark_tasks.ranking import add_score, rank_scores, read_scores
from supa_datasets.benchmark_tasks.score import Score, ScoreMetric
from supa_datasets.benchmark_tasks.scoring import score_file, score_predictions, score_showers
from supa_datasets.benchmark_tasks.task import BenchmarkTask, benchmark_names, benchmark_task

__all__ = [
    "BenchmarkTask",
    "Score",
    "ScoreMetric",
    "add_score",
    "benchmark_names",
    "benchmark_task",
    "rank_scores",
    "read_scores",
    "save_predictions",
    "score_file",
    "score_predictions",
    "score_showers",
]
