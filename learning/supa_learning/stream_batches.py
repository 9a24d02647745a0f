"""The training batches of a task whose data is a stream of showers."""

from collections.abc import Callable, Generator, Iterator, Mapping
from itertools import islice
from typing import Any, Generic, TypeVar

import torch

from supa.checks import counted
from supa_datasets import ShowerStream
from supa_datasets.streams.prefetching import prefetched

B = TypeVar("B")


class StreamBatches(Generic[B]):
    """The training batches of a task whose data is a stream of showers.

    An epoch is a number of batches, and each batch is used once. Step k of epoch e of stage s uses the batch
    (s * ``epochs`` + e) * ``steps_per_epoch`` + k of the stream. A stage that ends early leaves out the rest of its
    batches. A thread makes the next batches while the task uses the present one.

    Args:
        stream: The stream. If it has a device, its batches are not copied to another one.
        steps_per_epoch: Number of batches of an epoch.
        epochs: Maximum number of epochs of a stage.
        convert: Function that turns a batch of the stream into one of the task. The thread calls it, or the caller of
            `batches` if the stream has a device.
        device: Device to which the batches are copied, by default the CPU.

    Example:
        >>> import torch
        >>> from supa_datasets import ShowerStream
        >>> from supa_learning import StreamBatches
        >>> stream = ShowerStream("standard", 2, seed=1, targets=["attempt"])
        >>> train = StreamBatches(stream, steps_per_epoch=3, epochs=10, convert=lambda batch: batch["attempt"])
        >>> [batch.tolist() for batch in train.batches(stage=0, epoch=1, first=1)]
        [[8, 9], [10, 11]]
        >>> train.state_dict()["batch"]
        6
        >>> train.close()
    """

    def __init__(
        self,
        stream: ShowerStream,
        *,
        steps_per_epoch: int,
        epochs: int,
        convert: Callable[[Any], B],
        device: torch.device | None = None,
    ) -> None:
        self.stream, self.steps_per_epoch = stream, steps_per_epoch
        self._epochs, self._convert, self._device = epochs, convert, device or torch.device("cpu")
        self._open: Generator[B, None, None] | None = None
        self._position = 0

    def batches(self, stage: int, epoch: int, first: int) -> Iterator[B]:
        """Return the batches of an epoch, as `TrainingTask.batches` must.

        Args:
            stage: Number of the stage, from 0.
            epoch: Number of the epoch, from 0.
            first: Number of the first batch to return.

        Yields:
            The batches.
        """
        position = (stage * self._epochs + epoch) * self.steps_per_epoch + first
        if self._open is None or position != self._position:
            self.close()
            self.stream.start_at(position)
            converted = (self._convert(batch) for batch in self.stream)
            # A stream with a device has a thread of its own.
            self._open = prefetched(converted, self._device) if self.stream.device is None else converted
            self._position = position
        for batch in islice(self._open, self.steps_per_epoch - first):
            self._position += 1
            yield batch

    def close(self) -> None:
        """End the thread. The next call of `batches` starts another one."""
        if self._open is not None:
            self._open.close()
            self._open = None

    def state_dict(self) -> dict[str, Any]:
        """Return the number of batches that were used, and the description of the stream.

        Returns:
            State for `load_state_dict`, and for `ShowerStream.load_state_dict`.
        """
        return self.stream.state_dict(self._position) | {"steps_per_epoch": self.steps_per_epoch}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Check that a state belongs to the same stream. `batches` sets the position.

        Args:
            state: Dictionary from `state_dict`.

        Raises:
            ValueError: If it belongs to another stream, or the epochs have another length. The message names what
                differs.
        """
        if state["steps_per_epoch"] != self.steps_per_epoch:
            before = counted(state["steps_per_epoch"], "batch", "batches")
            raise ValueError(f"An epoch had {before}, but has {self.steps_per_epoch:,} now; use the same number.")
        self.close()
        self.stream.load_state_dict(state)
        self._position = int(state["batch"])
