"""Training tasks that distil a Transformer generator into one with Mamba-2 layers."""

import copy
import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from supa import ShowerConfig
from supa_learning.randomness import epoch_order
from supa_learning.task import Figures, Validation
from supa_mamba.generator.coding import HitCoding
from supa_mamba.generator.hits import HitBatch
from supa_mamba.generator.model import Previous, ShowerGenerator, previous_of
from supa_mamba.generator.sampling.sampler import sample_showers
from supa_mamba.generator.stream_training import StreamGeneratorTask
from supa_mamba.generator.task import GeneratorTask
from supa_mamba.generator.training_config import GeneratorTrainingConfig
from supa_mamba.generator.training_showers import packed
from supa_mamba.modules.conversion import convert_attention, fit_converted, mixers_of, recorded_mixers
from supa_mamba.packed_showers import Batch, PackedShowers

Divergence = Literal["forward", "reverse"]

ALIGNMENT, ON_POLICY = 0, 2
"""Numbers of the first and the third stage."""
DATA_SHARE = 0.5
"""Share of the likelihood of true hits in the loss of the second stage; the rest is the divergence from the teacher."""

_FITTED_SHOWERS = 512
_LEAST_UNIFORM = 2.0**-25
"""Lower limit of random numbers, because the normal quantile of 0 is infinite."""
_LEAST_SIZE = 1e-12  # of a batch without hits
_PARTS = 4
"""Number of parts of the likelihood."""
_SAMPLES = 0x7F4A7C159E3779B9
"""Arbitrary constant, which separates the samples of the student from the training showers of the same seed."""


