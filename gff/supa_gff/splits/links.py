"""Splits of the links of a graph, with the same number of pairs that are not linked."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from supa.checks import check_int, check_real, counted
from supa_gff.data import Batch, GraphSet


@dataclass(frozen=True, eq=False)
class LinkSplit:
    """Batches at link level.

    Messages pass along training links in training and validation, and along training and validation links in the
    test, never along a validation or test link that is predicted.

    Args:
        train: training links and the same number of other pairs.
        valid: validation links and other pairs, with the nodes and edges of ``train``.
        test: test links and other pairs.
    """

    train: Batch
    valid: Batch
    test: Batch


def split_links(graphs: GraphSet, *, valid: float = 0.16, test: float = 0.2, seed: int = 0) -> LinkSplit:
    """Split the links of one undirected graph; loops and repeated links are left out.

    Args:
        graphs: a set of one graph; an edge in one direction is a link in both.
        valid: share of validation links; ForwardGNN (arXiv 2403.11004) has 0.16.
        test: share of test links; ForwardGNN has 0.2.
        seed: random seed of the split and of the pairs that are not linked.

    Returns:
        The batches; each pair occurs once in all of them.

    Raises:
        ValueError: there is not exactly one graph, a part would be empty, or there are too few other pairs.
    """
    check_real(lambda v: 0 < v < 1, "between 0 and 1", "valid", valid)
    check_real(lambda v: 0 < v < 1, "between 0 and 1", "test", test)
    check_int(0, 2**63 - 1, "seed", seed)
    if len(graphs) != 1:
        raise ValueError(f"There are {len(graphs):,} graphs, but links are split within one; give a set of one graph.")
    random = torch.Generator().manual_seed(seed)
    nodes = len(graphs.x)
    source, goal = graphs.edge_index.cpu()
    links = torch.unique((torch.minimum(source, goal) * nodes + torch.maximum(source, goal))[source != goal])
    count = len(links)
    valid_count, test_count = int(valid * count), int(test * count)
    train_count = count - valid_count - test_count
    if valid_count == 0 or test_count == 0 or train_count <= 0:
        raise ValueError(
            f"The graph has {counted(count, 'link')}: {valid_count} for validation, {test_count} for the test and "
            f"{train_count} for training; each must have some: choose other shares, or a graph with more links."
        )
    if nodes * (nodes - 1) // 2 < 2 * count:
        raise ValueError(
            f"The graph has {counted(count, 'link')} among {counted(nodes, 'node')}, and fewer other pairs than that."
        )
    links = links[torch.randperm(count, generator=random)]
    others = _not_linked(links, nodes, random)
    parts = [train_count, valid_count, test_count]
    batches: list[Batch] = []
    for part, other in zip(torch.split(links, parts), torch.split(others, parts), strict=True):
        known = links[:train_count] if len(batches) < 2 else links[: train_count + valid_count]
        pairs = _ends(torch.cat([part, other]), nodes)
        one_way = _ends(known, nodes)
        batch = Batch(
            x=graphs.x,
            edge_index=torch.cat([one_way, one_way.flip(0)], 1).to(graphs.device),
            graph=torch.zeros(nodes, dtype=torch.int64, device=graphs.device),
            num_graphs=1,
            target=torch.cat([torch.ones(len(part)), torch.zeros(len(other))]).to(graphs.device),
            units=pairs.to(graphs.device),
        )
        batches.append(batch)
    # The same tensors, so that the activation cache of both is computed once.
    train, validation, tested = batches
    return LinkSplit(train, replace(validation, edge_index=train.edge_index, graph=train.graph), tested)


def _ends(numbers: Tensor, nodes: int) -> Tensor:
    return torch.stack([numbers // nodes, numbers % nodes])


def _not_linked(links: Tensor, nodes: int, random: torch.Generator) -> Tensor:
    """Draw as many different pairs as there are links; none of them is a link."""
    drawn = links.new_empty(0)
    while len(drawn) < len(links):
        ends = torch.randint(nodes, (2, 2 * len(links)), generator=random)
        low, high = ends.min(0).values, ends.max(0).values
        fresh = torch.unique((low * nodes + high)[low != high])
        fresh = fresh[~torch.isin(fresh, links) & ~torch.isin(fresh, drawn)]
        drawn = torch.cat([drawn, fresh])
    return drawn[torch.randperm(len(drawn), generator=random)[: len(links)]]
