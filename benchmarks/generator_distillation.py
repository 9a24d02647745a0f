"""Compare students of a Transformer generator: shares of attention, ways of distillation, training from scratch.

    python benchmarks/generator_distillation.py teacher.ckpt [--attention 1/2 1/3 0] [--mixer mamba2] [--epochs 1]
        [--students fitted copied random scratch] [--batches-per-epoch 400] [--batch-size B] [--device cuda]
        [--showers 10000] [--figures high hits] [--batch-sizes 1 100 4096] [--json results.json]

The teacher is a checkpoint of ``supa mamba train-generator --model transformer``. The students of each share are
distilled on a stream of the teacher's config by the stages of ``supa mamba distil``, each of which has ``--epochs``:

fitted: the layers without attention begin with the projections of the attention; decay rates, step sizes and output
    projections are fitted to it, as in the package.
copied: the same without the fit.
random: new projections, fitted in the same way.
reverse: as fitted, with the reverse divergence.
by-loss: as fitted, with attention in the layers where skipping it costs most.
on-policy: as fitted, with the third stage, on showers of the student.
progressive: in steps, each of which halves the attention. All steps together have as many batches as fitted.
scratch: a generator of the same architecture without a teacher, trained for as many seconds as the fitted student.

The results are the nats per hit of validation showers, the areas of classifiers (see ``generator_budget.py``), and the
showers that are sampled per second. The seconds of a training contain the validations, but neither the compilation of
kernels nor the first capture of graphs, for which a short training of another student runs first.
"""

import argparse
import time
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple, cast, get_args

import torch
from generator_budget import sampled
from generator_quality import figures
from measuring import give, gpu_facts, note, torch_facts
from torch import nn

import supa
from supa_learning import Processes, Trainer
from supa_mamba import (
    GeneratorCheckpoint,
    GeneratorTrainingConfig,
    Mamba,
    Mamba2,
    ShowerGenerator,
    convert_attention,
    stream_distillation_task,
    stream_generator_task,
)
from supa_mamba.generator.distillation import layers_without_attention, least_needed_layers
from supa_mamba.generator.distillation_task import ON_POLICY, DistillationTask, Divergence
from supa_mamba.generator.task import GeneratorTask
from supa_mamba.modules.conversion import mixers_of
from supa_mamba.modules.options import ConvertedMixer

STUDENTS = ("fitted", "copied", "random", "reverse", "by-loss", "on-policy", "progressive", "scratch")
JUDGING_SEED, SKIPPING_SEED = 22, 23
SKIPPING_SHOWERS = 2000
WARM_UP, TRIALS = 5, (20, 80)  # batches
VALIDATION = 10_000  # showers


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser()
    parser.add_argument("teacher", type=Path)
    parser.add_argument("--attention", nargs="+", type=Fraction, default=[Fraction(1, 2), Fraction(1, 3), Fraction(0)])
    parser.add_argument("--mixer", choices=get_args(ConvertedMixer), default="mamba2")
    parser.add_argument("--students", nargs="+", choices=STUDENTS, default=["fitted", "copied", "random", "scratch"])
    parser.add_argument("--epochs", type=int, default=1, help="of each stage")
    parser.add_argument("--batches-per-epoch", type=int, default=400)
    parser.add_argument("--batch-size", type=int, help="of the training; by default that of the teacher")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--showers", type=int, default=10_000, help="that are judged")
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=[1, 100, 4096], help="of the sampling")
    parser.add_argument("--figures", nargs="+", choices=["high", "low", "hits"], default=["high", "hits"])
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    checkpoint = GeneratorCheckpoint.load(given.teacher)
    results = gpu_facts() if given.device == "cuda" else torch_facts()
    settings = ("mixer", "epochs", "batches_per_epoch", "batch_size", "showers")
    results |= {name: getattr(given, name) for name in settings}
    results["teacher"] = judged(checkpoint.model().to(given.device), checkpoint.shower_configs[0], given)
    note(f"teacher: {results['teacher']}")
    for share in given.attention:
        students = Students(checkpoint, share, given)
        for student in sorted(given.students, key=STUDENTS.index):
            results[f"attention {share}, {student}"] = students.measured(student)
            note(f"attention {share}, {student}: {results[f'attention {share}, {student}']}")
    give(results, given.json)


class Trained(NamedTuple):
    """A training: the generator, its seconds, the nats per hit of validation showers, and the number of batches."""

    model: ShowerGenerator
    seconds: float
    nats: float
    batches: int


