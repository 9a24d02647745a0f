"""Time the recurrence of Mamba-2 on ragged showers on a GPU, against its hardware limits.

    python benchmarks/mamba_ssd.py [--shape 4096x8x64x64 ...] [--dtype bfloat16 ...] [--tune]

A shape is showers x heads x channels per head x states, with one group. The lengths are those of ``mamba.py``. Each
time is compared with a lower bound: moving every valid element once at the measured bandwidth of a copy. ``--tune``
tests block sizes of the kernels and prints their times in ascending order. All results are first checked against the
naive form.
"""

import argparse
import dataclasses
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from measuring import give, gpu_facts
from torch import Tensor

from mamba import BOUNDS, copied_bytes_per_second, distances, gpu_times, lengths_of, offset_of, run_with_gradients
from supa_mamba import ssd
from supa_mamba.ops.ssd import block_sizes
from supa_mamba.ops.ssd.naive import naive_ssd

ALONG = ("x", "dt", "B", "C")
Shape = tuple[int, int, int, int]
WALKS = [
    {"chunk": chunk, "width": width, "warps": warps, "registers": registers}
    for chunk, width, warps, registers in [
        (32, 64, 4, 128), (32, 64, 4, 96), (32, 64, 4, 168), (16, 32, 1, None), (16, 32, 1, 168), (16, 64, 2, 168),
        (16, 64, 2, None), (16, 64, 2, 128), (32, 32, 2, 128), (32, 32, 2, 168), (32, 64, 2, None), (32, 32, 1, None),
        (16, 64, 4, 128), (16, 64, 1, None), (64, 64, 4, None), (64, 64, 8, 128), (32, 64, 8, 128),
    ]
]  # fmt: skip
PAIRS = [
    {"chunk": chunk, "heads": heads, "warps": warps, "stages": stages, "registers": registers}
    for chunk, heads, warps, stages, registers in [
        (64, 8, 8, 1, None), (64, 8, 8, 1, 128), (64, 8, 4, 1, None), (64, 8, 8, 2, 128), (64, 8, 4, 2, None),
        (64, 8, 4, 3, None), (64, 8, 4, 4, None), (64, 8, 8, 3, None), (32, 8, 4, 3, None),
        (64, 4, 4, 1, None), (64, 4, 8, 1, 128), (32, 8, 4, 1, None), (32, 8, 4, 1, 128), (32, 8, 2, 1, None),
    ]
]  # fmt: skip


def draw(lengths: Tensor, shape: Shape, dtype: torch.dtype, device: str) -> dict[str, Tensor]:
    """Draw inputs as they occur in a model: only tensors with one entry per row are in half precision."""
    _, heads, width, states = shape
    rows = int(lengths.sum())
    generator = torch.Generator(device).manual_seed(1)

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator, device=device)

    inputs = {
        "x": normal(rows, heads, width),
        "dt": normal(rows, heads) - 4,
        "A": -torch.linspace(1, 16, heads, device=device),
        "B": normal(rows, 1, states),
        "C": normal(rows, 1, states),
        "D": torch.ones(heads, device=device),
        "dt_bias": normal(heads) / 10,
    }
    of_states = torch.float64 if dtype == torch.float64 else torch.float32
    return {name: x.to(dtype if name in ALONG else of_states) for name, x in inputs.items()}


def hold_against_naive(shape: Shape, dtype: torch.dtype, device: str) -> dict[str, float]:
    """Compare with the naive form on a few sequences, and exit with an error if the results differ."""
    lengths = torch.tensor([40, 1, 64, 0, 70, 200])
    offset, begins = offset_of(lengths, device), offset_of(lengths, "cpu")
    y, gradient = distances(
        lambda **x: ssd(**x, offset=offset, dt_softplus=True),
        lambda **x: naive_ssd(**x, offset=begins, initial_states=None, dt_softplus=True)[0],
        draw(lengths, shape, dtype, device),
    )
    if not (y <= BOUNDS[dtype][0] and gradient <= BOUNDS[dtype][1]):
        raise SystemExit(f"{shape}, {dtype}: errors of {y:.1e} in y and {gradient:.1e} in gradients; not timed.")
    return {"y": y, "worst gradient": gradient}


def both_ways(leaves: dict[str, Tensor], offset: Tensor, y_grad: Tensor) -> None:
    """Run the forward and backward pass."""
    torch.autograd.grad(ssd(**leaves, offset=offset, dt_softplus=True), list(leaves.values()), y_grad)


def prepared(shape: Shape, dtype: torch.dtype) -> tuple[Callable[[], Any], Callable[[], Any], int]:
    """Return a function for the forward pass, one for forward and backward pass, and the number of rows."""
    lengths = lengths_of(shape[0])
    offset, inputs = offset_of(lengths, "cuda"), draw(lengths, shape, dtype, "cuda")
    leaves = {name: x.clone().requires_grad_() for name, x in inputs.items()}
    y_grad = torch.randn_like(inputs["x"])
    return (
        lambda: ssd(**inputs, offset=offset, dt_softplus=True),
        lambda: both_ways(leaves, offset, y_grad),
        int(lengths.sum()),
    )


