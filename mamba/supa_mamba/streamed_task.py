"""Training task on packed showers that are simulated during the training."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from supa_datasets import ShowerStream
from supa_learning.stream_batches import StreamBatches
from supa_mamba.packed_showers import Batch
from supa_mamba.packed_task import PackedTask


class StreamedTask(PackedTask):
    """Base class that replaces the training batches of a task by those of a stream.

    Derive from this class first and from the task second. The constructor of the derived class calls that of the task
    with some showers of the stream as training showers, and then `_set_stream`.
    """

    _batches: StreamBatches[Batch]

    def _set_stream(self, stream: ShowerStream, batches_per_epoch: int) -> None:
        self._batches = StreamBatches(
            stream,
            steps_per_epoch=batches_per_epoch,
            epochs=self.epochs,
            convert=self._converted,
            device=self.device,
        )

    @abstractmethod
    def _converted(self, batch: Mapping[str, Any]) -> Batch:
        """Convert a batch of the stream."""

    @property
    def steps_per_epoch(self) -> int:
        """Number of steps of an epoch."""
        return self._batches.steps_per_epoch

    @property
    def units(self) -> int:
        """Number of training showers of an epoch."""
        return self.steps_per_epoch * self._settings.batch_size

    @contextmanager
    def session(self) -> Iterator[None]:
        """Begin with the same weights in all processes, and end the stream and release the graphs at the end."""
        try:
            with super().session():
                yield
        finally:
            self._batches.close()

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the task and the position of the stream."""
        return super().state_dict() | {"stream": self._batches.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state.

        Args:
            state: Dictionary from `state_dict`.

        Raises:
            ValueError: If the state belongs to another stream.
        """
        self._batches.load_state_dict(state["stream"])
        super().load_state_dict(state)

    def _shares(self, stage: int, epoch: int, first: int) -> Iterator[Batch]:
        return self._batches.batches(stage, epoch, first)