class Students:
    """The students with one share of attention."""

    def __init__(self, checkpoint: GeneratorCheckpoint, share: Fraction, given: argparse.Namespace) -> None:
        self.teacher, self.share, self.given = checkpoint.model(), share, given
        self.showers, self._config = checkpoint.shower_configs[0], checkpoint.config
        self._seconds: float | None = None
        """Seconds of the training of the fitted student."""

    def measured(self, student: str) -> dict[str, Any]:
        """Train a student and return its figures."""
        if student == "scratch":
            if self._seconds is None:
                raise SystemExit(
                    "scratch: its number of batches follows from the student fitted; add it to --students."
                )
            model, seconds, nats, batches = self._from_scratch(self._seconds)
        else:
            self._distil(student, WARM_UP)  # compiles
            model, seconds, nats, batches = self._distil(student, self.given.batches_per_epoch)
        if student == "fitted":
            self._seconds = seconds
        result = {"seconds": round(seconds, 1), "batches": batches, "nats per hit": nats}
        return result | judged(model, self.showers, self.given)

    def _distil(self, student: str, batches: int) -> Trained:
        teacher, seconds, number = self.teacher, 0.0, 0
        steps = self._shares() if student == "progressive" else [self.share]
        for share in steps:
            of_epoch = max(WARM_UP, batches // len(steps))
            task = self._distillation(student, teacher, share, of_epoch)
            teacher, of_step, nats, of_batches = trained(task, of_epoch)
            seconds, number = seconds + of_step, number + of_batches
        return Trained(teacher, seconds, nats, number)

    def _shares(self) -> list[Fraction]:
        """Return the shares of the steps of a progressive distillation: 1/2, 1/4, ... and the share."""
        halves = [Fraction(1, 2**k) for k in range(1, self.teacher.config.n_layer.bit_length())]
        return [half for half in halves if half > self.share] + [self.share]

    def _distillation(self, student: str, teacher: ShowerGenerator, share: Fraction, batches: int) -> DistillationTask:
        depth = teacher.config.n_layer
        layers = layers_without_attention(depth, share)
        if student == "by-loss":
            layers = least_needed_layers(
                teacher.to(self.given.device), supa.simulate(SKIPPING_SHOWERS, self.showers, seed=SKIPPING_SEED), share
            )
        # A student that is the teacher of the next step keeps the layers that it has.
        layers = tuple(sorted({*layers, *teacher.config.mamba_layers}))
        options = self._options(batches) | {"on_policy": student == "on-policy"}
        divergence: Divergence = "reverse" if student == "reverse" else "forward"
        config = self._training(layers).replace(epochs=self.given.epochs)
        task = stream_distillation_task(teacher, self.showers, config, divergence=divergence, **options)
        if student in ("copied", "random"):
            restart(task, random=student == "random")
        return task

    def _from_scratch(self, seconds: float) -> Trained:
        """Train for about as many seconds."""
        layers = layers_without_attention(self.teacher.config.n_layer, self.share)
        config = self._training(layers).replace(epochs=1)

        def run(batches: int) -> Trained:
            return trained(stream_generator_task(self.showers, config, **self._options(batches)), batches)

        run(WARM_UP)  # compiles
        few, many = (run(number).seconds for number in TRIALS)
        of_batch = (many - few) / (TRIALS[1] - TRIALS[0])
        # What does not depend on the number of batches: the capture of graphs and a validation.
        fixed = few - TRIALS[0] * of_batch
        return run(max(1, round((seconds - fixed) / of_batch)))

    def _training(self, layers: tuple[int, ...]) -> GeneratorTrainingConfig:
        """Return the settings for a generator without the attention of some layers."""
        sizes = self._config.generator.replace(mamba_layers=layers, mamba_mixer=self.given.mixer)
        config = self._config.replace(generator=sizes)
        return config.replace(batch_size=self.given.batch_size) if self.given.batch_size else config

    def _options(self, batches: int) -> dict[str, Any]:
        place = Processes(device=torch.device(self.given.device))
        few = min(VALIDATION, self.given.showers)
        return {"batches_per_epoch": batches, "validation_showers": few, "processes": place}


def restart(task: DistillationTask, *, random: bool) -> None:
    """Begin with the copied projections alone, or with fitted random ones."""
    student, teacher = task.trained, task.teacher
    assert isinstance(student, ShowerGenerator)
    converted = convert_attention(teacher.stack, task.layers, student.config.mamba_mixer)
    student.stack.load_state_dict(converted.state_dict())
    task.model.load_state_dict(student.state_dict())
    if random:
        width = student.config.d_model
        for mixer in mixers_of(student.stack, task.layers):
            if isinstance(mixer, Mamba2):
                projections = [mixer.in_proj.weight[width : 4 * width]]
            else:
                assert isinstance(mixer, Mamba)
                projections = [mixer.in_proj.weight[:width], mixer.x_proj.weight[mixer.dt_rank :]]
            for weight in projections:
                nn.init.normal_(weight, std=width**-0.5)
        task.fit()


def trained(task: GeneratorTask, batches: int) -> Trained:
    """Train a generator with a number of batches per epoch."""
    start = time.perf_counter()
    state = Trainer(task).run()
    seconds = time.perf_counter() - start
    found = [epoch.valid["generator"]["nats_per_hit"] for epoch in state.history if "generator" in epoch.valid]
    nats = found[-1] if task.stages > ON_POLICY else min(found)
    return Trained(cast("ShowerGenerator", task.model), seconds, nats, batches * len(state.history))


def judged(model: ShowerGenerator, config: supa.ShowerConfig, given: argparse.Namespace) -> dict[str, Any]:
    """Return the areas of classifiers, and the rates of the sampling."""
    true = supa.simulate(given.showers, config, seed=JUDGING_SEED)
    rates = {}
    for size in given.batch_sizes:
        count = max(50, min(given.showers, 20 * size))
        sampled(model, config, min(count, 2 * size), size)  # compiles
        rates[f"showers/s, batch size {size}"] = round(count / sampled(model, config, count, size).seconds, 1)
    return figures(true, sampled(model, config, given.showers, max(given.batch_sizes)).showers, given) | rates


if __name__ == "__main__":
    main()
