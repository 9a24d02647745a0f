"""Measure what the mean over rotations of a shower gains, and what it costs.

    python benchmarks/mamba_rotations.py energy.ckpt [primary.ckpt ...] [--showers 20000] [--rotations 1 2 4 8 16]
                                         [--device cuda] [--json results.json]

For each encoder of ``supa mamba train``, new showers of its config are simulated. The script prints the root mean
square error of ln E, or the accuracy, and the seconds for each number of rotations. The energy also has the
Bayes-optimal error if it is known.
"""

import argparse
import time
from pathlib import Path
from typing import Any

from measuring import give, gpu_facts, note, torch_facts

import supa
from supa_mamba import Checkpoint, evaluate

SEED = 1_000_003


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoints", nargs="+", type=Path)
    parser.add_argument("--showers", type=int, default=20_000)
    parser.add_argument("--rotations", nargs="+", type=int, default=[1, 2, 4, 8, 16])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    results = (gpu_facts() if given.device == "cuda" else torch_facts()) | {"encoders": {}}
    for path in given.checkpoints:
        results["encoders"][path.name] = measured(path, given)
    give(results, given.json)


def measured(path: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of an encoder by the number of rotations."""
    checkpoint = Checkpoint.load(path)
    encoding = checkpoint.encoding
    record: Any = "particles" if encoding.name == "incident_energy" else "hits"
    showers = supa.simulate(given.showers, encoding.configs[0], seed=SEED, record=record)
    found: dict[str, Any] = {"target": encoding.name, "showers": len(showers), "by rotations": {}}
    for rotations in given.rotations:
        start = time.perf_counter()
        evaluation = evaluate(
            checkpoint.model(), encoding, checkpoint.baseline, showers, split="all", device=given.device,
            rotations=rotations,
        )  # fmt: skip
        figures = evaluation.figures()
        kind = "accuracy" if encoding.classes else "rms"
        row = {"seconds": round(time.perf_counter() - start, 2), kind: round(figures[kind]["model"], 5)}
        found["by rotations"][rotations] = row
        if "bayes_rms" in figures:
            found["bayes_rms"] = round(figures["bayes_rms"], 5)
        note(f"{path.name}: {rotations}: {row}")
    return found


if __name__ == "__main__":
    main()
