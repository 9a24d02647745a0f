"""Training task that fine-tunes a generator with a reward for its samples."""

import copy
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from supa import ShowerConfig, Showers
from supa_learning.flat_gradients import FlatGradients
from supa_learning.processes import Processes
from supa_learning.schedules import WarmupCosine
from supa_learning.task import Figures, TrainingTask, Validation
from supa_mamba.generator.credits import Credits, divergence
from supa_mamba.generator.finetuning_config import FinetuningConfig
from supa_mamba.generator.hits import HitBatch
from supa_mamba.generator.model import ShowerGenerator, previous_of
from supa_mamba.generator.rewards import Reward, Sample
from supa_mamba.generator.sample_measures import SampleMeasures
from supa_mamba.generator.sampling.profile_batches import sample_profiles
from supa_mamba.generator.sampling.sampler import model_name, sample_showers
from supa_mamba.generator.training_config import GeneratorTrainingConfig

POLICY = "policy"
"""Name of the sampled choices in the figures of an epoch."""

_TRAINING, _REWARD, _MEASUREMENT = 0x9E3779B97F4A7C15, 0xD1B54A32D192ED03, 0x8CB92BA72F3D8DD7
"""Arbitrary constants, which separate the seeds of samples from each other and from those of true showers."""
_LIKELIHOOD_BATCH = 256
"""Number of showers whose likelihoods are computed at once in a measurement."""


class LogDensities(NamedTuple):
    """Logarithms of the densities of the choices of showers, in the order of `Credits`.

    Args:
        leak: (S,) of the leak.
        profile: (S, L) of the slices.
        hits: (T,) of the hits, or None.
    """

    leak: Tensor
    profile: Tensor
    hits: Tensor | None

    @classmethod
    def of(cls, model: ShowerGenerator, batch: HitBatch, longest: int | None) -> "LogDensities":
        """Compute the densities of packed showers, of which no shower sees another.

        Args:
            model: The generator.
            batch: The showers.
            longest: Largest number of hits of a shower, or None to leave out the hits.

        Returns:
            The logarithms.
        """
        hits = None
        if longest is not None:
            previous = previous_of(batch)
            hidden = model.hidden(previous, batch.offset, max_length=longest).float()
            energy, position = model.hit_likelihood(hidden, previous, batch)
            hits = energy + position
        return cls(model.leak_likelihood(batch), model.profile_likelihood(batch), hits)

    def divergences(self, reference: "LogDensities") -> Tensor:
        """Estimate the divergence from a reference.

        Args:
            reference: Logarithms of the densities of the same choices.

        Returns:
            () sum of the estimates of `divergence` for each choice.
        """
        return torch.stack(
            [divergence(p, q).sum() for p, q in zip(self, reference, strict=True) if p is not None and q is not None]
        ).sum()

    def total(self) -> Tensor:
        """Return the logarithm of the likelihood.

        Returns:
            () sum of all logarithms.
        """
        return torch.stack([part.sum() for part in self if part is not None]).sum()


class SampledBatch(NamedTuple):
    """Sampled showers of one config on the device of the training, with credits.

    Args:
        batch: The coded showers.
        credits: Their credits.
        reward: Estimate of the reward of the distribution.
        longest: Largest number of hits of a shower, or None if the hits were not sampled.
    """

    batch: HitBatch
    credits: Credits
    reward: float
    longest: int | None


