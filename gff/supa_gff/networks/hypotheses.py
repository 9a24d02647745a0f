"""A batch under one or several hypotheses about its labels: the input of a layer."""

from dataclasses import dataclass

from torch import Tensor

from supa_gff.topology import Topology


@dataclass(frozen=True, eq=False)
class HypothesisBatch:
    """The nodes of a batch under one or several hypotheses about the labels, before a layer.

    Args:
        x: (hypotheses, nodes, channels) float32; (1, nodes, channels) where all hypotheses share the features.
        topology: edges and graphs of the nodes.
        labels: (hypotheses, nodes) int64, -1 = unknown; None without label injection.
    """

    x: Tensor
    topology: Topology
    labels: Tensor | None

    def select(self, hypothesis: int) -> "HypothesisBatch":
        """Return the batch under one of several hypotheses that share their edges.

        Args:
            hypothesis: its number from 0.

        Returns:
            The batch under this hypothesis alone.
        """
        x = self.x if len(self.x) == 1 else self.x[hypothesis : hypothesis + 1]
        labels = None if self.labels is None else self.labels[hypothesis : hypothesis + 1]
        return HypothesisBatch(x, self.topology, labels)
