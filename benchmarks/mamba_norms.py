"""Count the bytes of the fused norms, and time them on a GPU against PyTorch's norm and against their bytes.

    python benchmarks/mamba_norms.py --count
    python benchmarks/mamba_norms.py [--showers 512 ...] [--width 64 ...] [--dtype float32 ...] [--tune]

``--count`` prints the bytes that each kernel of a step reads and writes for each feature of a row, for the kernels of
this package ("fused") and for the kernels of PyTorch that do the same ("plain"). It needs no GPU. Otherwise the script
times both, for the rows of complete showers, as 98 hits each. It prints the time of the kernels, in a captured CUDA
graph, the wall time without a graph, which includes the time to launch them, and multiples of a lower bound: moving the
bytes of the fused kernels at the measured bandwidth of a copy. The plain code is that of the backend for CPUs. With
``bfloat16`` the residual is float32, as in a stack under autocast. All results are first checked against the naive
norms in float64. ``--tune`` tests other sizes of tiles and programs.
"""

import argparse
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch
from copying import copied_bytes_per_second
from measuring import give, gpu_facts
from torch import Tensor

from supa_mamba import add_rms_norm, gated_rms_norm
from supa_mamba.ops import row_tiles
from supa_mamba.ops.add_rms_norm import cpu as plain_sum
from supa_mamba.ops.add_rms_norm.inputs import AddNormInputs, AddNormOptions
from supa_mamba.ops.add_rms_norm.naive import naive_add_rms_norm
from supa_mamba.ops.gated_rms_norm import cpu as plain_gate
from supa_mamba.ops.gated_rms_norm.inputs import GatedNormInputs, GatedNormOptions
from supa_mamba.ops.gated_rms_norm.naive import naive_gated_rms_norm
from supa_mamba.ops.row_tiles import RowTile

HITS = 98
EPS = 1e-5
BOUNDS = {torch.float32: 1e-5, torch.bfloat16: 1e-2}


class Kernel(NamedTuple):
    """Bytes of a kernel for each feature of a row. F is a float32 number, H one in the precision of the mixer."""

    name: str
    reads: str
    writes: str


FUSED = {
    "sum and norm": (
        [Kernel("sum and norm", "FH", "FH")],
        [Kernel("gradients", "HFF", "FH")],
    ),
    "norm with gate": ([Kernel("gate and norm", "HH", "H")], [Kernel("gradients", "HHH", "HH")]),
}
# Each kernel is counted as if it read each input once. PyTorch reads the rows again for the gradient of the weight.
PLAIN = {
    "sum and norm": (
        [Kernel("add", "FH", "F"), Kernel("norm", "F", "F"), Kernel("cast", "F", "H")],
        [
            Kernel("cast", "H", "F"), Kernel("gradients of the norm", "FF", "F"), Kernel("add", "FF", "F"),
            Kernel("cast", "F", "H"),
        ],
    ),
    "norm with gate": (
        [
            Kernel("cast", "H", "F"), Kernel("silu", "F", "F"), Kernel("cast", "H", "F"), Kernel("multiply", "FF", "F"),
            Kernel("norm", "F", "F"), Kernel("multiply", "F", "F"), Kernel("cast", "F", "H"),
        ],
        [
            Kernel("cast", "H", "F"), Kernel("multiply", "F", "F"), Kernel("multiply", "FF", "F"),
            Kernel("sum over rows", "F", ""), Kernel("gradients of the norm", "FF", "F"),
            Kernel("multiply", "FF", "F"), Kernel("multiply", "FF", "F"), Kernel("cast", "F", "H"),
            Kernel("gradient of silu", "FF", "F"), Kernel("cast", "F", "H"),
        ],
    ),
}  # fmt: skip


def bytes_of(kernels: list[Kernel], dtype: torch.dtype) -> int:
    """Return the bytes that kernels move for each feature of a row. Without half precision there are no casts."""
    size = {"F": 4, "H": dtype.itemsize}
    moved = [k for k in kernels if k.name != "cast" or dtype.itemsize != 4]
    if dtype.itemsize == 4:  # the gradients of residual and update are one tensor
        moved = [k._replace(writes="F") if k == FUSED["sum and norm"][1][0] else k for k in moved]
    return sum(size[x] for kernel in moved for x in kernel.reads + kernel.writes)


