"""Process of a pipeline of layers. A spawned process must be able to import it."""

from pathlib import Path

import pytest
import torch
from gradient_graphs import layers_reached
from torch import Tensor

from supa_gff import DiskGraph, Method, Network, train
from supa_gff.disk.kept_inputs import KeptInputs
from supa_learning.processes import Processes

# A process that is forked in the other one begins with the patches of that one.
BACKWARD, PREPARED = torch.Tensor.backward, KeptInputs.prepared


def train_in_pipeline(rank: int, folder: Path, method: Method, train_nodes: Tensor, valid_nodes: Tensor) -> None:
    """Train the layers of one of two processes.

    Save the weights, the layers that each gradient reaches, and the layers whose inputs are computed.
    """
    torch.set_num_threads(1)
    graph = DiskGraph(folder / "graph")
    network = Network.for_graphs(method, graph)
    spans, inputs = set(), set()

    def watched(self: Tensor, *args: object, **kwargs: object) -> None:
        spans.add(tuple(layers_reached(network, self)))
        BACKWARD(self, *args, **kwargs)

    def recorded(self: KeptInputs, layer: int, turn: int = 0) -> object:
        inputs.add(layer)
        return PREPARED(self, layer, turn)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "backward", watched)
        patch.setattr(KeptInputs, "prepared", recorded)
        train(network, graph, train_nodes, valid_nodes, cache=folder / "work", turns=2, processes=Processes(rank, 2))
    torch.save(
        {"weights": network.state_dict(), "spans": sorted(spans), "inputs": sorted(inputs)}, folder / f"{rank}.pt"
    )
