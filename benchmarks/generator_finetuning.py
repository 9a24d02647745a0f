"""Fine-tune a deliberately imperfect generator, with and without the divergence from it, and with rewards that narrow.

    python benchmarks/generator_finetuning.py [--batches 300] [--steps 300] [--measured 3000] [--ratio-steps 60]
                                              [--device cpu] [--json results.json]

A small generator is trained for few batches on showers of a short detector, which leak. It is then fine-tuned:

- `profiles`: the reward of the package, with the divergence (`--kl 0.1`) and without;
- `single`: a reward of single showers, minus the squared distance of *each* shower from the exact mean. This is not a
  reward of the package: its optimum is a generator whose showers are all alike;
- `naive`: minus the squared distance of the mean of the *whole* group, in groups of 8. It contains the variance over 8;
- `density-ratio`: the reward of the package, with the divergence and a classifier that is trained every tenth of the
  updates; and with a classifier that is trained only once, with and without the divergence.

For each of them, the script prints the largest pull of a mean, the AUC of a classifier, the reward, the divergence, the
entropy, the coverage of all showers and of four ranges of the energy, and standard deviations over true ones, before
and after.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from measuring import give, note, torch_facts
from torch import Tensor

import supa
from supa_learning import Processes, Trainer
from supa_mamba import (
    FinetuningConfig,
    GeneratorConfig,
    GeneratorTrainingConfig,
    ShowerGenerator,
    finetuning_task,
    stream_generator_task,
)
from supa_mamba.generator.credits import Credits, credits_of_rewards
from supa_mamba.generator.rewards import ProfileReward, Sample

DETECTOR = supa.ShowerConfig(num_slices=12, readout_layers=((7, 9), (10, 11)))
SHOWN = ("num_hits", "hits, layer 0", "hits, layer 1", "energy fraction, layer 0", "depth mean", "mean radius, layer 1")


class SingleReward:
    """Minus the squared distance of each shower from the exact mean.

    Args:
        of_package: The reward of the package, with the statistics.
        naive: Whether to reward the whole group by the distance of its mean instead.
    """

    uses_hits = False

    def __init__(self, of_package: ProfileReward, *, naive: bool) -> None:
        self._of_package, self._naive = of_package, naive

    def fit(self, *_: Any) -> None:
        """Do nothing."""

    def mean(self, sample: Sample) -> float:
        """Return that of the package."""
        return self._of_package.mean(sample)

    def credits(self, sample: Sample, groups: Tensor) -> Credits:
        """Return the credits of the choices of showers."""
        values, truth = self._of_package.statistics(sample)
        grouped = values[groups]
        if self._naive:
            rewards = -(grouped.mean(1) - truth).square().sum(1)
            size = groups.shape[1]
            of_groups = (size * (rewards - rewards.mean()))[:, None].expand(-1, size)
        else:
            of_groups = credits_of_rewards(-(grouped - truth).square().sum(2))
        found = values.new_empty(len(values))
        found[groups.flatten()] = of_groups.flatten()
        return Credits(found, found[:, None].expand_as(sample.batch.count), None)


def trained_generator(batches: int, device: torch.device) -> ShowerGenerator:
    """Return a generator after few batches."""
    sizes = GeneratorConfig(d_model=32, n_layer=1)
    config = GeneratorTrainingConfig(generator=sizes, epochs=1, ema=0.99)
    task = stream_generator_task(
        DETECTOR, config, batches_per_epoch=batches, validation_showers=500, processes=Processes(device=device)
    )
    Trainer(task).run()
    assert isinstance(task.model, ShowerGenerator)
    return task.model


def tuned(
    generator: ShowerGenerator,
    config: FinetuningConfig,
    device: torch.device,
    change: Callable[[ProfileReward], Any] | None = None,
    **data: Any,
) -> dict[str, Any]:
    """Fine-tune a generator, and return the measurements before and after."""
    task = finetuning_task(generator, config, processes=Processes(device=device), **data)
    if change is not None:
        task.rewards = {
            one: change(reward) for one, reward in task.rewards.items() if isinstance(reward, ProfileReward)
        }
    started = time.perf_counter()
    state = Trainer(task).run()
    return {
        "config": config.to_dict(),
        "seconds": time.perf_counter() - started,
        "before": task.before,
        "after": state.history[-1].valid,
        "training": [epoch.train["policy"] for epoch in state.history],
    }


def line_of(name: str, figures: dict[str, Any]) -> str:
    """Format a measurement."""
    policy, sample, widths = figures["policy"], figures["sample"], figures["width ratio"]
    shown = "  ".join(f"{widths[key]:.3f}" for key in SHOWN)
    return (
        f"{name:<38} pull {sample['largest_pull']:6.1f}  AUC {sample.get('auc', float('nan')):.3f}  reward "
        f"{policy['reward']:8.4f}  KL {policy['kl_per_shower']:7.3f}  nats/hit {policy['entropy_per_hit']:6.3f}  "
        f"coverage {'  '.join(f'{value:.3f}' for value in figures['coverage'].values())}  widths {shown}"
    )


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=300, help="training batches of the imperfect generator")
    parser.add_argument("--steps", type=int, default=300, help="updates of the rewards without hits")
    parser.add_argument("--ratio-steps", type=int, default=60, help="updates of the density ratio; 0 for none")
    parser.add_argument("--measured", type=int, default=3000, help="showers of a measurement, at least 1,000")
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    device = torch.device(options.device)
    generator = trained_generator(options.batches, device)
    true = supa.simulate(10 * options.measured, DETECTOR, seed=20)
    profiles = FinetuningConfig(
        reward="profiles",
        steps=options.steps,
        interval=options.steps,
        batch_size=1024,
        group_size=1024,
        measured=options.measured,
        learning_rate=options.learning_rate,
    )
    small = profiles.replace(group_size=8)
    steps = options.ratio_steps
    ratio = profiles.replace(
        reward="density-ratio", steps=steps or 1, interval=steps or 1, batch_size=256, group_size=64
    )
    exact, against = {"configs": DETECTOR}, {"showers": true}
    cases: list[tuple[str, FinetuningConfig, Any, dict[str, Any]]] = [
        ("profiles, kl 0.1", profiles, None, exact),
        ("profiles, kl 0", profiles.replace(kl=0), None, exact),
        ("single, kl 0.1", small, lambda r: SingleReward(r, naive=False), exact),
        ("single, kl 0", small.replace(kl=0), lambda r: SingleReward(r, naive=False), exact),
        ("naive, kl 0", small.replace(kl=0), lambda r: SingleReward(r, naive=True), exact),
    ]
    if steps:
        often = ratio.replace(interval=max(1, steps // 10), steps=max(1, steps // 10) * 10)
        cases += [
            ("density-ratio, kl 0.1", often, None, against),
            ("density-ratio, kl 0.1, one classifier", ratio, None, against),
            ("density-ratio, kl 0, one classifier", ratio.replace(kl=0), None, against),
        ]
    results = {}
    note(f"widths over true ones (errors about {1 / (options.measured) ** 0.5:.3f}): {', '.join(SHOWN)}")
    for name, config, change, data in cases:
        results[name] = tuned(generator, config, device, change, **data)
        if len(results) == 1:
            note(line_of("before", results[name]["before"]))
        note(line_of(name, results[name]["after"]) + f"  {results[name]['seconds']:.0f} s")
    give({**torch_facts(), "detector": DETECTOR.to_dict(), "results": results}, options.json)


if __name__ == "__main__":
    main()
