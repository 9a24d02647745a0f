"""Training batches of showers that are simulated during the training."""

from collections.abc import Iterator

from supa_gff.batch import Batch
from supa_gff.label_injection import VirtualNodes
from supa_gff.method import Method
from supa_gff.negatives import check_redrawn
from supa_gff.shower_stream import ShowerGraphStream
from supa_gff.training.data import VALIDATION_FACTOR
from supa_learning.stream_batches import StreamBatches


class StreamData:
    """Training batches from a stream of showers, and validation batches.

    Args:
        source: The stream and the validation graphs.
        method: Number of graphs per batch, and maximum number of epochs.

    Raises:
        ValueError: If the method needs all training graphs at once, or nodes of known labels.
    """

    def __init__(self, source: ShowerGraphStream, method: Method) -> None:
        check_redrawn(method.negatives)
        if isinstance(method.label, VirtualNodes):
            raise ValueError(
                "The method has class nodes with edges to nodes of known labels, but the hits of a shower have none; "
                "use another method."
            )
        self.source, self.graphs, self.device = source, source.validation, source.device
        self.num_batches = source.batches_per_epoch
        self._size = method.batch_size
        self.stream = StreamBatches(
            source.stream(method.batch_size),
            steps_per_epoch=source.batches_per_epoch,
            epochs=method.epochs,
            convert=source.convert,
            device=source.device,
        )

    @property
    def units(self) -> int:
        """Number of training graphs of an epoch."""
        return self.num_batches * self._size

    def batches(self, first: int, _seed: int, stage: int, epoch: int) -> Iterator[Batch]:
        """Iterate over the training batches of an epoch. The stream has its own seed."""
        return self.stream.batches(stage, epoch, first)

    def validation_batches(self) -> Iterator[Batch]:
        """Iterate over the validation batches."""
        return self.graphs.batches(self.source.validation_indices, VALIDATION_FACTOR * self._size)
