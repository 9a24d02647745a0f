"""Small synthetic tasks for graph learning."""

import torch
from torch_geometric.data import Data

from supa_gff import PRESETS, Batch, GraphSet, Method, Pairs, preset, training_task
from supa_learning import Callback, Trainer

LEVELS = ("graph", "node", "link")


def presets() -> list[tuple[str, str]]:
    """Return the names of all presets with each level that they support."""
    return [(name, level) for level in LEVELS for name in PRESETS if PRESETS[name](level) is not None]


def small(name: str, level: str, **changes: object) -> Method:
    """Return a preset with three narrow layers."""
    return preset(name, level).replace(**{"layers": 3, "hidden_channels": 16, "batch_size": 16, **changes})


def both_ways(edges: torch.Tensor) -> torch.Tensor:
    return torch.cat([edges, edges.flip(0)], 1)


def random_graph(nodes: int, edges: int, features: int, generator: torch.Generator) -> Data:
    """Return a random graph with features. Edges may be loops or repeated."""
    return Data(
        x=torch.randn(nodes, features, generator=generator),
        edge_index=torch.randint(max(nodes, 1), (2, edges if nodes else 0), generator=generator),
    )


def triangles_or_trees(count: int, classes: int = 2, seed: int = 0) -> list[Data]:
    """Return graphs: chains of triangles (class 0), trees (1) and stars (2). Features are one-hot degrees."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for k in range(count):
        nodes, kind = int(torch.randint(6, 12, (1,), generator=generator)), k % classes
        child = torch.arange(1, nodes)
        parent = (torch.rand(nodes - 1, generator=generator) * child).long() if kind < 2 else torch.zeros_like(child)
        edges = torch.stack([child, parent])
        if kind == 0:
            edges = torch.cat([torch.stack([child, child - 1]), torch.stack([child[1:], child[1:] - 2])], 1)
        edge_index = both_ways(edges)
        degree = torch.bincount(edge_index[0], minlength=nodes).clamp(max=5)
        x = torch.nn.functional.one_hot(degree, 6).float()
        made.append(Data(x=x, edge_index=edge_index, y=torch.tensor([kind])))
    return made


def two_communities(nodes: int = 80, seed: int = 0) -> Data:
    """Return a graph of two communities with few edges between them. Features correlate with the community."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(nodes) % 2
    share = torch.where(y[:, None] == y[None], 0.15, 0.01)
    drawn = torch.rand(nodes, nodes, generator=generator) < share
    x = torch.randn(nodes, 8, generator=generator)
    x[:, 0] += 1.5 * (2 * y - 1)
    x[:, 1] -= 1.5 * (2 * y - 1)
    return Data(x=x, edge_index=both_ways(drawn.triu(1).nonzero().t()), y=y)


def pairs(seed: int = 0) -> Pairs:
    """Return pairs of nodes of two communities: linked ones that the graph omits, and as many others."""
    data = two_communities(seed=seed)
    generator = torch.Generator().manual_seed(seed + 1)
    edges = data.edge_index[:, data.edge_index[0] < data.edge_index[1]]
    order = torch.randperm(edges.shape[1], generator=generator)
    parts = order.chunk(3)
    graph = torch.zeros(len(data.x), dtype=torch.int64)
    shown = both_ways(edges[:, parts[0]])
    # Pairs across the communities are almost never linked.
    other = torch.randint(len(data.x) // 2, (2, edges.shape[1]), generator=generator) * 2
    other[1] += 1

    def batch(part: torch.Tensor) -> Batch:
        units = torch.cat([edges[:, part], other[:, part]], 1)
        target = torch.cat([torch.ones(len(part)), torch.zeros(len(part))])
        return Batch(data.x, shown, graph, 1, target, units)

    return Pairs(batch(parts[1]), batch(parts[2]))


def task(level: str, count: int = 96) -> tuple[GraphSet | Pairs, torch.Tensor | None, torch.Tensor | None]:
    """Return a set and the indices of its training and validation items."""
    if level == "link":
        return pairs(), None, None
    graphs = GraphSet.of(triangles_or_trees(count) if level == "graph" else [two_communities()], level=level)
    members = torch.arange(graphs.num_items)
    return graphs, members[: len(members) // 2], members[len(members) // 2 :]


class OnEpoch(Callback):
    """Call a function with the trainer after each epoch."""

    def __init__(self, function):
        self.on_epoch = function


def make_trainer(network, graphs, train=None, valid=None, *, on_epoch=None, should_stop=lambda: False, **options):
    """Return a trainer that calls a function after each epoch."""
    task = training_task(network, graphs, train, valid, **options)
    return Trainer(task, callbacks=[] if on_epoch is None else [OnEpoch(on_epoch)], should_stop=should_stop)
