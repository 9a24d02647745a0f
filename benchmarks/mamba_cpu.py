"""Measure time and memory of the sequence operations on a CPU for mixtures of lengths.

    python benchmarks/mamba_cpu.py [--operation ssd ...] [--threads 1] [--repeat 3] [--json out.json]

All mixtures have about the same number of rows, so an operation without padding takes about the same time and memory
for each. ssd has 4 heads of 16 channels with 16 states, the scan 64 channels with 16 states, and the convolution 64
channels with kernels of width 4, all in float32. Times are CPU times of the process, summed over threads, which depend
little on other load. Memory is the peak resident memory of a separate process minus that of the inputs.
"""

import argparse
import json
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from measuring import give, machine
from torch import Tensor

import supa
from supa_mamba import causal_conv1d, selective_scan, ssd

ROWS = 60_000


def few_empty() -> Tensor:
    """Draw 0 to 5 rows for each of many sequences."""
    return torch.randint(6, (ROWS * 2 // 5,), generator=torch.Generator().manual_seed(0))


def showers() -> Tensor:
    """Draw the lengths of complete showers."""
    normal = torch.randn(ROWS // 98, generator=torch.Generator().manual_seed(0))
    return (normal * 38 + 98).round().clip(12, 320).long()


MIXTURES: dict[str, Callable[[], Tensor]] = {
    "20,000 of 3 rows": lambda: torch.full((ROWS // 3,), 3),
    "24,000 of 0 to 5": few_empty,
    "600 of 100": lambda: torch.full((ROWS // 100,), 100),
    "612 showers": showers,
    "one of 30,000 and 10,000 of 3": lambda: torch.cat([torch.full((10_000,), 3), torch.tensor([30_000])]),
    "4 of 15,000": lambda: torch.full((4,), ROWS // 4),
}


def prepared(operation: str, lengths: Tensor) -> tuple[Callable[..., Tensor], list[Tensor]]:
    """Return an operation and its random inputs."""
    generator, rows = torch.Generator().manual_seed(1), int(lengths.sum())
    offset = torch.nn.functional.pad(lengths.cumsum(0), (1, 0))

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    if operation == "causal_conv1d":
        inputs = [normal(rows, 64), normal(64, 4), normal(64)]
        return lambda *given: causal_conv1d(*given, offset=offset, activation="silu"), inputs
    if operation == "selective_scan":
        inputs = [normal(rows, 64), normal(rows, 64).sigmoid() / 9, -torch.rand(64, 16), normal(rows, 16)]
        return lambda *given: selective_scan(*given, delta_softplus=False, offset=offset), [*inputs, normal(rows, 16)]
    inputs = [normal(rows, 4, 16), normal(rows, 4).sigmoid() / 9, -torch.rand(4) * 16]
    inputs += [normal(rows, 1, 16), normal(rows, 1, 16), normal(4), normal(4) / 10]

    def run(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, dt_bias: Tensor) -> Tensor:
        return ssd(x, dt, A, B, C, D=D, dt_bias=dt_bias, offset=offset, dt_softplus=True)

    return run, inputs


def measure(operation: str, mixture: str, repeat: int) -> dict[str, Any]:
    """Time the forward pass, and forward and backward pass together, and measure their memory."""
    lengths = MIXTURES[mixture]()
    function, inputs = prepared(operation, lengths)
    leaves = [x.requires_grad_() for x in inputs]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    times: dict[str, list[float]] = {"forward": [], "both ways": []}
    for _ in range(repeat + 1):
        start = time.process_time()
        with torch.no_grad():
            function(*inputs)
        middle = time.process_time()
        torch.autograd.grad(function(*leaves).sum(), leaves)
        times["forward"].append(middle - start)
        times["both ways"].append(time.process_time() - middle)
    taken = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    # The first repetition warms up.
    return {
        "rows": int(lengths.sum()),
        **{f"{way}, ms": min(seconds[1:]) * 1e3 for way, seconds in times.items()},
        "memory, MB": taken / 1024,
    }


def main() -> None:
    """Measure each case in a separate process, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    operations = ["ssd", "selective_scan", "causal_conv1d"]
    parser.add_argument("--operation", nargs="+", choices=operations, default=operations)
    parser.add_argument("--mixture", nargs="+", choices=list(MIXTURES), default=list(MIXTURES))
    parser.add_argument("--threads", type=int, default=1, help="number of PyTorch threads")
    parser.add_argument("--repeat", type=int, default=3, help="number of repetitions")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    parser.add_argument("--alone", action="store_true", help="measure a single case in this process")
    arguments = parser.parse_args()
    cases = [(operation, mixture) for operation in arguments.operation for mixture in arguments.mixture]
    if arguments.alone:
        torch.set_num_threads(arguments.threads)
        print(json.dumps(measure(*cases[0], arguments.repeat)))
        return
    results = {}
    for operation, mixture in cases:
        case = ["--operation", operation, "--mixture", mixture, "--threads", str(arguments.threads)]
        command = [sys.executable, __file__, "--alone", *case, "--repeat", str(arguments.repeat)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        results[f"{operation}, {mixture}"] = json.loads(done.stdout)
        print(f"{operation}, {mixture}", results[f"{operation}, {mixture}"], file=sys.stderr, flush=True)
    versions = {"supa": supa.__version__, "python": platform.python_version(), "torch": torch.__version__}
    facts = {"machine": machine(), "versions": versions, "date": time.strftime("%Y-%m-%d")}
    give(facts | {"threads": arguments.threads, "results": results}, arguments.json)


if __name__ == "__main__":
    main()
