"""Distillation of Transformer generators into generators with Mamba-2 layers."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import torch

from supa import Showers
from supa.checks import counted
from supa.presets import ConfigLike
from supa_learning.processes import Processes
from supa_mamba.generator.distillation_task import DistillationTask, Divergence, StreamDistillationTask
from supa_mamba.generator.model import ShowerGenerator
from supa_mamba.generator.shower_checks import check_showers
from supa_mamba.generator.skipping import nats_without_layers
from supa_mamba.generator.stream_training import streamed_showers
from supa_mamba.generator.training import sample_comparison
from supa_mamba.generator.training_config import GeneratorTrainingConfig
from supa_mamba.generator.training_showers import distinct_configs, packed, split_showers


def layers_without_attention(n_layer: int, share: Fraction | float) -> tuple[int, ...]:
    """Return the layers that a distillation replaces if it keeps a share of the attention.

    Args:
        n_layer: Number of layers.
        share: 1/N, to keep the attention in the last of each N layers; or 0, to keep none.

    Returns:
        Indices of the layers, from 0.

    Raises:
        ValueError: If the share is not 0 or 1/N with N of at least 2, or if there are fewer than N layers.

    Example:
        >>> from supa_mamba.generator.distillation import layers_without_attention
        >>> layers_without_attention(8, 1 / 4)
        (0, 1, 2, 4, 5, 6)
    """
    fraction = Fraction(share).limit_denominator(1000)
    if fraction == 0:
        return tuple(range(n_layer))
    group = fraction.denominator
    if fraction.numerator != 1 or group < 2:
        raise ValueError(f"attention: {fraction} was given, but it must be 0 or 1/N, such as 1/4.")
    if n_layer < group:
        raise ValueError(
            f"attention: {fraction} was given, but the teacher has only {counted(n_layer, 'layer')}, so none would "
            "keep its attention; choose a larger share, or 0."
        )
    return tuple(number for number in range(n_layer) if (number + 1) % group)


def least_needed_layers(
    teacher: ShowerGenerator, showers: Showers | Sequence[Showers], share: Fraction | float
) -> tuple[int, ...]:
    """Return the layers that a distillation replaces if it keeps the attention that matters most.

    The attention of each layer is skipped in turn; see `nats_without_layers`. As many layers keep it as in
    `layers_without_attention`: those without which the likelihood is lowest.

    Args:
        teacher: The teacher. Layers without attention are among those that are returned.
        showers: Showers of the teacher's configs, such as validation showers, or a list of such.
        share: See `layers_without_attention`.

    Returns:
        Indices of the layers, from 0.

    Raises:
        ValueError: As in `layers_without_attention` and `nats_without_layers`.

    Example:
        >>> import supa
        >>> from supa_mamba import GeneratorConfig, HitCoding, ShowerGenerator
        >>> from supa_mamba.generator.distillation import least_needed_layers
        >>> showers = supa.simulate(20, "critical", seed=1)
        >>> sizes = GeneratorConfig(model="transformer", d_model=32, n_layer=2)
        >>> len(least_needed_layers(ShowerGenerator(sizes, HitCoding.fit(showers)), showers, 1 / 2))
        1
    """
    sizes = teacher.config
    num_kept = sizes.n_layer - len(layers_without_attention(sizes.n_layer, share))
    nats = nats_without_layers(teacher, showers, set(range(sizes.n_layer)) - set(sizes.mamba_layers))
    kept = sorted(nats, key=lambda number: -nats[number])[:num_kept]
    return tuple(number for number in range(sizes.n_layer) if number not in kept)


def distillation_task(
    teacher: ShowerGenerator,
    showers: Any,
    config: GeneratorTrainingConfig,
    *,
    divergence: Divergence = "forward",
    on_policy: bool = False,
    compare_every: int | None = None,
    processes: Processes | None = None,
    cuda_graphs: bool = True,
) -> DistillationTask:
    """Read showers and prepare the distillation of a generator on them.

    The student is a copy of the teacher, in which Mamba-2 replaces the attention of some layers. Its checkpoint is
    that of any generator.

    Args:
        teacher: The teacher, with the model ``"transformer"``; it can itself be a student, of which more layers are
            replaced.
        showers: See `generator_task`. Their configs are those of the teacher's training showers.
        config: Configuration of the student and its training: that of the teacher with ``mamba_layers``.
        divergence: Direction of the divergence; see `DistillationTask`.
        on_policy: Whether a third stage trains the student on its own samples.
        compare_every: See `generator_task`.
        processes: See `generator_task`.
        cuda_graphs: See `generator_task`.

    Returns:
        The task with two or three stages, for `supa_learning.Trainer`; see `DistillationTask`.

    Raises:
        FileNotFoundError: If a file does not exist.
        ValueError: If the teacher is not a Transformer, or has other sizes or conditions than the student, or if the
            showers do not fit the teacher.

    Example:
        >>> import supa
        >>> from supa_learning import Trainer
        >>> from supa_mamba import GeneratorConfig, GeneratorTrainingConfig, distillation_task, train_generator
        >>> showers = supa.simulate(60, "critical", seed=1)
        >>> sizes = GeneratorConfig(model="transformer", d_model=32, n_layer=2)
        >>> config = GeneratorTrainingConfig(generator=sizes, epochs=1, batch_size=16)
        >>> teacher = train_generator(showers, config).task.model
        >>> config = config.replace(generator=sizes.replace(mamba_layers=(0,)))  # attention remains in layer 1
        >>> trainer = Trainer(distillation_task(teacher, showers, config))
        >>> state = trainer.run()
        >>> [sorted(epoch.train) for epoch in state.history]
        [['layer 0'], ['energy', 'generator', 'leak', 'position', 'profile', 'teacher']]
    """
    train, valid = split_showers(showers, "train"), split_showers(showers, "validation")
    _check(teacher, [*train, *valid])
    configs = distinct_configs([*train, *valid])
    return DistillationTask(
        config,
        teacher.coding,
        configs,
        packed(train, configs),
        packed(valid, configs),
        teacher=teacher,
        divergence=divergence,
        on_policy=on_policy,
        comparison=sample_comparison(valid, compare_every, config),
        processes=processes,
        cuda_graphs=cuda_graphs,
    )


def stream_distillation_task(
    teacher: ShowerGenerator,
    configs: ConfigLike | Sequence[ConfigLike],
    config: GeneratorTrainingConfig,
    *,
    batches_per_epoch: int = 400,
    validation_showers: int = 10_000,
    divergence: Divergence = "forward",
    on_policy: bool = False,
    compare_every: int | None = None,
    processes: Processes | None = None,
    cuda_graphs: bool = True,
) -> StreamDistillationTask:
    """Prepare the distillation of a generator on showers that are simulated during the training.

    Args:
        teacher: See `distillation_task`.
        configs: See `stream_generator_task`.
        config: See `distillation_task`.
        batches_per_epoch: Number of batches from one validation to the next.
        validation_showers: Number of validation showers.
        divergence: See `distillation_task`.
        on_policy: See `distillation_task`.
        compare_every: See `stream_generator_task`.
        processes: See `stream_generator_task`.
        cuda_graphs: See `stream_generator_task`.

    Returns:
        The task with two or three stages, for `supa_learning.Trainer`; see `DistillationTask`.

    Raises:
        ValueError: As in `distillation_task`, or if the processes cannot share a batch evenly.

    Example:
        >>> import supa
        >>> from supa_mamba import GeneratorConfig, GeneratorTrainingConfig, HitCoding, ShowerGenerator
        >>> from supa_mamba import stream_distillation_task
        >>> sizes = GeneratorConfig(model="transformer", d_model=32, n_layer=2)
        >>> teacher = ShowerGenerator(sizes, HitCoding.fit(supa.simulate(60, "critical", seed=1)))
        >>> config = GeneratorTrainingConfig(generator=sizes.replace(mamba_layers=(0,)), epochs=1, batch_size=16)
        >>> task = stream_distillation_task(teacher, "critical", config, batches_per_epoch=2, validation_showers=40)
        >>> task.stages
        2
    """
    parts = streamed_showers(
        configs, config, validation_showers=validation_showers, compare_every=compare_every, processes=processes
    )
    _check(teacher, [*parts.sample, *parts.valid])
    return StreamDistillationTask(
        config,
        teacher.coding,
        *parts.packed(),
        batches_per_epoch=batches_per_epoch,
        teacher=teacher,
        divergence=divergence,
        on_policy=on_policy,
        comparison=parts.comparison,
        processes=processes,
        cuda_graphs=cuda_graphs,
    )


def _check(teacher: ShowerGenerator, parts: Sequence[Showers]) -> None:
    """Check that showers are of the configs and energies that the teacher knows."""
    for part in parts:
        check_showers(part)
        teacher.coding.conditions.check(part.config, torch.from_numpy(part.incident_energy))
