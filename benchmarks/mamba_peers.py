"""Time the sequence operations beside those of public packages on a GPU, on the same values.

    python benchmarks/mamba_peers.py [--operations scan] [--showers 256 4096] [--dtypes float32] [--json results.json]

The packages are mamba_ssm, causal_conv1d and flash-linear-attention. Those that are not installed, or that cannot be
imported, are named with the reason. The scan has 512 channels of 16 states, the convolution 512 channels of width 4,
and ``ssd`` 8 heads of 64 channels with 64 states. The lengths are those of ``mamba.py``. Each implementation receives
its own memory layout, padded or packed, which is prepared before the time is taken.

First, results and gradients of 64 showers are compared with those of this package. An implementation is timed only if
the relative RMS distances are within the tolerances: in float32, 1e-4 for results and 1e-3 for gradients, and 5e-3 and
1e-2 for ``ssd``, because the others multiply in tf32; in bfloat16, 2e-2 and 5e-2. Without a GPU, ``--device cpu`` runs
small cases of this package, to try the script.
"""

import argparse
import importlib.metadata
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import mamba_ssd
import torch
from measuring import give, gpu_facts, note, torch_facts
from peer_operations import Implementation, Layout, chunk_scans, convolutions, scans
from torch import Tensor

import mamba

PACKAGES = {
    "mamba_ssm": "mamba-ssm",
    "causal_conv1d": "causal-conv1d",
    "fla": "flash-linear-attention",
}
"""Modules of the public packages, and the names under which they are installed."""

CHANNELS, STATES, HEADS, WIDTH, HEAD_STATES = 512, 16, 8, 64, 64
CHECKED = 64
ALONG = ("u", "delta", "B", "C", "z", "x", "dt")


def scan_inputs(lengths: Tensor, dtype: torch.dtype, device: str) -> dict[str, Tensor]:
    """Draw the inputs of the scan."""
    return mamba.draw(lengths, CHANNELS, STATES, dtype, device)


def convolution_inputs(lengths: Tensor, dtype: torch.dtype, device: str) -> dict[str, Tensor]:
    """Draw the inputs of the convolution."""
    generator = torch.Generator(device).manual_seed(1)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, device=device)

    return {
        "x": normal(int(lengths.sum()), CHANNELS).to(dtype),
        "weight": normal(CHANNELS, 4),
        "bias": normal(CHANNELS),
    }


def chunk_scan_inputs(lengths: Tensor, dtype: torch.dtype, device: str) -> dict[str, Tensor]:
    """Draw the inputs of ``ssd``."""
    return mamba_ssd.draw(lengths, (len(lengths), HEADS, WIDTH, HEAD_STATES), dtype, device)


class Operation(NamedTuple):
    """An operation.

    Args:
        implementations: Function of lengths and device that returns the implementations, ours for packed rows first.
        draw: Function of lengths, dtype and device that returns packed inputs; the first one has the shape of y.
        tolerances: Tolerances of results and of gradients, for float32 and for bfloat16.
    """

    implementations: Callable[[Tensor, str], list[Implementation]]
    draw: Callable[[Tensor, torch.dtype, str], dict[str, Tensor]]
    tolerances: dict[str, tuple[float, float]]


ROUNDED = {"bfloat16": (2e-2, 5e-2)}
OPERATIONS = {
    "scan": Operation(scans, scan_inputs, {"float32": (1e-4, 1e-3)} | ROUNDED),
    "convolution": Operation(convolutions, convolution_inputs, {"float32": (1e-4, 1e-3)} | ROUNDED),
    "ssd": Operation(chunk_scans, chunk_scan_inputs, {"float32": (5e-3, 1e-2)} | ROUNDED),
}


def laid_out(inputs: dict[str, Tensor], layout: Layout) -> dict[str, Tensor]:
    """Convert the inputs with one entry per row to a layout."""
    return {name: layout.rows_to(x) if name in ALONG else x for name, x in inputs.items()}


def distances(
    run: Callable[..., Tensor], layout: Layout, inputs: dict[str, Tensor], truth: list[Tensor]
) -> list[float]:
    """Return the relative RMS distances of y and of the most distant gradient from those of this package."""
    found = mamba.run_with_gradients(lambda **x: layout.rows_of(run(**laid_out(x, layout))), inputs)
    pairs = [(a.detach().double(), b.detach().double()) for a, b in zip(found, truth, strict=True)]
    far = [float((a - b).norm() / b.norm()) for a, b in pairs]
    return [far[0], max(far[1:])]


