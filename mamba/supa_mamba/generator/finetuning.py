"""Reinforcement fine-tuning of generators."""

from collections.abc import Sequence
from typing import Any

import torch

from supa import Showers, simulate
from supa.distances.reweighting import FEWEST_ROWS
from supa.presets import ConfigLike, as_config
from supa_learning.processes import Processes
from supa_mamba.generator.finetuning_config import FinetuningConfig
from supa_mamba.generator.finetuning_task import FinetuningTask
from supa_mamba.generator.model import ShowerGenerator
from supa_mamba.generator.rewards import DensityRatioReward, ProfileReward, Reward
from supa_mamba.generator.sampling.profile_batches import sample_profiles
from supa_mamba.generator.shower_checks import check_showers
from supa_mamba.generator.training_showers import distinct_configs, packed, split_showers

_TRUE, _SPREADS = 0x3F58476D1CE4E5B9, 0x14D049BB133111EB
"""Arbitrary constants, which separate the seeds of simulated showers and of samples from those of trainings."""


def finetuning_task(
    generator: ShowerGenerator,
    config: FinetuningConfig,
    *,
    configs: ConfigLike | Sequence[ConfigLike] | None = None,
    showers: Any = None,
    processes: Processes | None = None,
) -> FinetuningTask:
    """Prepare the reinforcement fine-tuning of a generator.

    Args:
        generator: The generator, which is copied. Its checkpoint after the fine-tuning is that of any generator.
        config: Configuration of the fine-tuning.
        configs: For the reward ``"profiles"``: name of a preset or config of the showers, or a list of these, such as
            the ``shower_configs`` of the checkpoint. Their expectations need a closed form.
        showers: For the reward ``"density-ratio"``: true showers for the classifier that rewards, in the forms of
            `generator_task`. The training split trains it, and the validation split measures samples.
        processes: This process and its device, by default the CPU.

    Returns:
        The task, for `supa_learning.Trainer`. ``task.before`` and the history of the trainer have the measurements.

    Raises:
        FileNotFoundError: If a file does not exist.
        NoClosedFormError: If the expectations of a config have no closed form.
        ValueError: If the reward lacks its configs or its showers, there are too few showers, the generator does not
            know them, or sizes do not fit.

    Example:
        >>> import supa
        >>> from supa_learning import Trainer
        >>> from supa_mamba import FinetuningConfig, GeneratorConfig, HitCoding, ShowerGenerator, finetuning_task
        >>> short = supa.ShowerConfig(num_slices=10, readout_layers=((6, 9),))
        >>> coding = HitCoding.fit(supa.simulate(100, short, seed=1))
        >>> model = ShowerGenerator(GeneratorConfig(d_model=32, n_layer=1), coding)  # untrained
        >>> sizes = {"batch_size": 64, "group_size": 64, "measured": 200}
        >>> config = FinetuningConfig(reward="profiles", steps=4, interval=2, **sizes)
        >>> trainer = Trainer(finetuning_task(model, config, configs=short))
        >>> state = trainer.run()
        >>> trainer.task.before["policy"]["kl_per_shower"], state.history[-1].valid["policy"]["kl_per_shower"] > 0
        (0.0, True)
    """
    processes = processes or Processes()
    rewards: dict[Any, Reward] = {}
    digest = ""
    if config.reward == "profiles":
        if showers is not None:
            raise ValueError("showers: the reward profiles compares with exact expectations; leave the showers out.")
        if configs is None:
            raise ValueError("configs: the reward profiles needs the configs of the showers to generate.")
        chosen = [configs] if isinstance(configs, str) or not isinstance(configs, Sequence) else configs
        measured = [
            simulate(config.measured, of_one, seed=config.seed ^ _TRUE)
            for of_one in dict.fromkeys(map(as_config, chosen))
        ]
        _check(generator, measured)
        for part in measured:
            sampled, _ = sample_profiles(generator, part.config, config.measured, seed=config.seed ^ _SPREADS)
            rewards[part.config] = ProfileReward(generator.coding, part, sampled)
    else:
        if showers is None:
            raise ValueError(
                "showers: the reward density-ratio needs true showers for its classifier; provide the training showers."
            )
        if configs is not None:
            raise ValueError("configs: the reward density-ratio has the configs of its showers; leave the configs out.")
        if config.measured < FEWEST_ROWS:
            raise ValueError(
                f"measured: {config.measured:,} was given, but the classifier of the reward density-ratio needs at "
                f"least {FEWEST_ROWS:,} sampled showers."
            )
        train, valid = split_showers(showers, "train"), split_showers(showers, "validation")
        _check(generator, [*train, *valid])
        known = distinct_configs(train)
        rewards = {one: DensityRatioReward(_joined(train, one)) for one in known}
        measured = [_joined(valid, one)[: config.measured] for one in known]
        digest = packed(train, known).digest()
    return FinetuningTask(
        config, generator, rewards, {part.config: part for part in measured}, digest=digest, processes=processes
    )


def _check(generator: ShowerGenerator, parts: Sequence[Showers]) -> None:
    """Check that a generator can be trained, and that showers are true ones which it knows."""
    generator.check_float("be trained")
    for part in parts:
        if part.run.model is not None:
            raise ValueError(f"showers: they are a sample of the model {part.run.model}; use simulated showers.")
        check_showers(part)
        generator.coding.conditions.check(part.config, torch.from_numpy(part.incident_energy))


def _joined(parts: Sequence[Showers], config: Any) -> Showers:
    return Showers.concatenate([part for part in parts if part.config == config])
