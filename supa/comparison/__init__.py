"""Comparison of generated with true showers: distances with errors and noise floors, and a report."""

from supa.comparison.compute import compare
from supa.comparison.report import write_report
from supa.comparison.results import Comparison, ObservableResult, Pull, SampleFacts, Score

__all__ = ["Comparison", "ObservableResult", "Pull", "SampleFacts", "Score", "compare", "write_report"]
