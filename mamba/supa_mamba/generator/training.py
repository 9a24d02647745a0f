"""Training of generators of showers with `supa_learning.Trainer`."""

import copy
from collections.abc import Sequence
from typing import Any

import torch

from supa import Showers
from supa_learning.processes import Processes
from supa_learning.trainer import Callback, Trainer
from supa_mamba.generator.coding import HitCoding
from supa_mamba.generator.model import ShowerGenerator
from supa_mamba.generator.sample_comparison import SampleComparison
from supa_mamba.generator.shower_checks import check_showers
from supa_mamba.generator.task import GeneratorTask
from supa_mamba.generator.training_config import GeneratorTrainingConfig
from supa_mamba.generator.training_showers import distinct_configs, packed, split_showers


def generator_task(
    showers: Any,
    config: GeneratorTrainingConfig,
    *,
    compare_every: int | None = None,
    initial: ShowerGenerator | None = None,
    processes: Processes | None = None,
    cuda_graphs: bool = True,
) -> GeneratorTask:
    """Read showers and prepare the training of a generator on them.

    Args:
        showers: `supa.Showers`, a `supa_datasets.ShowerFile`, a path, or a list of these. The index of a shower
            determines its split: 80 % training, 10 % validation, 10 % test.
        config: Configuration of the generator and its training.
        compare_every: Number of epochs after which sampled showers are compared with validation showers; None for
            never.
        initial: Generator whose weights and coding the training begins with; by default new ones. It is not modified.
        processes: Processes that train together, and their device; this process on the CPU by default.
        cuda_graphs: Whether to capture CUDA graphs on a GPU; see `GeneratorTask`.

    Returns:
        The task, for `supa_learning.Trainer`.

    Raises:
        FileNotFoundError: If a file does not exist.
        ValueError: If a generator cannot learn from the showers, or ``initial`` has other sizes than the config.

    Example:
        >>> import supa, supa_mamba
        >>> from supa_learning import Trainer
        >>> showers = supa.simulate(100, "critical", seed=1)
        >>> sizes = supa_mamba.GeneratorConfig(d_model=32, n_layer=1)
        >>> config = supa_mamba.GeneratorTrainingConfig(generator=sizes, epochs=1)
        >>> task = supa_mamba.generator_task(showers, config)
        >>> state = Trainer(task).run()
        >>> sorted(state.history[0].valid)
        ['energy', 'generator', 'leak', 'position', 'profile']
    """
    return task_of_splits(
        split_showers(showers, "train"),
        split_showers(showers, "validation"),
        config,
        compare_every=compare_every,
        initial=initial,
        processes=processes,
        cuda_graphs=cuda_graphs,
    )


def task_of_splits(
    train: Sequence[Showers],
    valid: Sequence[Showers],
    config: GeneratorTrainingConfig,
    *,
    compare_every: int | None = None,
    initial: ShowerGenerator | None = None,
    **options: Any,
) -> GeneratorTask:
    """Prepare the training of a generator on given training and validation showers.

    Args:
        train: Training showers of one or several configs.
        valid: Validation showers.
        config: Configuration of the generator and its training.
        compare_every: See `generator_task`.
        initial: See `generator_task`.
        **options: Further arguments of `GeneratorTask`.

    Returns:
        The task.

    Raises:
        ValueError: If a generator cannot learn from the showers.
    """
    coding = HitCoding.fit(train, config.fields) if initial is None else coding_of(initial, config)
    for part in (*train, *valid):
        check_showers(part)
    configs = distinct_configs([*train, *valid])
    options |= {"initial": copy.deepcopy(initial)}
    options["comparison"] = sample_comparison(valid, compare_every, config)
    return GeneratorTask(config, coding, configs, packed(train, configs), packed(valid, configs), **options)


def coding_of(initial: ShowerGenerator, config: GeneratorTrainingConfig) -> HitCoding:
    """Return the coding of a generator with which a training begins.

    Args:
        initial: The generator.
        config: Configuration of the training.

    Returns:
        The coding.

    Raises:
        ValueError: If the generator has other sizes or conditions than the config.
    """
    initial.check_float("be trained")
    sizes, fields = initial.config, tuple(initial.coding.conditions.fields)
    if sizes != config.generator:
        raise ValueError(f"initial: its sizes are {sizes}, but the config has {config.generator}; use the same.")
    if fields != config.fields:
        raise ValueError(f"initial: its fields are {list(fields)}, but the config has {list(config.fields)}.")
    return initial.coding


def sample_comparison(
    valid: Sequence[Showers], compare_every: int | None, config: GeneratorTrainingConfig
) -> SampleComparison | None:
    """Return the comparison of sampled showers for a training.

    Args:
        valid: Validation showers.
        compare_every: See `generator_task`.
        config: Configuration of the training.

    Returns:
        The comparison; None if ``compare_every`` is None.

    Raises:
        ValueError: If there are too few validation showers.
    """
    return None if compare_every is None else SampleComparison(valid, every=compare_every, seed=config.seed)


def train_generator(
    showers: Any,
    config: GeneratorTrainingConfig,
    *,
    compare_every: int | None = None,
    device: str = "cpu",
    callbacks: Sequence[Callback] = (),
    cuda_graphs: bool = True,
) -> Trainer[GeneratorTask]:
    """Train a generator on showers in this process.

    Args:
        showers: `supa.Showers`, a `supa_datasets.ShowerFile`, a path, or a list of these. The index of a shower
            determines its split: 80 % training, 10 % validation, 10 % test.
        config: Configuration of the generator and its training.
        compare_every: See `generator_task`.
        device: Device of the training, such as ``"cuda"``.
        callbacks: Callbacks of the trainer, for example for progress bars and checkpoints.
        cuda_graphs: Whether to capture CUDA graphs on a GPU; see `GeneratorTask`.

    Returns:
        The trainer after training. ``trainer.task.model`` has the best averaged weights, and ``trainer.state.history``
        contains the nats of each epoch.

    Raises:
        FileNotFoundError: If a file does not exist.
        ValueError: If a generator cannot learn from the showers, or the training diverged.

    Example:
        >>> import supa, supa_mamba
        >>> showers = supa.simulate(60, "critical", seed=1)
        >>> sizes = supa_mamba.GeneratorConfig(d_model=32, n_layer=1)
        >>> config = supa_mamba.GeneratorTrainingConfig(generator=sizes, epochs=1, batch_size=16)
        >>> trainer = supa_mamba.train_generator(showers, config)
        >>> bool(trainer.state.history[0].valid["generator"]["nats_per_hit"] < 9)
        True
    """
    processes = Processes(device=torch.device(device))
    task = generator_task(showers, config, compare_every=compare_every, processes=processes, cuda_graphs=cuda_graphs)
    trainer = Trainer(task, callbacks=callbacks)
    trainer.run()
    return trainer
