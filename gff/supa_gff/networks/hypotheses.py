"""A batch under hypotheses about the labels, on its way through the layers, and what an update of a layer saw."""

from dataclasses import dataclass

from torch import Tensor

from supa_gff.topology import Topology


@dataclass(frozen=True, eq=False)
class Streams:
    """A batch under some hypotheses about the labels, on its way through the layers.

    Args:
        x: (streams or 1, nodes, features) float32.
        topology: of the nodes.
        labels: (streams, nodes) int64, -1 = unknown; None without label injection.
    """

    x: Tensor
    topology: Topology
    labels: Tensor | None


def one_stream(streams: Streams, number: int) -> Streams:
    """Take one stream out of several that share their edges.

    Args:
        streams: the streams.
        number: which.

    Returns:
        That one.
    """
    x = streams.x if len(streams.x) == 1 else streams.x[number : number + 1]
    labels = None if streams.labels is None else streams.labels[number : number + 1]
    return Streams(x, streams.topology, labels)


@dataclass(frozen=True, eq=False)
class Step:
    """What one local update of one layer saw.

    Args:
        layer: number of the layer.
        seen: (4,) float32, on the network's device, so that nobody waits for it who does not look: the loss, the mean
            score of the truth, that of what is wrong, and the share of units whose truth scores highest.
        units: number of units.
    """

    layer: int
    seen: Tensor
    units: int

    @property
    def loss(self) -> float:
        """The layer's loss."""
        return float(self.seen[0])

    @property
    def true(self) -> float:
        """Mean score of the truth; of the value, in regression."""
        return float(self.seen[1])

    @property
    def wrong(self) -> float:
        """Mean score of what is wrong; NaN in regression."""
        return float(self.seen[2])

    @property
    def accuracy(self) -> float:
        """Share of units whose truth has the highest score among those shown; NaN in regression."""
        return float(self.seen[3])
