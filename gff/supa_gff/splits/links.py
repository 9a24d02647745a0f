"""Splits of the links of a graph, with an equal number of unlinked pairs."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from supa.checks import check_int, check_real, counted
from supa_gff.batch import Batch
from supa_gff.graph_set import GraphSet


@dataclass(frozen=True, eq=False)
class LinkSplit:
    """Training, validation and test batches at link level. `split_links` builds them.

    Messages pass along training links in training and validation, and along training and validation links at test time.
    They never pass along a validation or test link that is predicted.

    Args:
        train: Training links and the same number of unlinked pairs.
        valid: Validation links and unlinked pairs, with the nodes and edges of ``train``.
        test: Test links and unlinked pairs.

    Example:
        >>> import torch
        >>> from torch_geometric.data import Data
        >>> from supa_gff import GraphSet, split_links
        >>> edges = torch.stack([torch.arange(30), (torch.arange(30) + 1) % 30])
        >>> ring = Data(x=torch.eye(30), edge_index=edges, y=torch.zeros(1))
        >>> split = split_links(GraphSet.of([ring], level="link"))
        >>> [batch.num_units for batch in (split.train, split.valid, split.test)]
        [40, 8, 12]
        >>> split.valid.edge_index.shape  # both directions of the 20 training links
        torch.Size([2, 40])
    """

    train: Batch
    valid: Batch
    test: Batch


def split_links(graphs: GraphSet, *, valid: float = 0.16, test: float = 0.2, seed: int = 0) -> LinkSplit:
    """Split the links of one undirected graph into training, validation and test parts.

    Self-loops and repeated links are removed.

    Args:
        graphs: Set of one graph. An edge in one direction is a link in both directions.
        valid: Fraction of validation links. The default is that of ForwardGNN (arXiv 2403.11004).
        test: Fraction of test links. The default is that of ForwardGNN.
        seed: Random seed of the split and of the unlinked pairs.

    Returns:
        The three batches. No pair occurs in more than one of them.

    Raises:
        ValueError: If there is not exactly one graph, a part would be empty, or there are too few unlinked pairs.

    Example:
        >>> import torch
        >>> from torch_geometric.data import Data
        >>> from supa_gff import GraphSet, split_links
        >>> edges = torch.stack([torch.arange(30), (torch.arange(30) + 1) % 30])
        >>> ring = Data(x=torch.eye(30), edge_index=edges, y=torch.zeros(1))
        >>> split = split_links(GraphSet.of([ring], level="link"), valid=0.2, test=0.2, seed=1)
        >>> split.test.target.tolist()
        [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    """
    check_real(lambda v: 0 < v < 1, "between 0 and 1", "valid", valid)
    check_real(lambda v: 0 < v < 1, "between 0 and 1", "test", test)
    check_int(0, 2**63 - 1, "seed", seed)
    if len(graphs) != 1:
        raise ValueError(f"graphs must contain exactly one graph, got {len(graphs):,} graphs.")
    random = torch.Generator().manual_seed(seed)
    nodes = len(graphs.x)
    source, goal = graphs.edge_index.cpu()
    links = torch.unique((torch.minimum(source, goal) * nodes + torch.maximum(source, goal))[source != goal])
    count = len(links)
    valid_count, test_count = int(valid * count), int(test * count)
    train_count = count - valid_count - test_count
    if valid_count == 0 or test_count == 0 or train_count <= 0:
        raise ValueError(
            f"Each part must have at least 1 link, but the {counted(count, 'link')} of the graph are split into "
            f"{train_count} for training, {valid_count} for validation and {test_count} for the test; choose other "
            f"fractions."
        )
    if nodes * (nodes - 1) // 2 < 2 * count:
        raise ValueError(
            f"There must be at least as many unlinked pairs as links, but the graph has {counted(count, 'link')} among "
            f"{counted(nodes, 'node')}."
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
    # Both batches share these tensors, so that their activation cache is computed once.
    train, validation, tested = batches
    return LinkSplit(train, replace(validation, edge_index=train.edge_index, graph=train.graph), tested)


def _ends(numbers: Tensor, nodes: int) -> Tensor:
    return torch.stack([numbers // nodes, numbers % nodes])


def _not_linked(links: Tensor, nodes: int, random: torch.Generator) -> Tensor:
    """Draw as many distinct unlinked pairs as there are links."""
    drawn = links.new_empty(0)
    while len(drawn) < len(links):
        ends = torch.randint(nodes, (2, 2 * len(links)), generator=random)
        low, high = ends.min(0).values, ends.max(0).values
        fresh = torch.unique((low * nodes + high)[low != high])
        fresh = fresh[~torch.isin(fresh, links) & ~torch.isin(fresh, drawn)]
        drawn = torch.cat([drawn, fresh])
    return drawn[torch.randperm(len(drawn), generator=random)[: len(links)]]
