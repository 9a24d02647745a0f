"""Compare heads of a generator: bins with mixtures for the energy, and three ways to combine energy and position.

    python benchmarks/generator_heads.py [--preset critical] [--steps 300] [--batch 64] [--outputs 24 96]
                                         [--json results.json]

**Density of the energy.** For each number of outputs of the energy head, two generators are trained that differ only in
this head: a mixture of a third as many normal distributions of the energy logit, and as many bins of the logit. The
bins are equally frequent in the training showers. The density is constant inside a bin, which is the density of
de-quantised bins, and falls exponentially in the first and last bin, which are unbounded. Both are normalised densities
of the same variable, so their likelihoods can be compared.

**Energy and position of a hit.** *Chained*: the head of the position receives the energy of the hit (the model of the
package). *Delayed*: the position of a hit is predicted one step after its energy, so the whole stack has processed the
energy; the energy of a hit is predicted at the same step as the position of the hit before, without it. *Independent*:
the head of the position does not receive the energy.

The script prints nats per hit of validation showers, lower is better. All generators of a comparison have the same
initial weights and the same batches.
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
from supa_mamba.generator.mixtures import PlaneMixture
from supa_mamba.generator.model import LogLikelihood, Previous, previous_of

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
        logits: Energy logits of the training showers, without those of the last hits of slices.
    """

    def __init__(self, config: GeneratorConfig, coding: HitCoding, logits: Tensor) -> None:
        super().__init__(config, coding)
        count = 3 * config.energy_components
        ordered = logits.sort().values
        self.edges = ordered[torch.arange(1, count) * len(ordered) // count]
        below, above = ordered[ordered <= self.edges[0]], ordered[ordered > self.edges[-1]]
        self.tails = torch.stack([(self.edges[0] - below).mean(), (above - self.edges[-1]).mean()])

    def energy_distribution(self, hidden: Tensor) -> Any:
        """Predict the energy of the next hit; see `ShowerGenerator.energy_distribution`."""
        return Bins(self.energy_head(hidden).float().log_softmax(-1), self.edges, self.tails)


class DelayedGenerator(ShowerGenerator):
    """Generator that predicts the position of a hit one step after its energy."""

    def forward(self, batch: HitBatch, *, max_length: int | None = None) -> LogLikelihood:
        """Compute the likelihood of showers; see `ShowerGenerator.forward`."""
        known, counts = previous_of(batch), batch.offset.diff()
        shower = torch.arange(len(counts)).repeat_interleave(counts)
        row = torch.arange(len(shower)) + shower  # each shower has a row more than hits
        first = batch.number == 0

        def before(x: Tensor) -> Tensor:
            return torch.where(first.view(-1, *[1] * (x.ndim - 1)), 0.0, x.roll(1, 0))

        delayed = known._replace(position=before(known.position), distance=before(known.distance))
        last = batch.offset[1:][counts > 0] - 1
        after = Previous(*(x[last] for x in known))
        after = after._replace(energy_logit=batch.energy_logit[last], number=after.number + 1)
        columns = []
        for x, y in zip(delayed, after, strict=True):
            column = x.new_zeros(len(row) + len(counts), *x.shape[1:])
            column[row], column[row[last] + 1] = x, y
            columns.append(column)
        # A row without a hit, of an empty shower, has one hit left, whose logarithm exists.
        rows = Previous(*columns)._replace(left=columns[Previous._fields.index("left")].clamp(min=1))
        hidden = self.hidden(rows, batch.offset + torch.arange(len(batch.offset)))
        terms = self.log_likelihood(hidden[row + 1], known, batch)
        energy = self.energy_distribution(self.add_features(hidden[row], delayed)).log_density(batch.energy_logit)
        return terms._replace(energy=torch.where(batch.left == 1, 0.0, energy + batch.energy_scale))


class IndependentGenerator(ShowerGenerator):
    """Generator whose head of the position does not receive the energy of the hit."""

    def position_distribution(self, hidden: Tensor, previous: Previous, energy_logit: Tensor) -> PlaneMixture:
        """Predict the position of the next hit; see `ShowerGenerator.position_distribution`."""
        found = self.position_head(hidden).float()
        return PlaneMixture.of(found, previous.position, self.config.ring_components)


def nats_per_hit(model: ShowerGenerator, batch: HitBatch) -> dict[str, float]:
    """Return the nats per hit of the energies, of the positions, and of the whole showers."""
    with torch.no_grad():
        terms = model(batch)
    return {
        name: -value.sum().item() / len(batch.slice)
        for name, value in (("energy", terms.energy), ("position", terms.position), ("all", terms.total()))
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
    logits = torch.cat([batch.energy_logit[batch.left > 1] for batch in batches])
    results: dict[str, Any] = {**torch_facts(), "settings": {k: v for k, v in vars(arguments).items() if k != "json"}}

    def add(name: str, config: GeneratorConfig, kind: type[ShowerGenerator], *further: Any) -> None:
        torch.manual_seed(1)
        model = kind(config, coding, *further)
        seconds = trained(model, batches, arguments.learning_rate)
        results[name] = nats_per_hit(model, valid) | {"seconds": seconds}
        note(f"{name}: {results[name]}")

    sizes = {"d_model": arguments.width, "n_layer": arguments.layers}
    for outputs in arguments.outputs:
        config = GeneratorConfig(**sizes, energy_components=max(1, outputs // 3))
        add(f"mixture, {outputs} outputs", config, ShowerGenerator)
        add(f"bins, {outputs} outputs", config, BinnedGenerator, logits)
    for name, kind in (
        ("chained", ShowerGenerator), ("delayed", DelayedGenerator), ("independent", IndependentGenerator),
    ):  # fmt: skip
        add(name, GeneratorConfig(**sizes), kind)
    give(results, arguments.json)


if __name__ == "__main__":
    main()
