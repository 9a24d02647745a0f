"""Input of a layer: a batch under one or several hypotheses about its labels."""

from dataclasses import dataclass

from torch import Tensor

from supa_gff.topology import Topology


@dataclass(frozen=True, eq=False)
class HypothesisBatch:
    """Input of a layer for the nodes of a batch, under one or several hypotheses about the labels.

    Args:
        x: (hypotheses, nodes, channels) float32 features; (1, nodes, channels) if all hypotheses share them.
        topology: Edges and graphs of the nodes.
        labels: (hypotheses, nodes) int64 labels, -1 for unknown ones. None without label injection.
    """

    x: Tensor
    topology: Topology
    labels: Tensor | None

    def select(self, hypothesis: int) -> "HypothesisBatch":
        """Return the input under one of several hypotheses, which must share their edges.

        Args:
            hypothesis: Index of the hypothesis, from 0.

        Returns:
            The input under this hypothesis.
        """
        x = self.x if len(self.x) == 1 else self.x[hypothesis : hypothesis + 1]
        labels = None if self.labels is None else self.labels[hypothesis : hypothesis + 1]
        return HypothesisBatch(x, self.topology, labels)
