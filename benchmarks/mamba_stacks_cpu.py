"""Time stacks and steps on a CPU, beside their matrix products and one pass over their states.

    python benchmarks/mamba_stacks_cpu.py [--models mamba2] [--threads 1 2] [--widths 64] [--showers 64]
                                          [--rows 1 16 256] [--profile] [--json results.json]

For each stack of two layers over ragged showers, the script prints the time of the forward pass without gradients, and
of forward and backward pass: CPU time on one thread, which other work on the machine changes little, and wall time on
several. Beside them stand two parts that every implementation needs:

- products: the same matrix products on the same numbers of rows, called alone;
- pass: a compiled loop that reads, updates and writes each state of each row once, h = decay * h + change * enter, with
  the exponential of Mamba-1, where each state has a decay rate of its own. Forward needs one pass; forward and backward
  need three, because the backward pass computes the states again, and then their gradients.

The last column is the time of the stack over the sum of both. A step of generation is compared in the same way: its
products, and one pass over the states of its rows. Times of one repetition are taken in turns, and all numbers are
medians. The lengths are those of complete showers.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from mamba_modules import MODELS
from measuring import give, note, torch_facts
from torch import Tensor, nn
from torch.nn import functional

from mamba import lengths_of, offset_of
from supa.arrays import Array
from supa.compiler import fast_kernel
from supa_mamba import MambaStack
from supa_mamba.ops.compiled import run_parts
from supa_mamba.ops.compiled_math import exponential

LAYERS = 2


class Parts(NamedTuple):
    """What every implementation of a stack must do.

    Args:
        products: Weight, bias and input of each matrix product.
        states: Number of rows of states in each pass, channels, and states per channel.
        exponentials: Whether each state has a decay rate of its own.
    """

    products: list[tuple[Tensor, Tensor | None, Tensor]]
    states: tuple[int, int, int]
    exponentials: bool


@fast_kernel
def pass_over_states(rows: int, change: Any, enter: Any, decay: Any, rates: Any, h: Any) -> None:
    """Update each state of some rows once: h = decay * h + change * enter.

    Args:
        rows: Number of rows.
        change: (D,) changes.
        enter: (N,) input matrix.
        decay: (D,) decays, or step sizes if there are rates.
        rates: (N, D) decay rates, or (0, D) if all states of a channel have the same decay.
        h: (rows or 1, N, D) states, which are written.
    """
    states, channels = h.shape[1:]
    for t in range(rows):
        of_row = h[t % len(h)]
        for n in range(states):
            h_n, b = of_row[n], enter[n]
            if len(rates) > 0:
                rates_n = rates[n]
                for d in range(channels):
                    h_n[d] = exponential(decay[d] * rates_n[d]) * h_n[d] + change[d] * b
            else:
                for d in range(channels):
                    h_n[d] = decay[d] * h_n[d] + change[d] * b


def pass_of(parts: Parts, offset: Array, passes: int, *, tables: int) -> Callable[[], None]:
    """Return a function that runs all passes, in as many threads as PyTorch uses.

    Args:
        parts: Parts of a stack.
        offset: (S + 1,) int64 offsets of the sequences.
        passes: Number of passes of each layer.
        tables: Number of rows of states in memory: 1 for sequences, whose states stay in the cache.

    Returns:
        The function.
    """
    _, channels, states = parts.states
    change, enter, decay = (np.full(n, 0.5, np.float32) for n in (channels, states, channels))
    rates = np.full((states if parts.exponentials else 0, channels), -0.5, np.float32)
    held = np.zeros((tables, states, channels), np.float32)

    def one(_part: int, first: int, last: int) -> None:
        h = held[first:last] if tables > 1 else np.zeros_like(held)
        pass_over_states(int(offset[last] - offset[first]), change, enter, decay, rates, h)

    def run() -> None:
        for _ in range(passes):
            run_parts(one, offset, channels * states)

    return run


def parts_of(model: str, stack: MambaStack, rows: int) -> Parts:
    """Return the products and the states of a stack or a step. Each projection processes each row once."""
    products = [
        (layer.weight, layer.bias, torch.randn(rows, layer.in_features))
        for layer in stack.modules()
        if isinstance(layer, nn.Linear)
    ]
    return Parts(products, (rows, 2 * stack.d_model, MODELS[model].get("d_state", 16)), model != "mamba2")


def run_products(parts: Parts, *, backward: bool) -> None:
    """Compute all matrix products, and their gradients if requested."""
    if not backward:
        with torch.no_grad():
            for weight, bias, x in parts.products:
                functional.linear(x, weight, bias)
        return
    for weight, bias, x in parts.products:
        y = functional.linear(x.requires_grad_(), weight, bias)
        torch.autograd.grad(y, [v for v in (x, weight, bias) if v is not None], torch.empty_like(y))


def medians(runs: dict[str, Callable[[], Any]], repeat: int) -> dict[str, float]:
    """Run functions in turns, and return the median of the milliseconds of each.

    Args:
        runs: Functions by name.
        repeat: Number of repetitions; one more warms up.

    Returns:
        Milliseconds by name.
    """
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    times: dict[str, list[float]] = {name: [] for name in runs}
    for name, run in runs.items():
        run()
        start = clock()
        run()
        # Functions of less than 20 ms are repeated, so that the clock does not matter.
        count = max(1, min(200, int(0.02 / (clock() - start))))
        runs[name] = lambda run=run, count=count: [run() for _ in range(count)] and count
    for _ in range(repeat):
        for name, run in runs.items():
            start = clock()
            count = run()
            times[name].append((clock() - start) / count * 1e3)
    return {name: statistics.median(of_run) for name, of_run in times.items()}


def with_ratio(times: dict[str, float], whole: str = "stack") -> dict[str, float]:
    """Return times in milliseconds, and the ratio of the whole to the sum of its parts."""
    return {f"{name}, ms": ms for name, ms in times.items()} | {
        "ratio": times[whole] / (times["products"] + times["pass"])
    }


def time_stack(model: str, width: int, showers: int, repeat: int) -> dict[str, dict[str, float]]:
    """Time forward pass, and forward and backward pass, of a stack."""
    torch.manual_seed(0)
    stack = MambaStack(width, LAYERS, **MODELS[model])
    lengths = lengths_of(showers)
    offset, rows = offset_of(lengths, "cpu"), int(lengths.sum())
    x = torch.randn(rows, width, requires_grad=True)
    y_grad, wanted = torch.randn(rows, width), [x, *stack.parameters()]
    parts = parts_of(model, stack, rows)
    directions = 2 if model == "bimamba" else 1

    def forward() -> None:
        with torch.no_grad():
            stack(x, offset)

    results = {}
    for name, run, passes in (
        ("forward", forward, 1),
        ("both ways", lambda: torch.autograd.grad(stack(x, offset), wanted, y_grad), 3),
    ):
        both = name != "forward"
        runs = {
            "stack": run,
            "products": lambda both=both: run_products(parts, backward=both),
            "pass": pass_of(parts, offset.numpy(), passes * directions * LAYERS, tables=1),
        }
        results[name] = with_ratio(medians(runs, repeat))
    return results


def time_step(model: str, width: int, rows: int, repeat: int) -> dict[str, float]:
    """Time a step of generation."""
    torch.manual_seed(0)
    stack = MambaStack(width, LAYERS, **MODELS[model])
    state, x = stack.init_state(rows), torch.randn(rows, width)
    parts = parts_of(model, stack, rows)
    runs = {
        "stack": lambda: stack.step(x, state),
        "products": lambda: run_products(parts, backward=False),
        "pass": pass_of(parts, np.arange(rows + 1), LAYERS, tables=rows),
    }
    return with_ratio(medians(runs, repeat))


def profile(model: str, width: int, showers: int, rows: list[int]) -> None:
    """Print the operations of PyTorch with most time, of a stack and of its steps."""
    stack = MambaStack(width, LAYERS, **MODELS[model])
    lengths = lengths_of(showers)
    offset, x = offset_of(lengths, "cpu"), torch.randn(int(lengths.sum()), width, requires_grad=True)
    wanted = [x, *stack.parameters()]
    runs: dict[str, Callable[[], Any]] = {"both ways": lambda: torch.autograd.grad(stack(x, offset).sum(), wanted)}
    if model != "bimamba":
        for count in rows:
            state, of_step = stack.init_state(count), torch.randn(count, width)
            runs[f"step of {count}"] = lambda state=state, of_step=of_step: stack.step(of_step, state)
    for name, run in runs.items():
        run()
        with torch.profiler.profile() as found:
            for _ in range(5):
                run()
        note(f"{model}, {width}, {name}, 5 times\n{found.key_averages().table('self_cpu_time_total', row_limit=15)}")


def main() -> None:
    """Run the benchmark and print the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--widths", nargs="+", type=int, default=[64, 256], help="numbers of features per row")
    parser.add_argument("--showers", nargs="+", type=int, default=[64], help="numbers of showers")
    parser.add_argument("--rows", nargs="+", type=int, default=[1, 16, 256], help="rows of a step")
    parser.add_argument("--repeat", type=int, default=7, help="number of repetitions")
    parser.add_argument("--profile", action="store_true", help="print the operations with most time instead")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    arguments = parser.parse_args()
    counts = (*arguments.threads, *arguments.widths, *arguments.showers, *arguments.rows, arguments.repeat)
    if min(counts) < 1:
        parser.error("all numbers must be at least 1")
    if "mamba2" in arguments.models and any(width % 32 for width in arguments.widths):
        parser.error("--widths of mamba2 must be multiples of 32, because its heads have 64 of 2 * width channels")
    results = {}
    for threads, model, width in product(arguments.threads, arguments.models, arguments.widths):
        torch.set_num_threads(threads)
        case = f"{model}, {width}, {threads}"
        if arguments.profile:
            profile(model, width, arguments.showers[0], arguments.rows)
            continue
        for showers in arguments.showers:
            for name, found in time_stack(model, width, showers, arguments.repeat).items():
                results[f"{case}, {showers} showers, {name}"] = found
        if model != "bimamba":
            for rows in arguments.rows:
                results[f"{case}, step of {rows}"] = time_step(model, width, rows, arguments.repeat)
        for name, found in results.items():
            if name.startswith(case):
                note(f"| {name} | {' | '.join(f'{x:.3g}' for x in found.values())} |")
    if not arguments.profile:
        give(torch_facts() | {"layers": LAYERS, "results": results}, arguments.json)


if __name__ == "__main__":
    main()
