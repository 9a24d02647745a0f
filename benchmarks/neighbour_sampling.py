"""Neighbourhoods sampled for each batch from a graph on disk, for backpropagation through several layers."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from supa.arrays import IntArray
from supa.compiler import kernel
from supa_gff import Batch, DiskGraph


@kernel
def sample_neighbours(
    sources: IntArray, offset: IntArray, seeds: IntArray, fanout: IntArray, place: IntArray, random_seed: int,
    node: IntArray, row: IntArray, column: IntArray,
) -> tuple[int, int]:  # fmt: skip
    """Sample neighbours without replacement, hop by hop; return the numbers of nodes and edges."""
    np.random.seed(random_seed)  # noqa: NPY002  # the generator of Numba
    nodes, edges, first = len(seeds), 0, 0
    for k in range(nodes):
        node[k] = seeds[k]
        place[seeds[k]] = k
    chosen = np.empty(fanout.max(), np.int64)
    for hop in range(len(fanout)):
        last = nodes
        for k in range(first, last):
            begin = offset[node[k]]
            degree = offset[node[k] + 1] - begin
            count = min(degree, fanout[hop])
            for j in range(count):
                pick = j
                if degree > count:  # Floyd's algorithm
                    pick = np.random.randint(0, degree - count + j + 1)  # noqa: NPY002
                    for i in range(j):
                        if chosen[i] == pick:
                            pick = degree - count + j
                            break
                chosen[j] = pick
                source = sources[begin + pick]
                if place[source] < 0:
                    place[source] = nodes
                    node[nodes] = source
                    nodes += 1
                row[edges], column[edges] = place[source], k
                edges += 1
        first = last
    for k in range(nodes):
        place[node[k]] = -1
    return nodes, edges


def sampled_loader(graph: DiskGraph, nodes: Tensor, fanout: list[int], batch_size: int, shuffle: bool) -> Any:
    """Return a loader of sampled neighbourhoods: PyG's NeighborLoader, or its NodeLoader with the sampler above."""
    from torch_geometric import typing
    from torch_geometric.data import Data
    from torch_geometric.loader import NeighborLoader, NodeLoader
    from torch_geometric.sampler import BaseSampler, SamplerOutput

    x, y = torch.from_numpy(graph.features), torch.from_numpy(graph.target)
    options = {"input_nodes": nodes, "batch_size": batch_size, "shuffle": shuffle}
    if typing.WITH_PYG_LIB or typing.WITH_TORCH_SPARSE:
        target = np.repeat(np.arange(graph.num_nodes), np.diff(graph.offset))
        edge_index = torch.stack([torch.from_numpy(graph.sources).long(), torch.from_numpy(target)])
        return NeighborLoader(Data(x=x, y=y, edge_index=edge_index), num_neighbors=fanout, is_sorted=True, **options)

    class Sampler(BaseSampler):
        """Neighbours of nodes of the graph on disk."""

        place = np.full(graph.num_nodes, -1, np.int32)
        random = np.random.default_rng(5)

        def sample_from_nodes(self, inputs: Any, **_: Any) -> Any:
            seeds = inputs.node.numpy()
            most = min(len(seeds) * int(np.cumprod([1, *fanout]).sum()), graph.num_nodes * max(fanout))
            node, row, column = (np.empty(most, np.int64) for _ in range(3))
            nodes, edges = sample_neighbours(
                graph.sources, graph.offset, seeds, np.array(fanout), self.place, int(self.random.integers(2**31)),
                node, row, column,
            )  # fmt: skip
            found = (torch.from_numpy(part) for part in (node[:nodes], row[:edges], column[:edges]))
            return SamplerOutput(*found, edge=None, metadata=(inputs.input_id, inputs.time))

        def sample_from_edges(self, *_: Any, **__: Any) -> Any:
            raise NotImplementedError

        @property
        def edge_permutation(self) -> None:
            return None

    nothing = torch.zeros(2, 0, dtype=torch.int64)  # replaced by the sampled edges
    return NodeLoader(Data(x=x, y=y, edge_index=nothing), Sampler(), **options)


def sampled_batch(data: Any, device: str) -> Batch:
    """Return a batch in which the first nodes of a neighbourhood are predicted."""
    data = data.to(device)
    units = torch.arange(data.batch_size, device=device)
    graph = torch.zeros(len(data.x), dtype=torch.int64, device=device)
    return Batch(data.x, data.edge_index, graph, 1, data.y[units], units)