class DistillationTask(GeneratorTask):
    """Training task of a student, a copy of a Transformer with Mamba-2 in place of attention in some layers.

    The new layers begin with the projections of the attention; see `convert_attention`. Their decay rates and output
    projections are fitted to the attention on up to 512 training showers; see `fit_converted`.

    In the first stage, only they are trained: each one to the result of the attention that it replaces, on the
    teacher's inputs of this layer. The loss of a layer is the squared error in units of the squared result.

    In the second stage, all layers and the heads of the hits are trained. Half of the loss is the negative logarithm of
    the likelihood, as in `GeneratorTask`. The other half is the divergence KL(teacher || student) of the distributions
    of the next hit after the true earlier hits. That of mixtures has no closed form. The estimate from one hit of the
    teacher, log p_teacher - log p_student, has no bias. With ``divergence="reverse"`` it is KL(student || teacher). Its
    value and gradient are estimated from one hit of the student.

    In the third stage, which ``on_policy`` adds, the earlier hits are those of showers that the student samples. The
    loss is the divergence alone. Showers are sampled at the beginning of each epoch with the averaged weights. The
    result has the weights of the last epoch, because no validation loss measures how well a model generates.

    The head of the leak and the network of the profile do not depend on the layers. They remain those of the teacher.

    Args:
        config: Configuration of the student and its training. Each stage has its number of epochs, its schedule of the
            learning rate and its best weights.
        coding: The coding of the teacher.
        shower_configs: See `GeneratorTask`.
        train: See `GeneratorTask`.
        valid: See `GeneratorTask`.
        teacher: The teacher. It is copied.
        divergence: Direction of the divergence in the second and the third stage: ``"forward"``, which keeps the tails
            of the teacher; or ``"reverse"``, which avoids hits that the teacher does not make.
        on_policy: Whether there is a third stage.
        **options: Further arguments of `GeneratorTask`.

    Raises:
        ValueError: If the student is no such copy of the teacher, or as in `GeneratorTask`.
    """

    def __init__(
        self,
        config: GeneratorTrainingConfig,
        coding: HitCoding,
        shower_configs: Sequence[ShowerConfig],
        train: PackedShowers,
        valid: PackedShowers,
        *,
        teacher: ShowerGenerator,
        divergence: Divergence = "forward",
        on_policy: bool = False,
        **options: Any,
    ) -> None:
        if divergence not in get_args(Divergence):
            allowed = ", ".join(get_args(Divergence))
            raise ValueError(f"divergence: {divergence!r} was given, but it must be one of {allowed}.")
        self._divergence = divergence
        self.stages = 3 if on_policy else 2
        self.layers = _converted_layers(teacher, config)
        """Indices of the layers whose attention is replaced."""
        student = _student(teacher, config, self.layers)
        super().__init__(config, coding, shower_configs, train, valid, initial=student, **options)
        self.teacher = copy.deepcopy(teacher).to(self.device).requires_grad_(False).eval()
        self._stage = ALIGNMENT
        self._sampling: dict[str, Tensor] | None = None
        """Weights of the student that samples the showers of an epoch."""
        self.digest += _digest(teacher)
        self.fit()

    @torch.no_grad()
    def fit(self) -> None:
        """Fit the new layers to the attention on the first training showers; see `fit_converted`."""
        trained, averaged = self.trained, self.model
        assert isinstance(trained, ShowerGenerator)
        count = min(len(self.train), _FITTED_SHOWERS)
        coded = self._coded(next(self.train.batches(np.arange(count), count)))
        rows = self.teacher.embed(previous_of(coded))
        fit_converted(trained.stack, self.teacher.stack, self.layers, rows, coded.offset)
        averaged.load_state_dict(trained.state_dict())

    def start_stage(self, stage: int) -> None:
        """Select the parameters that the stage trains."""
        self._stage = stage
        trained = self.trained
        assert isinstance(trained, ShowerGenerator)
        trained.requires_grad_(stage != ALIGNMENT)
        if stage == ALIGNMENT:
            for mixer in mixers_of(trained.stack, self.layers):
                mixer.requires_grad_(True)
        else:
            for head in (trained.leak_head, trained.profile):
                head.requires_grad_(False)
        self._select_trained()

    def end_stage(self, stage: int) -> None:
        """Continue from the best averaged weights."""
        if stage + 1 < self.stages:
            self._average.restart()
            self._adamw.state.clear()

    def batches(self, stage: int, epoch: int, first: int) -> Iterator[Batch]:
        """Return this process's shares of the training batches of an epoch; see `TrainingTask.batches`."""
        if stage != ON_POLICY:
            return super().batches(stage, epoch, first)
        self._epoch = epoch
        if first == 0 or self._sampling is None:
            self._sampling = copy.deepcopy(self.model.state_dict())
        showers = self._sampled(epoch, self._sampling)
        self.trained.train()
        order = epoch_order(len(showers), self.seed, stage, epoch)
        shares = showers.batches(order, self.config.batch_size, first=first, share=self._share)
        return map(self._with_all_hits, shares)

    def losses(self, batch: Batch) -> Tensor:
        """Return the loss of each new layer, or the shares of the nats and of the divergence in the loss."""
        if self._stage == ALIGNMENT:
            error, size = self._alignment(self.trained, batch)
            return error / size.clamp(min=_LEAST_SIZE) * batch.sum(torch.ones_like(batch.points[:, 0]), by_hit=True)
        return self._nats_and_divergence(batch, by_nats=0.0 if self._stage == ON_POLICY else DATA_SHARE)

    def validation_sums(self, batch: Batch) -> Tensor:
        """Return the squared errors and results of each new layer, or the nats of the averaged model."""
        if self._stage == ALIGNMENT:
            return torch.cat(self._alignment(self.model, batch))
        return super().validation_sums(batch)

    def figures(self, totals: Tensor) -> Figures:
        """Return the errors of the layers, or the nats and the divergence; see `TrainingTask.figures`."""
        if self._stage == ALIGNMENT:
            return self._errors(totals[:-2] / totals[-2])
        losses, numbers = totals[:-2], totals[-2:]
        if len(losses) == _PARTS:  # of a validation
            return super().figures(totals)
        if self._stage == ON_POLICY:
            return {"teacher": {"divergence_per_hit": float(losses[_PARTS:].sum() / numbers[0])}}
        found = dict(super().figures(torch.cat([losses[:_PARTS] / DATA_SHARE, numbers])))
        divergence = losses[_PARTS:].sum() / (1 - DATA_SHARE) / numbers[0]
        return found | {"teacher": {"divergence_per_hit": float(divergence)}}

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the task, its settings, and the weights of the student that samples."""
        chosen = {"divergence": self._divergence, "on_policy": self.stages > ON_POLICY}
        return super().state_dict() | chosen | {"sampling": self._sampling}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state; see `TrainingTask.load_state_dict`."""
        super().load_state_dict(state)
        self._sampling = state["sampling"]

    def validate(self, batches: Iterable[Batch]) -> Validation:
        """Compute the errors of the new layers, or the nats, on the validation showers with the averaged weights."""
        if self._stage != ALIGNMENT:
            found = super().validate(batches)
            counts = self._stage == ON_POLICY and math.isfinite(found.score[0])
            return replace(found, score=(float(self._epoch),)) if counts else found
        sums, _ = self._validation_totals(batches)
        error, size = sums.chunk(2)
        return Validation((-float((error / size).sum()),), self._errors(error / size))

    def _errors(self, errors: Tensor) -> Figures:
        pairs = zip(self.layers, errors.tolist(), strict=True)
        return {f"layer {number}": {"relative_error": error} for number, error in pairs}

    def _alignment(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the squared errors of the new layers, and the squared results of the attention, (layers,) sums."""
        assert isinstance(model, ShowerGenerator)
        coded = self._coded(batch)
        errors: list[Tensor] = []
        sizes: list[Tensor] = []
        with self._autocast(enabled=model is self.trained):
            with torch.no_grad(), recorded_mixers(self.teacher.stack, self.layers) as found:
                self.teacher.hidden(previous_of(coded), coded.offset, max_length=batch.longest)
            for mixer, (x, y) in zip(mixers_of(model.stack, self.layers), found, strict=True):
                error = mixer(x, coded.offset) - y
                for sums, values in ((errors, error), (sizes, y)):
                    sums.append(batch.sum(values.float().square().sum(1), by_hit=True))
        return torch.stack(errors), torch.stack(sizes)

    def _nats_and_divergence(self, batch: Batch, *, by_nats: float) -> Tensor:
        """Return (6,) shares in the loss: four of the nats, and two of the divergence for energies and positions."""
        student, teacher = self.trained, self.teacher
        assert isinstance(student, ShowerGenerator)
        coded = self._coded(batch)
        previous = previous_of(coded)
        with self._autocast():
            hidden = student.hidden(previous, coded.offset, max_length=batch.longest).float()
            with torch.no_grad():
                of_teacher = teacher.hidden(previous, coded.offset, max_length=batch.longest).float()
        terms = student.log_likelihood(hidden, previous, coded)
        of_showers = [batch.sum(values, by_hit=False) for values in (terms.leak, terms.profile)]
        of_hits = [batch.sum(values, by_hit=True) for values in (terms.energy, terms.position)]
        known = student.add_features(hidden, previous)
        with torch.no_grad():
            of_teacher = teacher.add_features(of_teacher, previous)
            source, rows = (teacher, of_teacher) if self._divergence == "forward" else (student, known)
            drawn = _drawn_hits(source, rows, previous, coded)
            expected = _log_densities(teacher, of_teacher, previous, *drawn)
        reached = _log_densities(student, known, previous, *drawn)
        if self._divergence == "forward":
            parts = [one - other for one, other in zip(expected, reached, strict=True)]
        else:
            parts = _reverse_divergence(reached, expected, batch)
        divergence = [batch.sum(part, by_hit=True) for part in parts]
        return torch.stack([-by_nats * x for x in of_showers + of_hits] + [(1 - by_nats) * x for x in divergence])

    @torch.no_grad()
    def _sampled(self, epoch: int, weights: Mapping[str, Tensor]) -> PackedShowers:
        """Sample the showers of an epoch from the student with some weights, the same ones in all processes."""
        student = copy.deepcopy(self.model)
        assert isinstance(student, ShowerGenerator)
        student.load_state_dict(weights)
        counts = np.diff(np.linspace(0, self.units, len(self.shower_configs) + 1).round().astype(np.int64)).tolist()
        parts = [
            sample_showers(student, config, count, seed=self.seed ^ _SAMPLES, first=epoch * self.units)
            for config, count in zip(self.shower_configs, counts, strict=True)
            if count
        ]
        return packed(parts, self.shower_configs).to(self.device)


class StreamDistillationTask(StreamGeneratorTask, DistillationTask):
    """`DistillationTask` on showers that are simulated during the training; see `StreamGeneratorTask`."""


def _converted_layers(teacher: ShowerGenerator, config: GeneratorTrainingConfig) -> tuple[int, ...]:
    """Return the layers whose attention is replaced."""
    sizes = teacher.config
    if sizes.model != "transformer":
        raise ValueError(
            f'teacher: its model is "{sizes.model}", but only the attention of a "transformer" can be replaced; train '
            "one with --model transformer."
        )
    if sizes.paired_layers:
        raise ValueError("teacher: some of its layers are pairs; distil the generator before its layers are paired.")
    if config.generator.replace(mamba_layers=sizes.mamba_layers, mamba_mixer=sizes.mamba_mixer) != sizes:
        raise ValueError("config: the student must have the sizes of the teacher, except for mamba_layers.")
    if sizes.mamba_layers and config.generator.mamba_mixer != sizes.mamba_mixer:
        raise ValueError(
            f"mamba_mixer: {config.generator.mamba_mixer!r} was given, but the teacher has layers of "
            f"{sizes.mamba_mixer!r} already."
        )
    if config.fields != teacher.coding.conditions.fields:
        raise ValueError(
            f"fields: {list(config.fields)} was given, but the teacher has {list(teacher.coding.conditions.fields)}."
        )
    before, after = set(sizes.mamba_layers), set(config.generator.mamba_layers)
    if not before < after:
        raise ValueError(
            f"mamba_layers: {sorted(after)} was given, but the teacher has {sorted(before)}; name these and at least "
            "one more."
        )
    return tuple(sorted(after - before))


def _student(teacher: ShowerGenerator, config: GeneratorTrainingConfig, layers: Sequence[int]) -> ShowerGenerator:
    student = copy.deepcopy(teacher).requires_grad_(True).train()
    student.config = config.generator
    student.stack = convert_attention(student.stack, layers, config.generator.mamba_mixer)
    return student


def _digest(model: nn.Module) -> str:
    found = hashlib.sha256()
    for weights in model.state_dict().values():
        found.update(weights.cpu().numpy().tobytes())
    return found.hexdigest()


def _drawn_hits(model: ShowerGenerator, known: Tensor, previous: Previous, batch: HitBatch) -> tuple[Tensor, Tensor]:
    """Draw a hit in place of each true one: its energy logit, which the last hit of a slice keeps, and its position."""
    uniform = torch.rand(known.shape[0], 5, device=known.device).clamp(min=_LEAST_UNIFORM)
    energy = model.energy_distribution(known).sample(uniform[:, :2])
    energy = torch.where(previous.left == 1, batch.energy_logit, energy)
    return energy, model.position_distribution(known, previous, energy).sample(uniform[:, 2:])


def _reverse_divergence(of_student: Sequence[Tensor], of_teacher: Sequence[Tensor], batch: Batch) -> list[Tensor]:
    """Return log p_student - log p_teacher of hits of the student, with the gradient of its expectation.

    The gradient of the expectation is that of log p_student, times the value for energy and position together. Their
    mean is subtracted first: it does not change the expectation, except for a factor 1 - 1 / (number of hits).
    """
    values = [(one - other).detach() for one, other in zip(of_student, of_teacher, strict=True)]
    total = values[0] + values[1]
    hits = batch.sum(torch.ones_like(total), by_hit=True).clamp(min=1)
    centred = total - batch.sum(total, by_hit=True) / hits
    return [value + centred * (one - one.detach()) for value, one in zip(values, of_student, strict=True)]


def _log_densities(
    model: ShowerGenerator, known: Tensor, previous: Previous, energy: Tensor, position: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the logarithms of the densities of energy logits, 0 for the last hit of a slice, and of positions."""
    of_energy = torch.where(previous.left == 1, 0.0, model.energy_distribution(known).log_density(energy))
    return of_energy, model.position_distribution(known, previous, energy).log_density(position)
