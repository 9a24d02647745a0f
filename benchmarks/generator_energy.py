"""Compare bins with mixtures of normal distributions as the density of the energy of a hit.

    python benchmarks/generator_energy.py [--preset critical] [--steps 300] [--batch 64] [--outputs 24 96]
                                          [--json results.json]

For each number of outputs of the energy head, two generators are trained that differ only in this head: a mixture of a
third as many normal distributions of the energy logit, and as many bins of the logit. The bins are equally frequent in
the training showers. The density is constant inside a bin, which is the density of de-quantised bins, and falls
exponentially in the first and last bin, which are unbounded. Both are normalised densities of the same variable, so
their likelihoods can be compared. The script prints nats per hit of validation showers, lower is better: of the energy,
and of the whole shower. Both generators have the same initial weights and the same batches.
"""

import argparse
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from measuring import give, note, torch_facts
from torch import Tensor

import supa
from supa_mamba import GeneratorConfig, HitBatch, HitCoding, ShowerGenerator

VALIDATION = 500


class Bins(NamedTuple):
    """Density that is constant inside bins, and exponential in the first and last one.

    Args:
        log_probability: (..., K) logarithms of the probabilities of the bins.
        edges: (K - 1,) inner edges, in ascending order.
        tails: (2,) mean distances of values in the first and last bin from their edge.
    """

    log_probability: Tensor
    edges: Tensor
    tails: Tensor

    def log_density(self, value: Tensor) -> Tensor:
        """Return the (...) logarithms of the densities of (...) values."""
        last = len(self.edges)
        number = torch.bucketize(value, self.edges)
        widths = torch.cat([self.tails[:1], self.edges.diff(), self.tails[1:]])
        beyond = torch.where(number == 0, self.edges[0] - value, torch.where(number == last, value - self.edges[-1], 0))
        chosen = self.log_probability.gather(-1, number[..., None])[..., 0]
        return chosen - widths[number].log() - beyond / widths[number]


class BinnedGenerator(ShowerGenerator):
    """Generator whose energy logits have the density of bins.

    Args:
        config: Sizes of the model. Three outputs of the mixture become three bins.
        coding: Conversion of showers into sequences.
        logits: Energy logits of the training showers, without those of the last hits.
    """

    def __init__(self, config: GeneratorConfig, coding: HitCoding, logits: Tensor) -> None:
        super().__init__(config, coding)
        count = 3 * config.energy_components
        ordered = logits.sort().values
        self.edges = ordered[torch.arange(1, count) * len(ordered) // count]
        below, above = ordered[ordered <= self.edges[0]], ordered[ordered > self.edges[-1]]
        self.tails = torch.stack([(self.edges[0] - below).mean(), (above - self.edges[-1]).mean()])

    def energy_distribution(self, chosen: Tensor) -> Any:
        """Predict the energy of the next hit; see `ShowerGenerator.energy_distribution`."""
        return Bins(self.energy_head(chosen).float().log_softmax(-1), self.edges, self.tails)


def nats_per_hit(model: ShowerGenerator, batch: HitBatch) -> dict[str, float]:
    """Return the nats per hit of the energies, and of the whole showers."""
    with torch.no_grad():
        terms = model(batch)
    return {
        name: -value.sum().item() / len(batch.slice)
        for name, value in (("energy", terms.energy), ("all", terms.total()))
    }


def trained(model: ShowerGenerator, batches: list[HitBatch], learning_rate: float) -> float:
    """Train a model by one step for each batch, and return the seconds."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, len(batches))
    began = time.perf_counter()
    for batch in batches:
        loss = -model(batch).total() / len(batch.slice)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return time.perf_counter() - began


def main() -> None:
    """Train all generators and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=tuple(supa.PRESETS), default="critical")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--outputs", type=int, nargs="+", default=[24, 96], help="multiples of 3")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    showers = supa.simulate(arguments.steps * arguments.batch, arguments.preset, seed=1)
    coding = HitCoding.fit(showers)
    batches = [coding.encode(showers[k : k + arguments.batch]) for k in range(0, len(showers), arguments.batch)]
    valid = coding.encode(supa.simulate(VALIDATION, arguments.preset, seed=2))
    logits = torch.cat([batch.energy_logit[~batch.is_last] for batch in batches])
    results: dict[str, Any] = {**torch_facts(), "settings": {k: v for k, v in vars(arguments).items() if k != "json"}}
    for outputs in arguments.outputs:
        config = GeneratorConfig(
            d_model=arguments.width, n_layer=arguments.layers, energy_components=max(1, outputs // 3)
        )
        for name in ("mixture", "bins"):
            torch.manual_seed(1)
            model = ShowerGenerator(config, coding) if name == "mixture" else BinnedGenerator(config, coding, logits)
            seconds = trained(model, batches, arguments.learning_rate)
            found = nats_per_hit(model, valid)
            results[f"{name}, {3 * config.energy_components} outputs"] = found | {"seconds": seconds}
            note(f"{name:8} {outputs:4} outputs: energy {found['energy']:.4f}, all {found['all']:.4f}, {seconds:.0f} s")
    give(results, arguments.json)


if __name__ == "__main__":
    main()
