"""Measure the engine "cuda" on a GPU: showers that stay on the device, and showers copied to the host.

    python benchmarks/simulate_cuda.py [--showers 4000000] [--repeat 5] [--json out.json]

The rate "on the device" includes the allocation of the arrays and all kernels; it excludes the compilation. Showers in
host memory come from `supa.simulate` and `supa.stream`. The CPU engine with all threads runs between them. The times of
single kernels are those between two synchronisations, for one `standard` shower.
"""

import argparse
import platform
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numba
import numpy as np
from measuring import give, machine

import supa
from supa.engines import cuda
from supa.simulation import map_stream

PRESETS = ("standard", "reference", "dense", "no-pass", "critical", "two-primaries")


def rate(showers: int, repeat: int, work: Callable[[], Any]) -> float:
    """Return the median rate of a few calls, after one warm-up call."""
    work()
    seconds = []
    for _ in range(repeat):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return showers / statistics.median(seconds)


def on_device(preset: str, showers: int, single: bool) -> Callable[[], Any]:
    """Return a function that simulates showers and leaves them on the device."""
    gpu = cuda.open_gpu()
    walker = cuda.Walker(supa.preset(preset), 0, False, False, gpu, single=single)

    def work() -> None:
        walker.walk(0, showers)
        gpu.synchronize()

    return work


class TimedGpu:
    """A GPU that measures the time of each kernel.

    Args:
        gpu: The GPU.
    """

    def __init__(self, gpu: cuda.Gpu) -> None:
        self._gpu = gpu
        self.seconds: dict[str, list[float]] = defaultdict(list)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._gpu, name)

    def launch(self, kernel: str, *arguments: Any, **options: Any) -> None:
        """Run a kernel, and measure its time."""
        self._gpu.synchronize()
        start = time.perf_counter()
        self._gpu.launch(kernel, *arguments, **options)
        self._gpu.synchronize()
        self.seconds[kernel].append(time.perf_counter() - start)


def kernels(showers: int, repeat: int, single: bool) -> dict[str, float]:
    """Return the median time of each kernel in ns for one `standard` shower, after one warm-up call."""
    gpu = TimedGpu(cuda.open_gpu())
    walker = cuda.Walker(supa.preset("standard"), 0, False, False, gpu, single=single)
    for _ in range(repeat + 1):
        walker.walk(0, showers)
    return {kernel: 1e9 * statistics.median(seconds[1:]) / showers for kernel, seconds in gpu.seconds.items()}


def exhaust(showers: int, engine: Any) -> None:
    """Simulate a stream of showers and discard them."""
    for _ in supa.stream(showers, engine=engine):
        pass


def convert(showers: int) -> None:
    """Simulate a stream of showers and convert their positions and energies to float32 in threads."""

    def work(chunk: supa.Showers) -> list[Any]:
        return [column.astype(np.float32) for column in (chunk.x, chunk.y, chunk.energy)]

    for _ in map_stream(work, showers, engine="cuda"):
        pass


def measure(showers: int, repeat: int) -> dict[str, Any]:
    """Return all rates, in showers per second, and the times of the kernels."""
    rates: dict[str, Any] = {"on the device, float64": {}, "on the device, float32": {}}
    for preset in PRESETS:
        count = showers // (20 if preset in ("dense", "no-pass") else 1)
        for precision, single in (("float64", False), ("float32", True)):
            rates[f"on the device, {precision}"][preset] = rate(count, repeat, on_device(preset, count, single))
    for precision, single in (("float64", False), ("float32", True)):
        rates[f"ns per shower of each kernel, {precision}"] = kernels(showers, repeat, single)
    rates["map_stream, conversion to float32, engine cuda"] = rate(showers, repeat, partial(convert, showers))
    few = showers // 4
    for engine in ("cuda", "cpu"):
        rates[f"supa.simulate, engine {engine}"] = rate(few, repeat, partial(supa.simulate, few, engine=engine))
        rates[f"supa.stream, engine {engine}"] = rate(showers, repeat, partial(exhaust, showers, engine))
    return rates


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--showers", type=int, default=4_000_000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    versions = {"supa": supa.__version__, "python": platform.python_version(), "numpy": np.__version__}
    versions |= {"numba": numba.__version__, "cuda-core": version("cuda-core")}
    facts = {"machine": machine(), "device": cuda.open_gpu().name, "versions": versions}
    facts |= {"date": time.strftime("%Y-%m-%d"), "showers": arguments.showers, "repeat": arguments.repeat}
    give({**facts, "results": measure(arguments.showers, arguments.repeat)}, arguments.json)


if __name__ == "__main__":
    main()
