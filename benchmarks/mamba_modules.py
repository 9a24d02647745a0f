"""Time training steps of stacks on ragged showers, and compare them with their kernels.

    python benchmarks/mamba_modules.py [--models bimamba] [--showers 256 2048] [--widths 64] [--dtypes float32]
                                       [--graph] [--inference] [--top] [--device cpu] [--json results.json]

A step is forward pass, backward pass, clipping of the gradients and a fused AdamW, for a stack of four layers. For each
case the script prints a row of a table, with the time of a step in four forms:

- wall: the time that a user waits, the median over groups of steps with a synchronisation at both ends of each group;
- kernels: the sum of the times of all kernels, and their number;
- products + scan: the sum over matrix products, and over the kernels of ``selective_scan`` or ``ssd``;
- graph: the wall time of the same step captured in a CUDA graph (``--graph``).

Wall over kernels is the cost of launching. Kernels over products and scan is the cost of everything between them.
``--top`` also prints the ten kernels with most time. The lengths are those of ``mamba.py``. Under ``bfloat16`` the
forward pass runs in autocast. Without a GPU, ``--device cpu`` runs small cases and prints wall times only.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterable
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch
from kernel_times import kernels_of, kind_of
from measuring import give, gpu_facts, note, torch_facts
from torch import Tensor, nn

from mamba import lengths_of, offset_of
from supa_learning import CapturedStep
from supa_mamba import MambaStack, optimizer_groups

MODELS: dict[str, dict[str, Any]] = {
    "bimamba": {"mixer": "bimamba"},
    "mamba": {"mixer": "mamba"},
    "mamba2": {"mixer": "mamba2", "d_state": 64},
}
"""Options of the stacks. Mamba-1 has 16 states per channel, Mamba-2 heads of 64 channels with 64 states."""

SCANS = ("selective_scan", "ssd")
GROUPS, TOP, CLIP = 5, 10, 1.0


class Case(NamedTuple):
    """One case.

    Args:
        model: Name of a stack.
        dtype: ``"float32"``, or ``"bfloat16"`` for autocast.
        width: Number of features per row.
        showers: Number of showers.
    """

    model: str
    dtype: str
    width: int
    showers: int


def synchronise(device: str) -> None:
    """Wait for the device."""
    if device == "cuda":
        torch.cuda.synchronize()


def wall_ms(step: Callable[[], Any], device: str) -> float:
    """Return the milliseconds of a step, the median over groups of steps."""

    def timed(count: int) -> float:
        synchronise(device)
        start = time.perf_counter()
        for _ in range(count):
            step()
        synchronise(device)
        return (time.perf_counter() - start) / count

    count = max(1, min(20, int(0.1 / timed(1))))
    return statistics.median(timed(count) for _ in range(GROUPS)) * 1e3


def training_step(case: Case, stack: nn.Module, device: str, *, capturable: bool) -> Callable[[], Tensor]:
    """Return a function that takes one training step on the same inputs and returns the norm of the gradients."""
    # A captured step reads its learning rate from a tensor.
    rate = torch.tensor(1e-3, device=device) if capturable else 1e-3
    groups = optimizer_groups(stack, 0.01)
    optimizer = torch.optim.AdamW(groups, lr=rate, fused=device == "cuda", capturable=capturable)
    lengths = lengths_of(case.showers)
    offset = offset_of(lengths, device)
    generator = torch.Generator(device).manual_seed(1)
    x, y_grad = torch.randn(2, int(lengths.sum()), case.width, generator=generator, device=device).unbind()
    x = x.clone().requires_grad_()  # as behind an embedding
    parameters = list(stack.parameters())

    def step() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        x.grad = None
        with torch.autocast(device, torch.bfloat16, enabled=case.dtype == "bfloat16"):
            y = stack(x, offset)
        y.backward(y_grad)
        norm = nn.utils.clip_grad_norm_(parameters, CLIP)
        optimizer.step()
        return norm

    return step


def inference_step(case: Case, stack: nn.Module, device: str) -> Callable[[], Tensor]:
    """Return a function that runs the forward pass without gradients and returns its result."""
    lengths = lengths_of(case.showers)
    offset, x = offset_of(lengths, device), torch.randn(int(lengths.sum()), case.width, device=device)

    def step() -> Tensor:
        with torch.no_grad(), torch.autocast(device, torch.bfloat16, enabled=case.dtype == "bfloat16"):
            y: Tensor = stack(x, offset)
        return y

    return step


def warm(step: Callable[[], Any]) -> Callable[[], Any]:
    """Take a few steps, which compile kernels and allocate memory, and return the step."""
    for _ in range(3):
        step()
    return step


def captured(step: Callable[[], Tensor]) -> dict[str, Any]:
    """Capture a step in a CUDA graph as the training does, and time its replays."""
    replayed: CapturedStep[str, None] = CapturedStep(lambda _: step(), lambda _: None, device=torch.device("cuda"))
    replayed.inputs("all")
    replayed("all")  # the first call runs the step as usual, the second one captures it
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved()
    try:
        replayed("all")
    except RuntimeError as error:
        return {"error": str(error).splitlines()[0]}
    pool = torch.cuda.memory_reserved() - before
    return {"wall, ms": wall_ms(lambda: replayed("all"), "cuda"), "pool, MB": pool / 1e6}


def stack_of(case: Case, layers: int, device: str) -> nn.Module:
    """Build the stack of a case."""
    torch.manual_seed(0)
    return MambaStack(case.width, layers, **MODELS[case.model], device=device)


def time_case(case: Case, layers: int, device: str, *, graph: bool, inference: bool) -> dict[str, Any]:
    """Return the wall times and the peak memory of a case."""
    stack = stack_of(case, layers, device)
    step = warm(training_step(case, stack, device, capturable=False))
    results: dict[str, Any] = {"step": {"wall, ms": wall_ms(step, device)}}
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        step()
        synchronise(device)
        results["step"]["peak memory, MB"] = torch.cuda.max_memory_allocated() / 1e6
    if inference:
        results["inference"] = {"wall, ms": wall_ms(warm(inference_step(case, stack, device)), device)}
    if graph:
        results["graph"] = captured(training_step(case, stack, device, capturable=True))
    return results


def profile_case(case: Case, layers: int, results: dict[str, Any]) -> None:
    """Add the times of the kernels of a case to its results."""
    stack = stack_of(case, layers, "cuda")
    steps = {"step": training_step(case, stack, "cuda", capturable=False)}
    if "inference" in results:
        steps["inference"] = inference_step(case, stack, "cuda")
    for name, step in steps.items():
        kernels = kernels_of(warm(step))
        kinds: dict[str, float] = {}
        for kernel in kernels:
            kind = kind_of(kernel.name)
            kinds[kind] = kinds.get(kind, 0.0) + kernel.ms
        whole, needed = sum(kinds.values()), sum(kinds.get(kind, 0.0) for kind in ("products", *SCANS))
        results[name] |= {
            "kernels, ms": whole,
            "launches": round(sum(kernel.launches for kernel in kernels)),
            "products + scan, ms": needed,
            "wall / kernels": results[name]["wall, ms"] / whole,
            "kernels / (products + scan)": whole / needed,
            "kinds, ms": dict(sorted(kinds.items(), key=lambda item: -item[1])),
            "top": [kernel._asdict() for kernel in kernels[:TOP]],
        }
    if "wall, ms" in results.get("graph", {}):
        results["graph"]["wall / kernels"] = results["graph"]["wall, ms"] / results["step"]["kernels, ms"]


HEADER = [
    "pass", "model", "dtype", "width", "showers", "wall, ms", "kernels, ms", "launches", "products + scan, ms",
    "wall / kernels", "kernels / (products + scan)", "peak memory, MB", "graph, ms", "graph / kernels",
]  # fmt: skip


def print_case(case: Case, results: dict[str, Any], *, top: bool) -> None:
    """Print the rows of a case, and optionally its kernels with most time."""
    graph = results.get("graph", {})
    of_graph = [graph.get(name, "") for name in ("wall, ms", "wall / kernels")]
    for name in [name for name in ("step", "inference") if name in results]:
        figures = [results[name].get(column, "") for column in HEADER[5:12]]
        print_row([name, *case, *figures, *of_graph])
        of_graph = ["", ""]
        if top:
            for kernel in results[name]["top"]:
                kind, of = kind_of(kernel["name"]), kernel["name"].removeprefix("void ")
                note(f"    {kernel['ms']:8.3f} ms, {kernel['launches']:4.0f}  {kind}: {of[:100]}")
    if "error" in graph:
        note(f"    The step was not captured in a CUDA graph: {graph['error']}")


def print_row(cells: Iterable[Any]) -> None:
    """Print a row of the table."""
    note(f"| {' | '.join(f'{x:.4g}' if isinstance(x, float) else str(x) for x in cells)} |")


def main() -> None:
    """Run the benchmark and print the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--dtypes", nargs="+", choices=["float32", "bfloat16"], default=["float32", "bfloat16"])
    parser.add_argument("--widths", nargs="+", type=int, help="numbers of features per row")
    parser.add_argument("--showers", nargs="+", type=int, help="numbers of showers")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--graph", action="store_true", help="also time the step captured in a CUDA graph")
    parser.add_argument("--inference", action="store_true", help="also time the forward pass without gradients")
    parser.add_argument("--top", action="store_true", help="also print the ten kernels with most time")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    arguments = parser.parse_args()
    cuda = arguments.device == "cuda"
    if cuda and not torch.cuda.is_available():
        raise SystemExit("No CUDA device is available; --device cpu runs small cases and prints wall times only.")
    if not cuda and (arguments.graph or arguments.top):
        parser.error("--graph and --top need --device cuda")
    widths = arguments.widths or ([64, 128, 256, 512] if cuda else [32])
    showers = arguments.showers or ([64, 256, 512, 2048, 8192] if cuda else [4])
    if min(*widths, *showers, arguments.layers) < 1:
        parser.error("--widths, --showers and --layers must be at least 1")
    if "mamba2" in arguments.models and any(width % 32 for width in widths):
        parser.error("--widths of mamba2 must be multiples of 32, because its heads have 64 of 2 * width channels")
    cases = [Case(*case) for case in product(arguments.models, arguments.dtypes, widths, showers)]
    results: dict[Case, dict[str, Any]] = {}
    # After its first use the profiler slows all launches down, so the wall times of all cases come first.
    for case in cases:
        try:
            options = {"graph": arguments.graph, "inference": arguments.inference}
            results[case] = time_case(case, arguments.layers, arguments.device, **options)
            note(f"{', '.join(map(str, case))}: {results[case]['step']['wall, ms']:.4g} ms")
        except torch.OutOfMemoryError:
            note(f"{', '.join(map(str, case))}: out of memory")
        if cuda:
            torch.cuda.empty_cache()
    print_row(HEADER)
    print_row(["---"] * len(HEADER))
    for case, of_case in results.items():
        if cuda:
            profile_case(case, arguments.layers, of_case)
            torch.cuda.empty_cache()
        print_case(case, of_case, top=arguments.top)
    named = {", ".join(map(str, case)): of_case for case, of_case in results.items()}
    give((gpu_facts() if cuda else torch_facts()) | {"layers": arguments.layers, "results": named}, arguments.json)


if __name__ == "__main__":
    main()
