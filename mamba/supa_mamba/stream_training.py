"""Training of shower encoders on showers that are simulated during the training."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from supa.presets import ConfigLike
from supa_datasets import ShowerStream
from supa_datasets.loaders.dataset import FITTED_SHOWERS
from supa_datasets.offsets import counts_to_offsets
from supa_learning.processes import Processes
from supa_mamba.config import TrainingConfig
from supa_mamba.packed_showers import Batch, PackedShowers, TaskEncoding, packed_showers, training_showers
from supa_mamba.streamed_task import StreamedTask
from supa_mamba.training import EncoderTask


class StreamEncoderTask(StreamedTask, EncoderTask):
    """Training task of an encoder whose training showers are simulated during the training.

    Args:
        config: Configuration of the encoder and its training.
        encoding: Conversion of showers into tensors and targets.
        sample: Some showers of the stream, to which the baseline is fitted.
        valid: The validation showers.
        stream: Stream of sequences with the features, the normalisation and the targets of the encoding.
        batches_per_epoch: Number of batches of an epoch.
        processes: Processes that train together; this process alone by default.
        cuda_graphs: Whether to capture CUDA graphs on a GPU; see `EncoderTask`.

    Raises:
        ValueError: If there are no targets.
    """

    def __init__(
        self,
        config: TrainingConfig,
        encoding: TaskEncoding,
        sample: PackedShowers,
        valid: PackedShowers,
        stream: ShowerStream,
        *,
        batches_per_epoch: int,
        processes: Processes | None = None,
        cuda_graphs: bool = True,
    ) -> None:
        super().__init__(config, encoding, sample, valid, processes=processes, cuda_graphs=cuda_graphs)
        self._set_stream(stream, batches_per_epoch)

    def batches(self, stage: int, epoch: int, first: int) -> Iterator[Batch]:
        """Return this process's shares of the training batches of an epoch; see `TrainingTask.batches`."""
        found = super().batches(stage, epoch, first)
        return map(self._with_all_hits, found) if self.encoding.task.level == "hit" else found

    def _converted(self, batch: Mapping[str, Any]) -> Batch:
        columns = {name: batch[name].numpy() for name in self.encoding.task.targets}
        target = torch.from_numpy(self.encoding.target(columns))
        offset = counts_to_offsets(batch["cu_seqlens"].diff())
        units = len(target) if self.encoding.task.level == "hit" else self.config.batch_size
        return Batch(batch["points"], offset, target, units)


def stream_training_task(
    configs: ConfigLike | Sequence[ConfigLike],
    config: TrainingConfig,
    *,
    batches_per_epoch: int = 400,
    validation_showers: int = 10_000,
    processes: Processes | None = None,
    cuda_graphs: bool = True,
) -> StreamEncoderTask:
    """Prepare the training of an encoder on showers that are simulated during the training.

    The seed of the training is also that of the showers. The first indices belong to the validation showers, the
    following ones to the training showers. The features and the target are normalised on the first 10,000 training
    showers.

    Args:
        configs: Name of a preset, a `supa.ShowerConfig`, or a list of these, which are mixed at random with equal
            frequencies.
        config: Configuration of the encoder and its training.
        batches_per_epoch: Number of batches from one validation to the next.
        validation_showers: Number of validation showers.
        processes: Processes that train together, and their device; this process on the CPU by default.
        cuda_graphs: Whether to capture CUDA graphs on a GPU; see `supa_mamba.training_task`.

    Returns:
        The task, for `supa_learning.Trainer`.

    Raises:
        ValueError: If the showers cannot be used for the target, or the processes cannot share a batch evenly.

    Example:
        >>> import supa_mamba
        >>> from supa_learning import Trainer
        >>> config = supa_mamba.TrainingConfig(target="incident_energy", d_model=8, n_layer=1, epochs=1, batch_size=32)
        >>> task = supa_mamba.stream_training_task("critical", config, batches_per_epoch=3, validation_showers=100)
        >>> task.units
        96
        >>> state = Trainer(task).run()
        >>> state.finished, len(state.history)
        (True, 1)
    """
    processes = processes or Processes()
    place: dict[str, Any] = {"seed": config.seed, "rank": processes.rank, "num_ranks": processes.count}

    def stream(**options: Any) -> ShowerStream:
        return ShowerStream(configs, config.batch_size, form="sequences", **place, **options)

    encoding, sample = training_showers(stream(first=validation_showers).showers(FITTED_SHOWERS), config.target)
    valid = packed_showers(stream().showers(validation_showers), "all", encoding)
    train = stream(
        first=validation_showers,
        features=encoding.task.features,
        normalisation=encoding.normalisation,
        targets=encoding.task.targets,
    )
    return StreamEncoderTask(
        config,
        encoding,
        sample,
        valid,
        train,
        batches_per_epoch=batches_per_epoch,
        processes=processes,
        cuda_graphs=cuda_graphs,
    )