def times_of(functions: dict[str, Callable[[], Any]], device: str) -> dict[str, float]:
    """Return the milliseconds of each function."""
    if device == "cuda":
        return mamba.gpu_times(functions)
    times = {}
    for name, function in functions.items():
        seconds = []
        for _ in range(3):
            start = time.perf_counter()
            function()
            seconds.append(time.perf_counter() - start)
        times[f"{name}, ms"] = statistics.median(seconds) * 1e3
    return times


def timed(run: Callable[..., Tensor], layout: Layout, inputs: dict[str, Tensor], device: str) -> dict[str, float]:
    """Time an implementation, forward, and forward and backward."""
    given = laid_out(inputs, layout)
    leaves = {name: x.clone().requires_grad_() for name, x in given.items()}
    y_grad = layout.rows_to(torch.ones_like(next(iter(inputs.values()))))
    functions = {
        "forward": lambda: run(**given),
        "forward and backward": lambda: torch.autograd.grad(run(**leaves), list(leaves.values()), y_grad),
    }
    return times_of(functions, device)


def compare(name: str, dtype: str, showers: int, device: str, installed: set[str]) -> dict[str, dict[str, Any]]:
    """Compare and time the installed implementations of an operation, print a row for each, and return the results."""
    operation = OPERATIONS[name]
    few, lengths = mamba.lengths_of(min(CHECKED, showers)), mamba.lengths_of(showers)
    checked, inputs = (operation.draw(of, getattr(torch, dtype), device) for of in (few, lengths))
    truth: list[Tensor] = []
    results: dict[str, dict[str, Any]] = {}
    for small, large in zip(
        operation.implementations(few, device), operation.implementations(lengths, device), strict=True
    ):
        if small.package not in installed:
            continue
        try:
            run = small.load()
            truth = truth or mamba.run_with_gradients(run, checked)
            far = distances(run, small.layout, checked, truth)
            found: dict[str, Any] = {"distance of y": far[0], "distance of gradients": far[1]}
            if all(a <= b for a, b in zip(far, operation.tolerances[dtype], strict=True)):
                found |= timed(large.load(), large.layout, inputs, device)
            else:
                found["error"] = "not timed, because the distances exceed the tolerances"
        except Exception as error:  # other packages fail in many ways, and the rest is measured anyway
            found = {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
        of = f"{large.package}, {large.form}"
        results[of] = found
        cells = [f"{found[key]:.3g}" if key in found else "" for key in COLUMNS]
        note(f"| {name} | {dtype} | {showers} | {of} | {' | '.join(cells)} | {found.get('error', '')} |")
    return results


COLUMNS = ("forward, ms", "forward and backward, ms", "distance of y", "distance of gradients")


def package_versions() -> dict[str, str]:
    """Return the versions of the public packages that are installed, and print why the others are missing."""
    versions = {}
    for module, package in PACKAGES.items():
        try:
            importlib.import_module(module)
            versions[module] = importlib.metadata.version(package)
            note(f"{module}: {versions[module]}")
        except Exception as error:  # an extension that was built for another PyTorch fails in many ways
            note(f"{module} is missing: {type(error).__name__}: {error}".splitlines()[0])
    return versions


def main() -> None:
    """Run the benchmark and print the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--operations", nargs="+", choices=list(OPERATIONS), default=list(OPERATIONS))
    parser.add_argument("--dtypes", nargs="+", choices=["float32", "bfloat16"], default=["float32", "bfloat16"])
    parser.add_argument("--showers", nargs="+", type=int, help="numbers of showers")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    arguments = parser.parse_args()
    cuda = arguments.device == "cuda"
    if cuda and not torch.cuda.is_available():
        raise SystemExit("No CUDA device is available; --device cpu runs small cases of this package only.")
    showers = arguments.showers or ([256, 4096] if cuda else [4])
    if min(showers) < 1:
        parser.error("--showers must be at least 1")
    facts = gpu_facts() if cuda else torch_facts()
    installed = package_versions()
    facts["versions"] |= installed
    note(f"| operation | dtype | showers | implementation | {' | '.join(COLUMNS)} | remark |")
    note("|---" * (5 + len(COLUMNS)) + "|")
    results = {}
    for name in arguments.operations:
        for dtype in arguments.dtypes:
            for count in showers:
                results[f"{name}, {dtype}, {count}"] = compare(
                    name, dtype, count, arguments.device, {"supa_mamba", *installed}
                )
                if cuda:
                    torch.cuda.empty_cache()
    give(facts | {"results": results}, arguments.json)


if __name__ == "__main__":
    main()
