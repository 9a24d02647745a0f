"""Time the scan and the convolution on ragged showers, on a GPU against its hardware limits, or on a CPU.

    python benchmarks/mamba.py [--device cuda] [--shape 4096x512x16 ...] [--dtype float32 ...] [--lengths] [--tune]

A shape is showers x channels x states. The lengths are drawn from normal(98, 38), clipped to 12 to 320, like those of
complete showers. On a GPU each time is compared with two lower bounds: moving every valid element once at the measured
bandwidth of a copy, and computing the exponentials at their measured rate. ``--lengths`` also measures batches with the
same number of rows, divided into shorter or longer sequences (``--plot`` plots the result). On a CPU the packed scan is
compared with a loop over a padded batch and with the associative scan of PyTorch. All results are first checked against
the naive scan.
"""

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from copying import copied_bytes_per_second
from measuring import give, gpu_facts, machine
from torch import Tensor
from torch.nn.functional import pad, silu, softplus

import supa
import supa_mamba
from supa_mamba import causal_conv1d
from supa_mamba.ops.causal_conv1d.naive import naive_causal_conv1d
from supa_mamba.ops.selective_scan import naive

# as the modules call them
selective_scan = partial(supa_mamba.selective_scan, delta_softplus=True)
naive_selective_scan = partial(naive.naive_selective_scan, delta_softplus=True)
ALONG = ("u", "delta", "B", "C", "z")
BOUNDS = {
    torch.float32: (1e-5, 1e-3),
    torch.float64: (1e-12, 1e-10),
    torch.bfloat16: (1e-2, 3e-2),
    torch.float16: (1e-2, 3e-2),
}


def lengths_of(showers: int) -> Tensor:
    """Draw the lengths of showers."""
    normal = torch.randn(showers, generator=torch.Generator().manual_seed(0))
    return (normal * 38 + 98).round().clip(12, 320).long()


def draw(lengths: Tensor, channels: int, states: int, dtype: torch.dtype, device: str) -> dict[str, Tensor]:
    """Draw inputs of a scan as they occur in a model: only tensors with one entry per row are in half precision."""
    rows = int(lengths.sum())
    generator = torch.Generator(device).manual_seed(1)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, device=device)

    inputs = {
        "u": normal(rows, channels),
        "delta": normal(rows, channels) - 4,
        "A": -torch.arange(1, states + 1, device=device).float().repeat(channels, 1),
        "B": normal(rows, states),
        "C": normal(rows, states),
        "D": torch.ones(channels, device=device),
        "z": normal(rows, channels),
        "delta_bias": normal(channels) / 10,
    }
    of_states = torch.float64 if dtype == torch.float64 else torch.float32
    return {name: x.to(dtype if name in ALONG else of_states) for name, x in inputs.items()}


def offset_of(lengths: Tensor, device: str) -> Tensor:
    """Return the offsets of the sequences."""
    return pad(lengths.cumsum(0), (1, 0)).to(device)


def run_with_gradients(function: Callable[..., Tensor], inputs: dict[str, Tensor]) -> list[Tensor]:
    """Return y and the gradients of all inputs."""
    leaves = {name: x.detach().requires_grad_() for name, x in inputs.items()}
    y = function(**leaves)
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(2)).to(y)
    return [y, *torch.autograd.grad(y, list(leaves.values()), weights)]


def distances(
    function: Callable[..., Tensor], naive: Callable[..., Tensor], inputs: dict[str, Tensor]
) -> tuple[float, float]:
    """Return the relative RMS errors of y and of the least accurate gradient, compared with the naive results."""
    found = run_with_gradients(function, inputs)
    truth = run_with_gradients(naive, {name: x.double().cpu() for name, x in inputs.items()})
    errors = [
        ((a.double().cpu() - b).square().mean() / b.square().mean()).sqrt().item()
        for a, b in zip(found, truth, strict=True)
    ]
    return errors[0], max(errors[1:])


