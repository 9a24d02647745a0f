"""Training of generators on showers that are simulated during the training."""

import copy
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple

from supa import ShowerConfig, Showers
from supa.presets import ConfigLike
from supa_datasets import ShowerStream
from supa_datasets.loaders.dataset import FITTED_SHOWERS
from supa_learning.processes import Processes
from supa_mamba.generator.coding import HitCoding
from supa_mamba.generator.model import ShowerGenerator
from supa_mamba.generator.sample_comparison import SampleComparison
from supa_mamba.generator.task import GeneratorTask
from supa_mamba.generator.training import coding_of, sample_comparison
from supa_mamba.generator.training_config import GeneratorTrainingConfig
from supa_mamba.generator.training_showers import FEATURES, TARGETS, packed, target_columns
from supa_mamba.packed_showers import Batch, PackedShowers
from supa_mamba.streamed_task import StreamedTask


class StreamGeneratorTask(StreamedTask, GeneratorTask):
    """Training task of a generator whose training showers are simulated during the training.

    Args:
        config: Configuration of the generator and its training.
        coding: Conversion of showers into sequences.
        shower_configs: The configs of the stream, in order.
        sample: Some showers of the stream.
        valid: The validation showers.
        stream: Stream of points with the features and targets of ``training_showers``.
        batches_per_epoch: Number of batches of an epoch.
        **options: Further arguments of `GeneratorTask`.

    Raises:
        ValueError: If there are no hits.
    """

    def __init__(
        self,
        config: GeneratorTrainingConfig,
        coding: HitCoding,
        shower_configs: Sequence[ShowerConfig],
        sample: PackedShowers,
        valid: PackedShowers,
        stream: ShowerStream,
        *,
        batches_per_epoch: int,
        **options: Any,
    ) -> None:
        super().__init__(config, coding, shower_configs, sample, valid, **options)
        self._set_stream(stream, batches_per_epoch)

    def _converted(self, batch: Mapping[str, Any]) -> Batch:
        target = target_columns(*(batch[name] for name in TARGETS))
        # The thread of the stream waits for the GPU, if it must; the training does not.
        longest = int(batch["offset"].diff().max()) if self._bounded else None
        return Batch(batch["points"], batch["offset"], target, len(batch["points"]), longest=longest)


def stream_generator_task(
    configs: ConfigLike | Sequence[ConfigLike],
    config: GeneratorTrainingConfig,
    *,
    batches_per_epoch: int = 400,
    validation_showers: int = 10_000,
    compare_every: int | None = None,
    initial: ShowerGenerator | None = None,
    processes: Processes | None = None,
    cuda_graphs: bool = True,
) -> StreamGeneratorTask:
    """Prepare the training of a generator on showers that are simulated during the training.

    The seed of the training is also that of the showers. The first indices belong to the validation showers, the
    following ones to the training showers. The coding is fitted to the first 10,000 training showers. On a GPU, the
    showers are simulated there if the extra ``cuda`` is installed; they are the same.

    Args:
        configs: Name of a preset, a `supa.ShowerConfig`, or a list of these, which are mixed at random with equal
            frequencies.
        config: Configuration of the generator and its training.
        batches_per_epoch: Number of batches from one validation to the next.
        validation_showers: Number of validation showers.
        compare_every: Number of epochs after which sampled showers are compared with validation showers; None for
            never.
        initial: Generator whose weights and coding the training begins with; by default new ones. It is not modified.
        processes: Processes that train together, and their device; this process on the CPU by default.
        cuda_graphs: Whether to capture CUDA graphs on a GPU; see `supa_mamba.generator_task`.

    Returns:
        The task, for `supa_learning.Trainer`.

    Raises:
        ValueError: If a generator cannot learn from the showers, ``initial`` has other sizes than the config, or the
            processes cannot share a batch evenly.

    Example:
        >>> import supa_mamba
        >>> from supa_learning import Trainer
        >>> sizes = supa_mamba.GeneratorConfig(d_model=32, n_layer=1)
        >>> config = supa_mamba.GeneratorTrainingConfig(generator=sizes, epochs=1, batch_size=16)
        >>> task = supa_mamba.stream_generator_task("critical", config, batches_per_epoch=3, validation_showers=20)
        >>> task.units
        48
        >>> state = Trainer(task).run()
        >>> state.finished, len(state.history)
        (True, 1)
    """
    parts = streamed_showers(
        configs, config, validation_showers=validation_showers, compare_every=compare_every, processes=processes
    )
    return StreamGeneratorTask(
        config,
        HitCoding.fit(parts.sample, config.fields) if initial is None else coding_of(initial, config),
        *parts.packed(),
        batches_per_epoch=batches_per_epoch,
        comparison=parts.comparison,
        initial=copy.deepcopy(initial),
        processes=processes,
        cuda_graphs=cuda_graphs,
    )


class StreamedShowers(NamedTuple):
    """Showers of a training on a stream.

    Args:
        sample: The first training showers of each config.
        valid: The validation showers of each config.
        stream: The training showers.
        comparison: Comparison of sampled showers with validation showers, or None.
    """

    sample: list[Showers]
    valid: list[Showers]
    stream: ShowerStream
    comparison: SampleComparison | None

    def packed(self) -> tuple[list[ShowerConfig], PackedShowers, PackedShowers, ShowerStream]:
        """Return the arguments of `StreamGeneratorTask` after the coding."""
        configs = [part.config for part in self.sample]  # also without showers
        return configs, packed(self.sample, configs), packed(self.valid, configs), self.stream


def streamed_showers(
    configs: ConfigLike | Sequence[ConfigLike],
    config: GeneratorTrainingConfig,
    *,
    validation_showers: int,
    compare_every: int | None,
    processes: Processes | None,
) -> StreamedShowers:
    """Simulate the first training showers and the validation showers of a stream; see `stream_generator_task`.

    Args:
        configs: See `stream_generator_task`.
        config: Configuration of the training.
        validation_showers: Number of validation showers.
        compare_every: See `stream_generator_task`.
        processes: Processes that train together, and their device.

    Returns:
        The showers.

    Raises:
        ValueError: If the processes cannot share a batch evenly, or there are too few validation showers.
    """
    processes = processes or Processes()
    place: dict[str, Any] = {"seed": config.seed, "rank": processes.rank, "num_ranks": processes.count}

    def stream(**options: Any) -> ShowerStream:
        return ShowerStream(configs, config.batch_size, **place, **options)

    sample = stream(first=validation_showers).showers(FITTED_SHOWERS)
    valid = stream().showers(validation_showers)
    if processes.device.type == "cuda" and _gpu_can_simulate():
        place |= {"engine": "cuda", "device": processes.device}
    train = stream(first=validation_showers, features=FEATURES, targets=TARGETS)
    return StreamedShowers(sample, valid, train, sample_comparison(valid, compare_every, config))


def _gpu_can_simulate() -> bool:
    """Return whether the package that compiles the simulator for GPUs is installed."""
    return find_spec("cuda") is not None and find_spec("cuda.core") is not None