def counts(dtypes: list[torch.dtype]) -> dict[str, Any]:
    """Count the bytes forward and backward."""
    return {
        f"{name}, {dtype}": {
            way: [bytes_of(kernels, dtype) for kernels in of_way[name]]
            for way, of_way in {"fused": FUSED, "plain": PLAIN}.items()
        }
        for name in FUSED
        for dtype in dtypes
    }


def draw(rows: int, width: int, dtype: torch.dtype) -> dict[str, dict[str, Tensor]]:
    """Draw the inputs of both norms. The gate is a view of a projection."""
    generator = torch.Generator("cuda").manual_seed(0)

    def normal(*shape: int, dtype: torch.dtype) -> Tensor:
        return torch.randn(*shape, generator=generator, device="cuda").to(dtype)

    weight = normal(width, dtype=torch.float32)
    projection = normal(rows, 2 * width, dtype=dtype)
    sums = {"residual": normal(rows, width, dtype=torch.float32), "update": normal(rows, width, dtype=dtype)}
    gates = {"x": normal(rows, width, dtype=dtype), "gate": projection[:, :width]}
    return {"sum and norm": sums | {"weight": weight}, "norm with gate": gates | {"weight": weight}}


def ways(dtype: torch.dtype) -> dict[str, dict[str, Callable[..., Any]]]:
    """Return the fused and the plain form of both norms."""
    sums, gates = AddNormOptions(EPS, dtype), GatedNormOptions(1, EPS, norm_before_gate=False)
    return {
        "sum and norm": {
            "fused": lambda **x: add_rms_norm(**x, eps=EPS, dtype=dtype),
            "plain": lambda **x: plain_sum.forward(AddNormInputs(**x), sums),
        },
        "norm with gate": {
            "fused": lambda **x: (gated_rms_norm(**x, eps=EPS),),
            "plain": lambda **x: (plain_gate.forward(GatedNormInputs(**x), gates),),
        },
    }


def results(function: Callable[..., Any], inputs: dict[str, Tensor]) -> list[Tensor]:
    """Return the results and the gradients of all inputs."""
    leaves = {name: x.detach().requires_grad_() for name, x in inputs.items()}
    found = function(**leaves)
    weights = [torch.linspace(-1, 1, y.numel(), dtype=torch.float64).view(y.shape).to(y) for y in found]
    return [*found, *torch.autograd.grad(found, list(leaves.values()), weights)]


def hold_against_naive(width: int, dtype: torch.dtype) -> dict[str, float]:
    """Compare both norms with the naive ones on a few rows, and exit with an error if they differ."""
    naive: dict[str, Callable[..., Any]] = {
        "sum and norm": naive_add_rms_norm,
        "norm with gate": lambda **x: (naive_gated_rms_norm(**x, eps=EPS),),
    }
    errors = {}
    for name, inputs in draw(300, width, dtype).items():
        found = results(ways(dtype)[name]["fused"], inputs)
        truth = results(naive[name], {key: x.double().cpu() for key, x in inputs.items()})
        errors[name] = max(((a.double().cpu() - b).norm() / b.norm()).item() for a, b in zip(found, truth, strict=True))
        if not errors[name] <= BOUNDS[dtype]:
            raise SystemExit(f"{name}, width {width}, {dtype}: an error of {errors[name]:.1e}; not timed.")
    return errors


def runs(function: Callable[..., Any], inputs: dict[str, Tensor]) -> dict[str, Callable[[], Any]]:
    """Return a forward pass, and a forward and backward pass."""
    leaves = {name: x.detach().requires_grad_() for name, x in inputs.items()}
    with torch.no_grad():
        grads = [torch.ones_like(y) for y in function(**inputs)]

    def both() -> None:
        torch.autograd.grad(function(**leaves), list(leaves.values()), grads)

    return {"forward": lambda: function(**inputs), "forward and backward": both}


