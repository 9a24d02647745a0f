"""Comparison of generated with true showers: distances with errors and noise floors, and a report."""

from supa.comparison.compute import compare
from supa.comparison.refine import RefinedMean, RefinedSample, refine_sample
from supa.comparison.report import write_report
from supa.comparison.results import Comparison, ObservableResult, Pull, SampleFacts, Score

__all__ = [
    "Comparison",
    "ObservableResult",
    "Pull",
    "RefinedMean",
    "RefinedSample",
    "SampleFacts",
    "Score",
    "compare",
    "refine_sample",
    "write_report",
]
