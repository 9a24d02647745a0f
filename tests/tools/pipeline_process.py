"""Process of a pipeline of layers. A spawned process must be able to import it."""

from pathlib import Path

import pytest
import torch
from gradient_graphs import layers_reached
from torch import Tensor

from supa_gff import DiskGraph, Method, Network, train
from supa_learning.processes import Processes


def train_in_pipeline(rank: int, folder: Path, method: Method, train_nodes: Tensor, valid_nodes: Tensor) -> None:
    """Train the layers of one of two processes, and save the weights and the layers that each gradient reaches."""
    torch.set_num_threads(1)
    graph = DiskGraph(folder / "graph")
    network = Network.for_graphs(method, graph)
    spans, backward = set(), torch.Tensor.backward

    def watched(self: Tensor, *args: object, **kwargs: object) -> None:
        spans.add(tuple(layers_reached(network, self)))
        backward(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "backward", watched)
        train(network, graph, train_nodes, valid_nodes, cache=folder / "work", turns=2, processes=Processes(rank, 2))
    torch.save({"weights": network.state_dict(), "spans": sorted(spans)}, folder / f"{rank}.pt")