def times(run: Callable[[], Any]) -> dict[str, float]:
    """Return the milliseconds in a CUDA graph and without one, medians of many calls."""
    from triton.testing import do_bench, do_bench_cudagraph

    return {
        "kernels, ms": do_bench_cudagraph(run, rep=20, return_mode="median"),
        "wall, ms": do_bench(run, warmup=10, rep=40, return_mode="median"),
    }


def time_on_gpu(showers: int, width: int, dtype: torch.dtype, copied: float) -> dict[str, Any]:
    """Time one shape."""
    rows, found = showers * HITS, {"errors": hold_against_naive(width, dtype)}
    for name, inputs in draw(rows, width, dtype).items():
        moved = [bytes_of(kernels, dtype) * rows * width for kernels in FUSED[name]]
        floors = {"forward": moved[0] / copied * 1e3, "forward and backward": sum(moved) / copied * 1e3}
        of_norm: dict[str, Any] = {}
        for way, function in ways(dtype)[name].items():
            for part, run in runs(function, inputs).items():
                of_norm[f"{way}, {part}"] = times(run)
                of_norm[f"{way}, {part}"]["over the floor"] = of_norm[f"{way}, {part}"]["kernels, ms"] / floors[part]
        found[name] = of_norm
    return found


def tune(showers: int, width: int, dtype: torch.dtype) -> None:
    """Test other sizes of tiles and programs, and print the times of the kernels in ascending order."""
    chosen, programs = row_tiles.row_tile, row_tiles.PROGRAMS
    columns = chosen(width).columns
    tiles = {
        RowTile(max(1, elements // columns), columns, warps)
        for elements in (512, 1024, 2048, 4096, 8192)
        for warps in (1, 2, 4, 8)
        if 4 <= max(elements, columns) // (32 * warps) <= 64
    }
    for name, inputs in draw(showers * HITS, width, dtype).items():
        table: list[tuple[float, float, RowTile, int]] = []
        for tile, count in product(sorted(tiles), (512, 1024, 2048, 4096)):

            def of_any_width(width: int, *, prefetched: bool = False, tile: RowTile = tile) -> RowTile:
                return tile

            row_tiles.row_tile, row_tiles.PROGRAMS = of_any_width, count
            of_parts = runs(ways(dtype)[name]["fused"], inputs)
            forward, both = (times(of_parts[part])["kernels, ms"] for part in of_parts)
            table.append((both, forward, tile, count))
        row_tiles.row_tile, row_tiles.PROGRAMS = chosen, programs
        print(f"{name}, {showers} showers, width {width}, {dtype}; forward and backward, forward:")
        for both, forward, tile, count in sorted(table)[:12]:
            print(f"{both:8.4f} {forward:8.4f} ms  {tile}, {count} programs", flush=True)


def main() -> None:
    """Run the benchmark and print the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--count", action="store_true", help="count bytes instead of measuring times")
    parser.add_argument("--showers", type=int, nargs="+", default=[512, 2048, 8192], help="of 98 hits each")
    parser.add_argument("--width", type=int, nargs="+", default=[64, 128, 256, 512], help="features of a row")
    parser.add_argument("--dtype", nargs="+", default=["float32", "bfloat16"], choices=["float32", "bfloat16"])
    parser.add_argument("--tune", action="store_true", help="test other sizes of tiles and programs instead")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    arguments = parser.parse_args()
    dtypes = [getattr(torch, name) for name in arguments.dtype]
    if arguments.count:
        give(counts(dtypes), arguments.json)
        return
    if not torch.cuda.is_available():
        parser.error("no CUDA device is available; --count runs without one")
    shapes = [(s, w, dtype) for s in arguments.showers for w in arguments.width for dtype in dtypes]
    if arguments.tune:
        for shape in shapes:
            tune(*shape)
        return
    copied, measured = copied_bytes_per_second(), {}
    for showers, width, dtype in shapes:
        name = f"{showers} x {width}, {dtype}"
        measured[name] = time_on_gpu(showers, width, dtype, copied)
        print(name, measured[name], file=sys.stderr, flush=True)
        torch.cuda.empty_cache()
    give(gpu_facts() | {"copy, TB/s": copied / 1e12, "bytes": counts(dtypes), "results": measured}, arguments.json)


if __name__ == "__main__":
    main()