class FinetuningTask(TrainingTask[list[SampledBatch]]):
    """Fine-tuning of a generator by group-relative policy optimisation.

    For each update, showers are sampled from the present generator, and each of their choices gets a credit from a
    reward of the distribution of the showers of its group; see `credits`. The loss is the mean over showers of

        - sum (credit of a choice) log p(choice) + kl sum (divergence from the reference at the choice)

    over all choices of a shower: its leak, the hits of each slice, and each hit. The reference is the generator before
    the fine-tuning. Each sample is used for one update, so ratios of densities are 1 and need no clipping. Sums are not
    divided by the number of hits, which would give the choices of short showers more weight.

    An epoch is an interval of the config. At its beginning, the reward is fitted to a sample; at its end, a sample is
    measured. The result has the weights of the last update: to select the best measurement would be another choice of a
    best sample.

    Args:
        config: Configuration of the fine-tuning.
        reference: The generator. It is copied.
        rewards: Reward for each config.
        measured: True showers of each config, with which samples are measured.
        digest: Checksum of the showers of the rewards.
        processes: This process and its device, by default the CPU.

    Raises:
        ValueError: If there are several processes, or the batch size is no multiple of the groups.
    """

    not_finite = "the fine-tuning diverged; lower learning_rate or raise kl"
    model: ShowerGenerator

    def __init__(
        self,
        config: FinetuningConfig,
        reference: ShowerGenerator,
        rewards: Mapping[ShowerConfig, Reward],
        measured: Mapping[ShowerConfig, Showers],
        *,
        digest: str = "",
        processes: Processes | None = None,
    ) -> None:
        processes = processes or Processes()
        if processes.count > 1:
            raise ValueError("A fine-tuning runs in one process; start it without torchrun.")
        shares = config.group_size * len(rewards)
        if config.batch_size % shares:
            groups = f"groups of {config.group_size}"
            if len(rewards) > 1:
                groups += f" for each of {len(rewards)} configs"
            raise ValueError(
                f"batch_size: {config.batch_size} was given, but it must be a multiple of {shares}: {groups}."
            )
        self.reference = copy.deepcopy(reference).to(processes.device).requires_grad_(False).eval()
        model = copy.deepcopy(self.reference).train()
        self.uses_hits = any(reward.uses_hits for reward in rewards.values())
        for module in (model,) if self.uses_hits else (model.leak_head, model.profile):
            module.requires_grad_(True)
        self._trained = [weights for weights in model.parameters() if weights.requires_grad]
        self._gradients = FlatGradients(self._trained)
        self._adamw = torch.optim.AdamW(self._trained, lr=config.learning_rate, weight_decay=0.0)
        super().__init__(
            model,
            seed=config.seed,
            epochs=config.steps // config.interval,
            patience=config.steps,
            schedule=WarmupCosine(config.learning_rate, config.warmup),
            optimizer=self._adamw,
            processes=processes,
        )
        self.finetuning, self.rewards = config, dict(rewards)
        self.coding, self.shower_configs = reference.coding, tuple(rewards)
        self.config = GeneratorTrainingConfig(
            generator=reference.config,
            fields=reference.coding.conditions.fields,
            epochs=self.epochs,
            batch_size=config.batch_size,
            learning_rate=config.learning_rate,
            warmup=config.warmup,
            weight_decay=0.0,
            clip=config.clip,
            ema=0.0,
            patience=self.patience,
            seed=config.seed,
        )
        self.valid = range(sum(map(len, measured.values())))
        """Numbers of the true showers with which samples are measured."""
        self._measures = {config: SampleMeasures(showers) for config, showers in measured.items()}
        self.digest = digest + model_name(reference)
        self._fitted: dict[str, Tensor] | None = None
        """Weights of the generator to whose samples the rewards are fitted."""
        self._measurements = 0
        self.before: Figures = {}
        """Figures of a measurement of the reference."""

    @property
    def steps_per_epoch(self) -> int:
        """Number of updates of an interval."""
        return self.finetuning.interval

    @property
    def units(self) -> int:
        """Number of showers that are sampled in an interval."""
        return self.finetuning.interval * self.finetuning.batch_size

    def start_stage(self, stage: int) -> None:
        """Measure the reference before the first update."""
        if not self.before:
            self._fit_rewards(self.reference.state_dict())
            with torch.no_grad():
                self.before = self._measured()

    def batches(self, stage: int, epoch: int, first: int) -> Iterator[list[SampledBatch]]:
        """Fit the rewards, and return samples of the present generator for the updates of an interval."""
        if first == 0 or self._fitted is None:
            self._fitted = copy.deepcopy(self.model.state_dict()) if self.uses_hits else {}
        self._fit_rewards(self._fitted)
        self.model.train()
        steps = range(epoch * self.steps_per_epoch + first, (epoch + 1) * self.steps_per_epoch)
        return (self._sampled(step) for step in steps)

    def update(self, batch: list[SampledBatch], learning_rate: float) -> Tensor:
        """Update the generator with the credits of a sample.

        Args:
            batch: Sampled showers of each config.
            learning_rate: The learning rate.

        Returns:
            (4,) float32 sums over showers: rewards, divergences, nats of the choices that are trained, and ones.
        """
        for group in self._adamw.param_groups:
            group["lr"] = learning_rate
        count = sum(len(part.batch.leak) for part in batch)
        sums = torch.zeros(4, device=self.device)
        losses: list[Tensor] = []
        for part in batch:
            densities = LogDensities.of(self.model, part.batch, part.longest)
            with torch.no_grad():
                of_reference = LogDensities.of(self.reference, part.batch, part.longest)
            apart = densities.divergences(of_reference)
            gain = _gain(part.credits, densities, part.batch.offset)
            losses.append((self.finetuning.kl * apart - gain) / count)
            showers = len(part.batch.leak)
            totals = (part.reward * showers, float(apart.detach()), -float(densities.total().detach()), showers)
            sums += torch.tensor(totals, device=self.device)
        self._gradients.backward(torch.stack(losses).sum())
        nn.utils.clip_grad_norm_(self._trained, self.finetuning.clip)
        self._adamw.step()
        return sums

    def figures(self, totals: Tensor) -> Figures:
        """Return the reward, and the divergence and the entropy of the trained choices, per shower."""
        reward, apart, nats = (totals[:3] / totals[3]).tolist()
        return {POLICY: {"reward": reward, "kl_per_shower": apart, "entropy_per_shower": nats}}

    def validation_batches(self) -> Iterable[list[SampledBatch]]:
        """Return nothing: a measurement samples its showers."""
        return ()

    def validate(self, batches: Iterable[list[SampledBatch]]) -> Validation:
        """Measure a sample. Each measurement has a better score than the one before."""
        self._measurements += 1
        return Validation((float(self._measurements),), self._measured())

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the optimizer, the settings, the measurement before, and what the rewards depend on."""
        return super().state_dict() | {
            "finetuning": self.finetuning.to_dict(),
            "before": dict(self.before),
            "fitted": self._fitted,
            "measurements": self._measurements,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state; see `TrainingTask.load_state_dict`."""
        super().load_state_dict(state)
        self.before, self._fitted, self._measurements = (state[name] for name in ("before", "fitted", "measurements"))

    def _fit_rewards(self, weights: Mapping[str, Tensor]) -> None:
        """Fit the rewards to samples of the generator with some weights."""
        if not self.uses_hits:
            return
        model = copy.deepcopy(self.reference)
        model.load_state_dict(weights)
        for config, reward in self.rewards.items():
            sample = partial(self._showers, model, config, self.finetuning.measured, _REWARD)
            reward.fit(sample, self.seed)

    def _sampled(self, step: int) -> list[SampledBatch]:
        """Sample showers for an update, and compute their credits."""
        count = self.finetuning.batch_size // len(self.rewards)
        found = []
        for config, reward in self.rewards.items():
            sample = self._sample(config, count, step * count)
            order = torch.argsort(sample.incident_energy, stable=True)
            of_showers = reward.credits(sample, order.view(-1, self.finetuning.group_size)).to(self.device)
            batch = sample.batch.to(self.device)
            longest = int(sample.batch.offset.diff().max()) if reward.uses_hits else None
            found.append(SampledBatch(batch, of_showers, reward.mean(sample), longest))
        return found

    def _sample(self, config: ShowerConfig, count: int, first: int) -> Sample:
        """Sample showers for an update, without hits if no reward depends on them."""
        if self.uses_hits:
            return self._coded(self._showers(self.model, config, count, _TRAINING, first))
        return Sample(*sample_profiles(self.model, config, count, seed=self.seed ^ _TRAINING, first=first), None)

    def _coded(self, showers: Showers) -> Sample:
        return Sample(self.coding.encode(showers), torch.from_numpy(showers.incident_energy), showers)

    @torch.no_grad()
    def _showers(
        self, model: ShowerGenerator, config: ShowerConfig, count: int, purpose: int, first: int = 0
    ) -> Showers:
        return sample_showers(model, config, count, seed=self.seed ^ purpose, first=first)

    def _measured(self) -> Figures:
        """Measure samples of the present generator."""
        found: dict[str, Mapping[str, float]] = {}
        for number, (config, reward) in enumerate(self.rewards.items()):
            sample = self._coded(self._showers(self.model, config, self.finetuning.measured, _MEASUREMENT))
            assert sample.showers is not None
            apart, nats = self._divergence_and_nats(sample.showers)
            policy = {
                "reward": reward.mean(sample),
                "kl_per_shower": apart / len(sample.showers),
                "entropy_per_hit": nats / max(len(sample.showers.x), 1),
            }
            name = f", config {number}" if len(self.rewards) > 1 else ""
            of_config = {POLICY: policy, **self._measures[config](sample.showers)}
            found |= {f"{part}{name}": figures for part, figures in of_config.items()}
        return found

    def _divergence_and_nats(self, showers: Showers) -> tuple[float, float]:
        """Return the sums of the divergences and of the negative logarithms of the likelihoods."""
        apart = nats = 0.0
        for begin in range(0, len(showers), _LIKELIHOOD_BATCH):
            coded = self.coding.encode(showers[begin : begin + _LIKELIHOOD_BATCH])
            batch = coded.to(self.device)
            longest = int(coded.offset.diff().max())
            one, other = (LogDensities.of(model, batch, longest) for model in (self.model, self.reference))
            apart += float(one.divergences(other))
            nats -= float(one.total())
        return apart, nats


def _gain(given: Credits, densities: LogDensities, offset: Tensor) -> Tensor:
    """Return the () sum of credits times logarithms of densities."""
    gain = (given.leak * densities.leak).sum() + (given.profile * densities.profile).sum()
    if given.hits is None or densities.hits is None:
        return gain
    of_hits = given.hits.repeat_interleave(offset.diff(), output_size=len(densities.hits))
    return gain + (of_hits * densities.hits).sum()