def time_on_gpu(shape: Shape, dtype: torch.dtype, copied: float) -> dict[str, Any]:
    """Time one shape."""
    _, heads, width, states = shape
    errors = hold_against_naive(shape, dtype, "cuda")
    forward, both, rows = prepared(shape, dtype)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    both()
    taken = torch.cuda.max_memory_allocated() - before
    times = gpu_times({"forward": forward, "forward and backward": both})
    size = 8 if dtype == torch.float64 else 4 if dtype == torch.float32 else 2
    long, short, thin = rows * heads * width * size, rows * states * size, rows * heads * size
    moved = {
        "forward": 2 * long + 2 * short + thin,
        "forward and backward": 5 * long + 6 * short + 3 * thin,
    }
    return {
        "valid tokens": rows,
        "distances from the naive form": errors,
        "times": times,
        "kernels, ms": kernel_times(both),
        "floor, ms": {name: bytes_ / copied * 1e3 for name, bytes_ in moved.items()},
        "time over floor": {name: times[f"{name}, ms"] * 1e-3 * copied / bytes_ for name, bytes_ in moved.items()},
        "memory of forward and backward over that of x": taken / long,
    }


@contextmanager
def changed(name: str, **fields: Any) -> Iterator[None]:
    """Change the result of ``block_sizes.walk_blocks`` or ``block_sizes.pairs_blocks``."""
    chosen = getattr(block_sizes, name)
    setattr(block_sizes, name, lambda *sizes: dataclasses.replace(chosen(*sizes), **fields))
    try:
        yield
    finally:
        setattr(block_sizes, name, chosen)


def kernel_times(function: Callable[[], Any]) -> dict[str, float]:
    """Return the milliseconds of each kernel of one call in descending order."""
    function()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        for _ in range(5):
            function()
        torch.cuda.synchronize()
    times = {event.key[:60]: event.self_device_time_total / 5e3 for event in profile.key_averages()}
    return {name: ms for name, ms in sorted(times.items(), key=lambda item: -item[1])[:12] if ms > 0.001}


def tune(shape: Shape, dtype: torch.dtype, only: str) -> None:
    """Test block sizes of each kernel, and print the times of those with correct results in ascending order."""
    hold_against_naive(shape, dtype, "cuda")
    forward, both, _ = prepared(shape, dtype)
    heads = shape[1]
    print(kernel_times(both), flush=True)
    candidates: dict[str, tuple[Callable[[], Any], list[dict[str, Any]]]] = {
        "walk_blocks": (forward, WALKS),
        "pairs_blocks": (both, [c for c in PAIRS if heads % c["heads"] == 0]),
    }
    lengths = torch.tensor([40, 1, 64, 0, 70, 200])
    offset, few = offset_of(lengths, "cuda"), draw(lengths, shape, dtype, "cuda")
    truth = run_with_gradients(lambda **x: ssd(**x, offset=offset, dt_softplus=True), few)
    for name, (function, choices) in candidates.items():
        if only not in name:
            continue
        table = []
        for fields in choices:
            words = ", ".join(f"{key} {value}" for key, value in fields.items())
            with changed(name, **fields):
                of = block_sizes.walk_blocks(*shape[2:], dtype), block_sizes.pairs_blocks(heads, *shape[2:], dtype)
                if of[1].chunk % of[0].chunk:
                    continue
                try:
                    if name == "walk_blocks":
                        found = [ssd(**few, offset=offset, dt_softplus=True)]
                    else:
                        found = run_with_gradients(lambda **x: ssd(**x, offset=offset, dt_softplus=True), few)
                    far = max(float((a - b).norm() / b.norm()) for a, b in zip(found, truth, strict=False))
                    if not far <= BOUNDS[dtype][1]:
                        raise ValueError(f"error of {far:.1e}")
                    table.append((gpu_times({"it": function})["it, ms"], words))
                except Exception as error:
                    print(f"{name}, {words}: {str(error).splitlines()[:1] or repr(error)}", flush=True)
        print(f"{'x'.join(map(str, shape))}, {dtype}, {name}, in ascending order:")
        print("\n".join(f"{ms:8.3f} ms  {words}" for ms, words in sorted(table)), flush=True)


def shape_of(text: str) -> Shape:
    """Parse showers x heads x channels per head x states."""
    showers, heads, width, states = map(int, text.split("x"))
    return showers, heads, width, states


def main() -> None:
    """Run the benchmark and print the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--shape", type=shape_of, nargs="+", help="showers x heads x channels per head x states")
    parser.add_argument("--dtype", nargs="+", choices=["float16", "bfloat16", "float32", "float64"])
    parser.add_argument("--tune", action="store_true", help="test block sizes instead")
    parser.add_argument("--only", default="", choices=["", "walk", "pairs"], help="with --tune: test only this kernel")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("No CUDA device is available, but this benchmark requires one.")
    shapes = arguments.shape or [
        (4096, 8, 64, 64), (4096, 16, 32, 16), (4096, 8, 64, 128), (256, 8, 64, 64), (16384, 4, 64, 64),
    ]  # fmt: skip
    dtypes = [getattr(torch, name) for name in arguments.dtype or ("bfloat16", "float32")]
    if arguments.tune:
        for shape in shapes:
            for dtype in dtypes:
                tune(shape, dtype, arguments.only)
        return
    copied = copied_bytes_per_second()
    results = {}
    for shape in shapes:
        for dtype in dtypes:
            name = f"{'x'.join(map(str, shape))}, {dtype}"
            results[name] = time_on_gpu(shape, dtype, copied)
            print(name, results[name]["times"], file=sys.stderr, flush=True)
            torch.cuda.empty_cache()
    give(gpu_facts() | {"copy, TB/s": copied / 1e12, "results": results}, arguments.json)


if __name__ == "__main__":
    main()
