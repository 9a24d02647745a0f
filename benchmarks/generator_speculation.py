"""Time speculative sampling beside plain sampling.

    python benchmarks/generator_speculation.py base.ckpt [--drafts tiny.ckpt skip-layers table] [--device cuda]
                                               [--batch-sizes 1 8 64 1024] [--lengths 1 2 4 8] [--seconds 10]
                                               [--json results.json]

For each batch size, the script prints the showers per second of the plain sampler. For each draft it prints the shares
of accepted hits by their place in the draft, the number of drafted hits that is chosen by default, and the showers per
second with this number or with those of ``--lengths``. The speed-up is the ratio to plain sampling. Drafts are ready,
and loops and graphs compiled, before they are timed; the capture of graphs is not counted. A CPU uses one thread, and
its times are those of the process, so other programs on the machine disturb them less.
"""

import argparse
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from measuring import give, gpu_facts, note, torch_facts

from supa import Run, ShowerConfig, Showers
from supa_mamba import GeneratorCheckpoint, ShowerGenerator, sample_stream
from supa_mamba.generator.sampling.cpu_batches import Queue, pieces_of
from supa_mamba.generator.sampling.sampler import measured_length, new_draft
from supa_mamba.generator.sampling.speculation.batches import new_rounds, profile_choice
from supa_mamba.generator.sampling.speculation.drafts import DRAFTS, Draft
from supa_mamba.generator.sampling.speculation.length import acceptance

SEED = 1


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--drafts", nargs="+", default=list(DRAFTS))
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=[1, 8, 64, 1024])
    parser.add_argument("--lengths", nargs="+", type=int, help="numbers of drafted hits, by default the chosen one")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    checkpoint = GeneratorCheckpoint.load(given.checkpoint)
    model, config = checkpoint.model().to(given.device), checkpoint.shower_configs[0]
    results = (gpu_facts() if given.device == "cuda" else torch_facts()) | {
        "model": checkpoint.config.generator.to_dict(), "batch sizes": {}
    }  # fmt: skip
    drafts = {name: prepared(model, config, name) for name in given.drafts}
    for slots in given.batch_sizes:
        plain = partial(plain_pieces, model, config, slots)
        rows: dict[str, Any] = {"plain": rate(lambda count, make=plain: (make(count), None), slots, given)}
        note(f"batch size {slots}: plain: {rows['plain']}")
        for name, draft in drafts.items():
            chosen = measured_length(model, config, draft, slots)
            rows[name] = {"chosen length": chosen}
            for length in given.lengths or [chosen]:
                make = partial(drafted_pieces, model, config, slots, draft, length)
                found = rate(make, slots, given)
                found["speed-up"] = round(found["showers_per_second"] / rows["plain"]["showers_per_second"], 2)
                rows[name][f"length {length}"] = found
                note(f"batch size {slots}: {name} (chosen: {chosen}), length {length}: {found}")
        results["batch sizes"][slots] = rows
    give(results, given.json)


def prepared(model: ShowerGenerator, config: ShowerConfig, name: str) -> Draft:
    """Return a draft for the model."""
    draft = name if name in DRAFTS else GeneratorCheckpoint.load(Path(name)).model()
    return new_draft(model, config, draft)


def plain_pieces(model: ShowerGenerator, config: ShowerConfig, slots: int, count: int) -> Iterable[Showers]:
    """Sample showers without a draft."""
    return sample_stream(model, config, count, seed=SEED, batch_size=slots)


def drafted_pieces(
    model: ShowerGenerator, config: ShowerConfig, slots: int, draft: Draft, length: int, count: int
) -> tuple[Iterable[Showers], Any]:
    """Sample showers with a draft, and return them with their rounds."""
    slots = min(slots, count)
    run = Run(config=config, seed=SEED, first=0, engine="imported", keep="all", attempts=None, model="")
    rounds = new_rounds(model, draft, SEED, slots, length)
    queue = Queue(model, run, SEED, count, profile_choice(model, config, SEED))
    return pieces_of(rounds, queue, slots), rounds


def rate(make: Callable[[int], tuple[Iterable[Showers], Any]], slots: int, given: argparse.Namespace) -> dict[str, Any]:
    """Return the rate of a sampler that is called for about the given time, and the shares of accepted hits."""
    clock = time.perf_counter if given.device == "cuda" else time.process_time

    def timed(count: int) -> tuple[float, Any]:
        start = clock()
        pieces, rounds = make(count)
        for _ in pieces:
            pass
        return clock() - start, rounds

    for count in (2, slots):
        timed(count)  # compiles
    # Every call captures its graphs again. The difference of two calls does not contain this time.
    few, count = slots, 2 * slots
    of_few, _ = timed(few)
    while True:
        taken, rounds = timed(count)
        seconds = taken - of_few
        if seconds > given.seconds / 2:
            break
        count = max(count + 1, int(min(max(0.9 * given.seconds / max(seconds, 1e-3), 1.5), 20) * count))
    found: dict[str, Any] = {"showers": count - few, "showers_per_second": round((count - few) / seconds, 2)}
    if rounds is not None:
        found["accepted"] = acceptance(rounds.counts()).round(3).tolist()
    return found


if __name__ == "__main__":
    main()