def hold_against_naive(channels: int, states: int, dtype: torch.dtype, device: str) -> dict[str, float]:
    """Compare scan and convolution with the naive ones on a few sequences, and exit with an error if they differ."""
    lengths = torch.tensor([40, 1, 33, 70])
    offset, begins = offset_of(lengths, device), offset_of(lengths, "cpu")
    inputs = draw(lengths, channels, states, dtype, device)
    parameters = {"x": inputs["u"], "weight": torch.randn(channels, 4, device=device), "bias": inputs["delta_bias"]}
    errors = {}
    for name, (y, gradient) in {
        "scan": distances(
            lambda **x: selective_scan(**x, offset=offset),
            lambda **x: naive_selective_scan(**x, offset=begins, initial_states=None)[0],
            inputs,
        ),
        "convolution": distances(
            lambda **x: causal_conv1d(**x, offset=offset, activation="silu"),
            lambda **x: naive_causal_conv1d(**x, offset=begins, initial_states=None, activation="silu")[0],
            parameters,
        ),
    }.items():
        allowed = BOUNDS[dtype]
        if not (y <= allowed[0] and gradient <= allowed[1]):
            raise SystemExit(f"{name}: errors of {y:.1e} in y and {gradient:.1e} in gradients; not timed.")
        errors |= {f"{name}, y": y, f"{name}, worst gradient": gradient}
    return errors


