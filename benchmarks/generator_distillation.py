"""Compare students of a Transformer generator: shares of attention, starts of the new layers, training from scratch.

    python benchmarks/generator_distillation.py teacher.ckpt [--attention 1/2 1/3 0] [--mixer mamba2] [--epochs 1]
        [--on-policy] [--starts fitted copied random scratch] [--batches-per-epoch 400] [--batch-size B]
        [--device cuda] [--showers 10000] [--batch-sizes 1 100 4096] [--json results.json]

The teacher is a checkpoint of ``supa mamba train-generator --model transformer``. Each student is distilled on a stream
of the teacher's config by the stages of ``supa mamba distil``. The starts of the layers without attention are:

fitted: the attention's projections; decay rates, step sizes and output projections are fitted to it, as in the package.
copied: the attention's projections alone.
random: new projections, fitted in the same way.
scratch: a generator of the same architecture without a teacher, trained for as many seconds as the fitted student.

The results are the nats per hit of validation showers, the areas of classifiers (see ``generator_budget.py``), and the
showers that are sampled per second. The seconds of a training contain the validations, but neither the compilation of
kernels nor the first capture of graphs, for which a short training of another student runs first.
"""

import argparse
import time
from fractions import Fraction
from pathlib import Path
from typing import Any, cast, get_args

import torch
from generator_budget import sampled
from generator_quality import figures
from measuring import give, gpu_facts, note, torch_facts
from torch import nn

import supa
from supa_learning import Processes, Trainer
from supa_mamba import (
    GeneratorCheckpoint,
    Mamba,
    Mamba2,
    ShowerGenerator,
    convert_attention,
    stream_distillation_task,
    stream_generator_task,
)
from supa_mamba.generator.distillation import layers_without_attention
from supa_mamba.generator.distillation_task import ON_POLICY, DistillationTask
from supa_mamba.generator.task import GeneratorTask
from supa_mamba.modules.conversion import mixers_of
from supa_mamba.modules.options import ConvertedMixer

STARTS = ("fitted", "copied", "random", "scratch")
JUDGING_SEED = 22
WARM_UP = 5  # batches
VALIDATION = 10_000  # showers


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser()
    parser.add_argument("teacher", type=Path)
    parser.add_argument("--attention", nargs="+", type=Fraction, default=[Fraction(1, 2), Fraction(1, 3), Fraction(0)])
    parser.add_argument("--mixer", choices=get_args(ConvertedMixer), default="mamba2")
    parser.add_argument("--starts", nargs="+", choices=STARTS, default=STARTS)
    parser.add_argument("--epochs", type=int, default=1, help="of each stage")
    parser.add_argument("--on-policy", action="store_true")
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
    settings = ("mixer", "epochs", "on_policy", "batches_per_epoch", "batch_size", "showers")
    results |= {name: getattr(given, name) for name in settings}
    results["teacher"] = judged(checkpoint.model().to(given.device), checkpoint.shower_configs[0], given)
    note(f"teacher: {results['teacher']}")
    for share in given.attention:
        students = Students(checkpoint, share, given)
        for start in sorted(given.starts, key=STARTS.index):
            results[f"attention {share}, {start}"] = students.measured(start)
            note(f"attention {share}, {start}: {results[f'attention {share}, {start}']}")
    give(results, given.json)


class Students:
    """The students with one share of attention."""

    def __init__(self, checkpoint: GeneratorCheckpoint, share: Fraction, given: argparse.Namespace) -> None:
        self.teacher, self.given = checkpoint.model(), given
        self.showers = checkpoint.shower_configs[0]
        sizes = checkpoint.config.generator
        layers = layers_without_attention(sizes.n_layer, share)
        config = checkpoint.config.replace(generator=sizes.replace(mamba_layers=layers, mamba_mixer=given.mixer))
        self.config = config.replace(batch_size=given.batch_size) if given.batch_size else config
        self._seconds: float | None = None
        """Seconds of the training of the fitted student."""

    def measured(self, start: str) -> dict[str, Any]:
        """Train a student and return its figures."""
        task: GeneratorTask
        if start == "scratch":
            if self._seconds is None:
                raise SystemExit("scratch: its number of epochs follows from the student fitted; add it to --starts.")
            task = self._from_scratch(self._seconds)
        else:
            trained(self._distilled(start, WARM_UP))  # compiles
            task = self._distilled(start, self.given.batches_per_epoch)
        seconds, nats = trained(task)
        if start == "fitted":
            self._seconds = seconds
        model = cast("ShowerGenerator", task.model)
        return {"seconds": round(seconds, 1), "nats per hit": nats} | judged(model, self.showers, self.given)

    def _distilled(self, start: str, batches: int) -> DistillationTask:
        options = self._options(batches) | {"on_policy": self.given.on_policy}
        config = self.config.replace(epochs=self.given.epochs)
        task = stream_distillation_task(self.teacher, self.showers, config, **options)
        if start != "fitted":
            restart(task, random=start == "random")
        return task

    def _from_scratch(self, seconds: float) -> GeneratorTask:
        """Return a task that takes as many seconds."""
        config, trials = self.config.replace(epochs=1), dict[int, float]()
        for number in (WARM_UP, WARM_UP, 4 * WARM_UP):  # the first one compiles
            trials[number], _ = trained(stream_generator_task(self.showers, config, **self._options(number)))
        of_batch = (trials[4 * WARM_UP] - trials[WARM_UP]) / (3 * WARM_UP)
        # What does not depend on the number of batches: the capture of graphs and a validation.
        fixed = trials[WARM_UP] - WARM_UP * of_batch
        number = max(1, round((seconds - fixed) / of_batch))
        return stream_generator_task(self.showers, config, **self._options(number))

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


def trained(task: GeneratorTask) -> tuple[float, float]:
    """Train, and return the seconds and the nats per hit of the validation showers."""
    start = time.perf_counter()
    state = Trainer(task).run()
    seconds = time.perf_counter() - start
    found = [epoch.valid["generator"]["nats_per_hit"] for epoch in state.history if "generator" in epoch.valid]
    return seconds, found[-1] if task.stages > ON_POLICY else min(found)


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
