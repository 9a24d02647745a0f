"""Tests of steps that are captured as CUDA graphs."""

import gc

import pytest
import torch

from supa_learning import CapturedStep


class _Cycle:
    """A garbage cycle that contains a CUDA graph."""

    def __init__(self):
        self.itself = self
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.result = torch.zeros(1, device="cuda") + 1


@pytest.mark.gpu
@pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no CUDA device is available; run with -m gpu on a machine with a GPU"
)
def test_garbage_with_a_graph_is_not_freed_during_a_capture():
    cycles = []

    def function(x):
        cycles.clear()
        for _ in range(1_000):  # their creation would start the collector
            _ = [[]]
        return 2 * x

    device = torch.device("cuda")
    step = CapturedStep(function, lambda size: torch.zeros(size, device=device), device=device)
    threshold = gc.get_threshold()
    try:
        for call in range(3):
            step.inputs(4).fill_(call)
            cycles.append(_Cycle())
            gc.set_threshold(1, 1, 1)
            assert step(4).tolist() == [2.0 * call] * 4
            gc.set_threshold(*threshold)
    finally:
        gc.set_threshold(*threshold)
    assert gc.isenabled()


def test_the_collector_is_suspended_only_during_a_capture(monkeypatch):
    enabled = []

    class Graph:
        def pool(self):
            return None

        def replay(self):
            enabled.append(("replay", gc.isenabled()))

    class Capture:
        def __init__(self, *_args, **_options):
            pass

        def __enter__(self):
            enabled.append(("capture", gc.isenabled()))

        def __exit__(self, *_error):
            return False

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", Capture)
    step = CapturedStep(lambda x: x + 1, torch.zeros, device=torch.device("cuda"))
    for _ in range(3):
        step.inputs(2)
        step(2)
    assert enabled == [("capture", False), ("replay", True), ("replay", True)]
    assert gc.isenabled()