def gpu_times(functions: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Return the milliseconds of each function, the median of many calls."""
    import triton

    times = {}
    for name, function in functions.items():
        times[f"{name}, ms"] = triton.testing.do_bench(function, warmup=50, rep=150, return_mode="median")
    return times


def first_calls(shape: tuple[int, int, int], dtype: torch.dtype) -> dict[str, float]:
    """Return the seconds of the first forward and backward call, and of the first one with other lengths."""
    showers, channels, states = shape
    seconds = []
    for count in (showers, showers // 2 + 1):
        lengths = lengths_of(count)
        offset, inputs = offset_of(lengths, "cuda"), draw(lengths, channels, states, dtype, "cuda")
        leaves = {name: x.requires_grad_() for name, x in inputs.items()}
        y_grad = torch.randn_like(inputs["u"])
        torch.cuda.synchronize()
        start = time.perf_counter()
        torch.autograd.grad(selective_scan(**leaves, offset=offset), list(leaves.values()), y_grad)
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return {"new shape, s": seconds[0], "new lengths, s": seconds[1]}


def time_on_gpu(shape: tuple[int, int, int], dtype: torch.dtype, copied: float, exponentials: float) -> dict[str, Any]:
    """Time one shape."""
    showers, channels, states = shape
    first = first_calls(shape, dtype)
    errors = hold_against_naive(channels, states, dtype, "cuda")
    lengths = lengths_of(showers)
    rows, offset = int(lengths.sum()), offset_of(lengths, "cuda")
    inputs = draw(lengths, channels, states, dtype, "cuda")
    leaves = {name: x.clone().requires_grad_() for name, x in inputs.items()}
    y_grad = torch.randn_like(inputs["u"])
    weight = torch.randn(channels, 4, device="cuda")
    conv_leaves = [leaves["u"], weight.clone().requires_grad_(), leaves["delta_bias"]]

    def both_ways(y: Tensor, inputs: list[Tensor]) -> None:
        torch.autograd.grad(y, inputs, y_grad)

    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    both_ways(selective_scan(**leaves, offset=offset), list(leaves.values()))
    taken = torch.cuda.max_memory_allocated() - before
    times = gpu_times(
        {
            "scan forward": lambda: selective_scan(**inputs, offset=offset),
            "scan forward and backward": lambda: both_ways(
                selective_scan(**leaves, offset=offset), list(leaves.values())
            ),
            "scan forward, reverse": lambda: selective_scan(**inputs, offset=offset, reverse=True),
            "convolution forward": lambda: causal_conv1d(inputs["u"], weight, offset=offset, activation="silu"),
            "convolution forward and backward": lambda: both_ways(
                causal_conv1d(*conv_leaves, offset=offset, activation="silu"), conv_leaves
            ),
        }
    )
    size = inputs["u"].element_size()
    long, short = rows * channels * size, rows * states * size
    bytes_of = {
        "scan forward": 4 * long + 2 * short,
        "scan forward and backward": 11 * long + 6 * short,
        "convolution forward": 2 * long,
        "convolution forward and backward": 5 * long,
    }
    exponentials_of = {"scan forward": 1, "scan forward and backward": 2}
    floors = {}
    for name, moved in bytes_of.items():
        floor = max(moved / copied, exponentials_of.get(name, 0) * rows * channels * states / exponentials) * 1e3
        floors[name] = {
            "bytes, ms": moved / copied * 1e3,
            "exponentials, ms": exponentials_of.get(name, 0) * rows * channels * states / exponentials * 1e3,
            "time over the higher one": times[f"{name}, ms"] / floor,
        }
    return {
        "valid tokens": rows,
        "padded over valid": showers * int(lengths.max()) / rows,
        "distances from the naive ones": errors,
        "first calls": first,
        "times": times,
        "floors": floors,
        "memory of a scan forward and backward over that of u": taken / long,
    }


def over_lengths(dtype: torch.dtype, copied: float, exponentials: float) -> list[dict[str, float]]:
    """Time batches of 2**18 rows, 512 channels and 16 states, divided into sequences of equal length."""
    steps, channels, states = 2**18, 512, 16
    inputs = draw(torch.tensor([steps]), channels, states, dtype, "cuda")
    leaves = {name: x.clone().requires_grad_() for name, x in inputs.items()}
    y_grad = torch.randn_like(inputs["u"])
    moved = steps * channels * inputs["u"].element_size()
    passed = steps * channels * states / exponentials
    found = []
    for length in [8 << k for k in range(10)]:
        offset = torch.arange(0, steps + 1, length, device="cuda")
        times = gpu_times(
            {
                "forward": lambda offset=offset: selective_scan(**inputs, offset=offset),
                "forward and backward": lambda offset=offset: torch.autograd.grad(
                    selective_scan(**leaves, offset=offset), list(leaves.values()), y_grad
                ),
            }
        )
        floors = {
            "forward": max(4 * moved / copied, passed),
            "forward and backward": max(11 * moved / copied, 2 * passed),
        }
        found.append({"length": length} | times | {f"{name}, floor, ms": 1e3 * s for name, s in floors.items()})
    return found


def draw_lengths(found: dict[str, list[dict[str, float]]], path: Path) -> None:
    """Plot the time against the length of the sequences."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), layout="constrained")
    for axes, way in zip(figure.subplots(1, 2), ("forward", "forward and backward"), strict=True):
        for colour, (dtype, rows) in zip(("tab:blue", "tab:orange"), found.items(), strict=False):
            lengths = [row["length"] for row in rows]
            axes.plot(
                lengths, [row[f"{way}, ms"] for row in rows], "o-", color=colour, label=dtype.removeprefix("torch.")
            )
            axes.plot(lengths, [row[f"{way}, floor, ms"] for row in rows], ":", color=colour)
        axes.set(xscale="log", xlabel="length of a sequence", ylabel="ms", ylim=(0, None), title=way)
        axes.set_xticks(lengths[::3], [str(int(length)) for length in lengths[::3]], minor=False)
        axes.grid(alpha=0.3)
        axes.legend(title="dotted: lower bound")
    figure.savefig(path, dpi=150)


def padded_loop(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, z: Tensor, delta_bias: Tensor
) -> Tensor:
    """Scan a padded batch step by step, including the padding, like a minimal implementation of Mamba."""
    step = softplus(delta + delta_bias)
    h, y = u.new_zeros(len(u), *A.shape), []
    for t in range(u.shape[1]):
        h = torch.exp(step[:, t, :, None] * A) * h + (step[:, t] * u[:, t])[:, :, None] * B[:, t, None, :]
        y.append((h * C[:, t, None, :]).sum(-1))
    return (torch.stack(y, 1) + D * u) * silu(z)


def associative(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, z: Tensor, delta_bias: Tensor
) -> Tensor:
    """Scan a padded batch with the eager prototype of PyTorch's associative scan."""
    from torch._higher_order_ops.associative_scan import associative_scan

    step = softplus(delta + delta_bias)
    changes = (torch.exp(step[..., None] * A), (step * u)[..., None] * B[:, :, None, :])

    def behind(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return one[0] * other[0], one[1] * other[0] + other[1]

    h = associative_scan(behind, changes, 1, combine_mode="generic")[1]
    return ((h * C[:, :, None, :]).sum(-1) + D * u) * silu(z)


def on_cpu(shape: tuple[int, int, int], dtype: torch.dtype, repeat: int) -> dict[str, Any]:
    """Time one shape against padded batches. The calls alternate, so that other load affects all of them equally."""
    showers, channels, states = shape
    errors = hold_against_naive(channels, states, dtype, "cpu")
    lengths = lengths_of(showers)
    offset, inputs = offset_of(lengths, "cpu"), draw(lengths, channels, states, dtype, "cpu")
    valid = torch.arange(int(lengths.max())) < lengths[:, None]
    padded = {
        name: x.new_zeros(*valid.shape, x.shape[1]).masked_scatter_(valid[:, :, None], x) if name in ALONG else x
        for name, x in inputs.items()
    }
    ways: dict[str, tuple[Callable[..., Tensor], dict[str, Tensor]]] = {
        "packed scan": (lambda **x: selective_scan(**x, offset=offset), inputs),
        "padded loop": (padded_loop, padded),
        "associative scan": (associative, padded),
    }
    with torch.no_grad():
        ys = [function(**given) for function, given in ways.values()]
    for y in ys[1:]:
        torch.testing.assert_close(y[valid], ys[0], rtol=1e-3, atol=1e-3)
    times: dict[str, list[float]] = {f"{name}, {way}": [] for name in ways for way in ("forward", "both ways")}
    for _ in range(repeat):
        for name, (function, given) in ways.items():
            start = time.perf_counter()
            with torch.no_grad():
                function(**given)
            middle = time.perf_counter()
            run_with_gradients(function, given)
            times[f"{name}, forward"].append(middle - start)
            times[f"{name}, both ways"].append(time.perf_counter() - middle)
    return {
        "valid tokens": int(lengths.sum()),
        "padded over valid": valid.numel() / int(lengths.sum()),
        "distances from the naive ones": errors,
        "times, ms": {n: {"best": min(t) * 1e3, "median": statistics.median(t) * 1e3} for n, t in times.items()},
        **{
            f"{name} over packed scan": {
                way: statistics.median(times[f"{name}, {way}"]) / statistics.median(times[f"packed scan, {way}"])
                for way in ("forward", "both ways")
            }
            for name in list(ways)[1:]
        },
    }


def gpu_results(shapes: list[tuple[int, int, int]], dtypes: list[torch.dtype], *, lengths: bool) -> dict[str, Any]:
    """Time all shapes, and optionally all lengths."""
    from exponentials import exponentials_per_second

    copied, exponentials = copied_bytes_per_second(), exponentials_per_second()
    shaped = {}
    for shape in shapes:
        for dtype in dtypes:
            name = f"{'x'.join(map(str, shape))}, {dtype}"
            shaped[name] = time_on_gpu(shape, dtype, copied, exponentials)
            print(name, shaped[name]["first calls"], shaped[name]["times"], file=sys.stderr, flush=True)
            torch.cuda.empty_cache()
    return {
        "copy, TB/s": copied / 1e12,
        "exponentials, 1e12/s": exponentials / 1e12,
        "results": shaped,
        "over lengths": {str(dtype): over_lengths(dtype, copied, exponentials) for dtype in dtypes if lengths},
    }


def tune(shape: tuple[int, int, int], dtype: torch.dtype) -> None:
    """Test other block sizes of the kernels, and print the times in ascending order."""
    from supa_mamba.ops.selective_scan import block_sizes
    from supa_mamba.ops.selective_scan.block_sizes import TILE, BackwardBlock, ForwardBlock

    showers, channels, states = shape
    lengths = lengths_of(showers)
    offset, inputs = offset_of(lengths, "cuda"), draw(lengths, channels, states, dtype, "cuda")
    leaves = {name: x.requires_grad_() for name, x in inputs.items()}
    padded = 1 << (states - 1).bit_length()
    forward = [ForwardBlock(max(8, held * 32 // padded), n) for held in (16, 32, 64) for n in (None, 128, 168)]
    backward = []
    for outer in (1, 2):
        lanes = min(32, max(1, padded // 4 // outer))
        block = 4 * (32 // lanes)
        blocks = -(-channels // block)
        for rows in (4, 8, TILE):
            for groups in {blocks, max(1, min(blocks, 2 * channels // states))}:
                backward += [BackwardBlock(block, lanes, outer, rows, groups, n) for n in (None, 200)]
    for name, choices in (("forward_block", forward), ("backward_block", backward)):
        chosen, table = getattr(block_sizes, name), []
        for block in choices:
            setattr(block_sizes, name, lambda *_, block=block, **__: block)
            if name == "forward_block":
                run = lambda: selective_scan(**inputs, offset=offset)  # noqa: E731
            else:
                y = selective_scan(**leaves, offset=offset)
                run = lambda y=y: torch.autograd.grad(  # noqa: E731
                    y, list(leaves.values()), torch.ones_like(y), retain_graph=True
                )
            table.append((gpu_times({"it": run})["it, ms"], block))
        setattr(block_sizes, name, chosen)
        print(f"{'x'.join(map(str, shape))}, {dtype}, {name}, in ascending order:")
        print("\n".join(f"{ms:8.3f} ms  {block}" for ms, block in sorted(table, key=lambda row: row[0])), flush=True)


def shape_of(text: str) -> tuple[int, int, int]:
    """Parse showers x channels x states."""
    showers, channels, states = map(int, text.split("x"))
    return showers, channels, states


def main() -> None:
    """Run the benchmark and print the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--shape", type=shape_of, nargs="+", help="showers x channels x states")
    parser.add_argument(
        "--dtype", nargs="+", default=["float32"], choices=["float16", "bfloat16", "float32", "float64"]
    )
    parser.add_argument(
        "--lengths", action="store_true", help="also time sequences of equal length, from 8 to 4096 rows (GPU)"
    )
    parser.add_argument("--plot", type=Path, help="plot the times of these lengths to this file")
    parser.add_argument("--tune", action="store_true", help="test other block sizes of the kernels instead (GPU)")
    parser.add_argument("--repeat", type=int, default=5, help="number of repetitions (CPU)")
    parser.add_argument("--threads", type=int, default=1, help="number of PyTorch threads (CPU)")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    arguments = parser.parse_args()
    dtypes = [getattr(torch, name) for name in arguments.dtype]
    results: dict[str, Any]
    if arguments.device == "cuda":
        shapes = arguments.shape or [
            (256, 128, 16),
            (256, 512, 16),
            (1024, 1024, 16),
            (4096, 256, 16),
            (4096, 512, 16),
            (4096, 512, 64),
            (16384, 256, 16),
        ]
        if arguments.tune:
            for shape in shapes:
                for dtype in dtypes:
                    tune(shape, dtype)
            return
        results = gpu_facts() | gpu_results(shapes, dtypes, lengths=arguments.lengths)
        if arguments.plot:
            draw_lengths(results["over lengths"], arguments.plot)
    else:
        torch.set_num_threads(arguments.threads)
        results = {
            "machine": machine(),
            "versions": {"supa": supa.__version__, "python": platform.python_version(), "torch": torch.__version__},
            "date": time.strftime("%Y-%m-%d"),
            "threads": arguments.threads,
            "results": {
                f"{'x'.join(map(str, shape))}, {dtype}": on_cpu(shape, dtype, arguments.repeat)
                for shape in arguments.shape or [(64, 64, 16)]
                for dtype in dtypes
            },
        }
    give(results, arguments.json)


if __name__ == "__main__":
    main()
