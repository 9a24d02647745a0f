"""Find where samples of a generator drift away from true showers.

    python benchmarks/generator_drift.py base.ckpt [--device cuda] [--showers 1024] [--slices 15 17 19]
                                         [--json results.json]

The first hits of each shower are true ones, up to the first hit that is not before a given slice; the model samples all
others. For each of these slices the script prints the number of hits per shower in it and in the following ones, beside
those of the true showers, and the ratio. The script also prints the predicted and the observed frequency of the last
hit on true showers, by slice.
"""

import argparse
from pathlib import Path

import torch
from measuring import give, gpu_facts, note, torch_facts
from torch import Tensor

import supa
from supa_mamba import GeneratorCheckpoint, HitBatch, ShowerGenerator
from supa_mamba.generator.coding import SHARE_BITS
from supa_mamba.generator.model import previous_of
from supa_mamba.generator.sampling.choices import after_hits, before_first_hits, choose_hits
from supa_mamba.generator.sampling.limits import initial_state, most_hits_of

SEED = 77
FOLLOWING = 6  # slices


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--showers", type=int, default=1024)
    parser.add_argument("--slices", type=int, nargs="+", default=[15, 17, 19])
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    checkpoint = GeneratorCheckpoint.load(given.checkpoint)
    model, config = checkpoint.model().to(given.device), checkpoint.shower_configs[0]
    batch = model.coding.encode(supa.simulate(given.showers, config, seed=SEED))
    batch = HitBatch(*(column.to(given.device) for column in batch))
    results = (gpu_facts() if given.device == "cuda" else torch_facts()) | {"last hit": last_hits(model, batch)}
    note(f"last hit: {results['last hit']}")
    for number in given.slices:
        name = f"true hits up to slice {number}"
        results[name] = drift(model, batch, number - model.coding.slices[0])
        note(f"{name}: {results[name]}")
    give(results, given.json)


@torch.no_grad()
def last_hits(model: ShowerGenerator, batch: HitBatch) -> dict[str, list[float]]:
    """Return the predicted and the observed frequency of the last hit, by the slice of the hit before."""
    previous = previous_of(batch, model.coding.num_slices)
    hidden = model.hidden(previous, batch.offset, max_length=int(batch.offset.diff().max())).float()
    last, _ = model.next_distribution(model.add_features(hidden, previous), previous)
    found = {}
    for number in range(model.coding.num_slices):
        rows = previous.slice == number
        if rows.sum() > 100:
            frequency = [torch.sigmoid(last[rows]).mean().item(), batch.is_last[rows].float().mean().item()]
            found[str(number + model.coding.slices[0])] = [round(x, 4) for x in frequency]
    return found


@torch.no_grad()
def drift(model: ShowerGenerator, batch: HitBatch, begin: int) -> dict[str, list[float]]:
    """Return the numbers of sampled and of true hits per shower, and their ratio, by slice."""
    count, device = len(batch.leak), batch.slice.device
    counts, ends = batch.offset.diff(), len(batch.slice) - 1
    shower = torch.arange(count, device=device).repeat_interleave(counts)
    known = torch.zeros_like(counts).index_add_(0, shower, (batch.slice < begin).long())
    used = known < counts
    known = torch.minimum(known + 1, counts)
    state, random = initial_state(model, count), torch.Generator().manual_seed(SEED)
    whole = 2.0**SHARE_BITS
    rest = torch.full_like(counts, 1 << SHARE_BITS)
    before = before_first_hits(model, rest, batch.condition)
    alive, sampled = used.clone(), torch.zeros(model.coding.num_slices, device=device)
    for step in range(most_hits_of(model)):
        hidden: Tensor = model.stack.step(model.embed(before), state)
        uniform = torch.rand(count, 7, dtype=torch.float64, generator=random).to(device)
        energy, is_last, after = choose_hits(model, hidden, before, rest, uniform)
        is_true = step < known
        row = (batch.offset[:-1] + step).clamp(max=ends)
        left = (batch.remaining[(row + 1).clamp(max=ends)].double().exp() * whole).round().long()
        # A unit of energy is left to showers that are finished, whose rows are computed all the same.
        rest = torch.where(is_true, left, rest - energy).clamp(min=1)
        chosen = torch.where(is_true, batch.slice[row], after.slice)
        position = torch.where(is_true[:, None], batch.position[row], after.position)
        logit = torch.where(is_true, batch.energy_logit[row], after.energy_logit)
        sampled += torch.bincount(chosen[alive], minlength=len(sampled))
        before = after_hits(before, chosen, position, logit, rest)
        alive &= torch.where(is_true, step + 1 < counts, ~is_last)
        if not alive.any():
            break
    true = torch.bincount(batch.slice[used[shower]], minlength=len(sampled))
    found = {}
    for number in range(begin, min(begin + FOLLOWING, len(sampled))):
        if not true[number]:
            break
        pair = [(x[number] / used.sum()).item() for x in (sampled, true)]
        found[str(number + model.coding.slices[0])] = [round(x, 3) for x in (*pair, pair[0] / pair[1])]
    return found


if __name__ == "__main__":
    main()
