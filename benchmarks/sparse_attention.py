"""Time sparse attention on whole events, beside PyTorch's attention and FlexAttention.

    python benchmarks/sparse_attention.py [--hits 4096 8192 16384 32768 65536] [--buckets 16] [--heads 8]
                                          [--head-size 64] [--dtype bfloat16] [--bandwidth 4.8] [--peak 989]
                                          [--device cuda] [--json results.json]

One sequence of hits, with random buckets of equal size, is processed forward, and forward and backward, by

- sparse: ``supa_mamba.sparse_attention``, with the sort of the rows by bucket;
- order: the sort and the ranges alone, a part of the former;
- sdpa: PyTorch's ``scaled_dot_product_attention``, dense and causal;
- flex dense: FlexAttention with a causal block mask, which is made in advance;
- flex sorted: FlexAttention over rows that are sorted by bucket, with a block mask of equal buckets and the original
  order. Sort, copies of the rows and mask are made in advance;
- flex whole: the same with sort, copies and mask.

All but the dense ones compute the same numbers, which the script checks. It prints a row for each case: the wall time,
the median over groups of calls with a synchronisation at both ends; on a GPU also the sum of the times of all kernels;
and the ratio to the kernels of sparse (on a CPU, to its wall time). Floors follow from the bandwidth in TB/s and the
peak of matrix products in TFLOP/s (defaults: H200 SXM, bfloat16): q, k, v and y are moved once (and y, the gradients of
y, q, k and v once more backward), and the pairs that attend each other take 4 D operations forward and 10 D backward.
A last line names the number of hits from which sparse is faster than the dense ones.

Without a GPU, ``--device cpu --hits 256`` runs all ways in eager mode and prints wall times;
FlexAttention has no backward pass there.
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from kernel_times import kernels_of
from measuring import give, gpu_facts, note, torch_facts
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention
from torch.nn.functional import scaled_dot_product_attention

from supa_mamba import sparse_attention
from supa_mamba.ops.sparse_attention.operator import run_order

GROUPS, BLOCK = 7, 128
DENSE = ("sdpa", "flex dense")


class Way(NamedTuple):
    """A way to attend.

    Args:
        attend: Function of queries, keys and values.
        vectors: Queries, keys and values.
        y_grad: Gradient of the result.
    """

    attend: Callable[..., Tensor]
    vectors: list[Tensor]
    y_grad: Tensor

    def run(self, *, backward: bool) -> None:
        """Attend, forward only or also backward."""
        if backward:
            torch.autograd.grad(self.attend(*self.vectors), self.vectors, self.y_grad)
            return
        with torch.no_grad():
            self.attend(*(x.detach() for x in self.vectors))


class Event:
    """One sequence of hits with buckets, and every way to attend.

    Args:
        hits: Number of hits.
        heads: Number of heads.
        size: Number of features of a head.
        buckets: Number of buckets.
        dtype: Dtype of queries, keys and values.
        device: ``"cuda"`` or ``"cpu"``.
    """

    def __init__(self, hits: int, heads: int, size: int, buckets: int, dtype: torch.dtype, device: str) -> None:
        generator = torch.Generator().manual_seed(hits)
        vectors = torch.randn(3, hits, heads, size, generator=generator).to(device, dtype)
        self.vectors = [x.clone().requires_grad_() for x in vectors]
        self.y_grad = torch.randn(hits, heads, size, generator=generator).to(device, dtype)
        drawn = torch.rand(heads, hits, generator=generator).argsort(1) % buckets
        self.buckets = drawn.T.contiguous().to(device, torch.int16)
        self.offset = torch.tensor([0, hits], device=device)
        self.compiled = device == "cuda"
        self.flex: Any = torch.compile(flex_attention, dynamic=False) if self.compiled else flex_attention

    def pairs(self) -> int:
        """Return the number of pairs that attend each other, in all heads."""
        _, ranges = run_order(self.buckets, None, self.offset)
        return int((ranges[0, 1] - ranges[0, 0]).sum())

    def sorted_by_bucket(self) -> tuple[Tensor, Tensor]:
        """Return the (heads, hits) rows of the sorted hits, and their buckets."""
        found, rows = self.buckets.T.sort(dim=1, stable=True)
        return rows, found

    def dense_mask(self) -> BlockMask:
        """Return the block mask of causal attention."""
        count = -(-self.buckets.shape[0] // BLOCK)
        block = torch.arange(count, device=self.buckets.device)
        mixed = (block[:, None] == block)[None, None]
        full = (block[:, None] > block)[None, None]
        return block_mask(mixed, full, lambda _b, _h, q, k: q >= k, self.buckets.shape[0])

    def sorted_mask(self, rows: Tensor, found: Tensor) -> BlockMask:
        """Return the block mask of equal buckets and the original order, over sorted hits."""

        def ends(x: Tensor) -> tuple[Tensor, Tensor]:
            blocks = torch.nn.functional.pad(x[None], (0, -x.shape[1] % BLOCK), mode="replicate")[0].unflatten(
                1, (-1, BLOCK)
            )
            return blocks.amin(2), blocks.amax(2)

        (first, last), (earliest, latest) = ends(found.int()), ends(rows.int())
        together = (last[:, :, None] >= first[:, None]) & (first[:, :, None] <= last[:, None])
        single = (first[:, :, None] == last[:, :, None]) & (first[:, None] == last[:, None]) & together
        later = latest[:, :, None] >= earliest[:, None]
        full = single & (earliest[:, :, None] >= latest[:, None])
        mixed = together & (later | ~single) & ~full

        def seen(_b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
            return (found[h, q] == found[h, k]) & (rows[h, q] >= rows[h, k])

        return block_mask(mixed[None], full[None], seen, rows.shape[1])

    def ways(self) -> dict[str, Way]:
        """Return the ways to attend."""
        rows, found = self.sorted_by_bucket()
        dense, in_buckets = self.dense_mask(), self.sorted_mask(rows, found)
        packed = self.vectors, self.y_grad
        sorted_ = [in_order(x, rows).detach().requires_grad_() for x in self.vectors], in_order(self.y_grad, rows)
        return {
            "sparse": Way(lambda q, k, v: sparse_attention(q, k, v, self.buckets, offset=self.offset), *packed),
            "sdpa": Way(
                lambda *x: scaled_dot_product_attention(*map(by_head, x), is_causal=True)[0].transpose(0, 1), *packed
            ),
            "flex dense": Way(lambda *x: self.flex(*map(by_head, x), block_mask=dense)[0].transpose(0, 1), *packed),
            "flex sorted": Way(lambda *x: self.flex(*x, block_mask=in_buckets), *sorted_),
            "flex whole": Way(self.sort_and_attend, *packed),
        }

    def sort_and_attend(self, *vectors: Tensor) -> Tensor:
        """Attend with FlexAttention over sorted hits, and return the results in the original order."""
        rows, found = self.sorted_by_bucket()
        given = (in_order(x, rows) for x in vectors)
        y = self.flex(*given, block_mask=self.sorted_mask(rows, found))[0]
        return torch.empty_like(y).scatter(1, rows[..., None].expand_as(y), y).transpose(0, 1)


def by_head(x: Tensor) -> Tensor:
    """Return (hits, heads, size) vectors as a batch, (1, heads, hits, size)."""
    return x.transpose(0, 1)[None]


def in_order(x: Tensor, rows: Tensor) -> Tensor:
    """Return (hits, heads, size) vectors in the order of the (heads, hits) rows, (1, heads, hits, size)."""
    of_head = x.transpose(0, 1)
    return of_head.gather(1, rows[..., None].expand_as(of_head))[None]


def block_mask(mixed: Tensor, full: Tensor, seen: Any, hits: int) -> BlockMask:
    """Return a block mask, given which blocks have some pairs, and which have all."""

    def listed(blocks: Tensor) -> tuple[Tensor, Tensor]:
        order = blocks.int().argsort(dim=-1, descending=True, stable=True)
        return blocks.sum(-1, dtype=torch.int32), order.to(torch.int32)

    sizes: dict[str, Any] = {"BLOCK_SIZE": BLOCK, "seq_lengths": (hits, hits)}
    return BlockMask.from_kv_blocks(*listed(mixed), *listed(full), mask_mod=seen, **sizes)


def wall_ms(step: Callable[[], Any], device: str) -> float:
    """Return the milliseconds of a call, the median over groups of calls."""

    def timed(count: int) -> float:
        start = time.perf_counter()
        for _ in range(count):
            step()
        if device == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - start) / count

    timed(3 if device == "cuda" else 1)
    count = max(1, min(50, int(0.1 / timed(1))))
    return statistics.median(timed(count) for _ in range(GROUPS)) * 1e3


def measure(name: str, step: Callable[[], Any], device: str) -> dict[str, Any]:
    """Return the times of a call, or why there are none, such as a lack of memory or of a compiler."""
    try:
        found: dict[str, Any] = {"wall_ms": wall_ms(step, device)}
        if device == "cuda":
            found["kernels_ms"] = sum(kernel.ms for kernel in kernels_of(step))
    except Exception as error:  # one way that fails must not lose the others
        note(f"{name}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
        return {"error": f"{type(error).__name__}: {error}"[:300]}
    return found


def check(event: Event, ways: dict[str, Way]) -> float:
    """Return the largest difference between sparse and FlexAttention, relative to the largest value."""
    with torch.no_grad():
        mine, other = (ways[name].attend(*event.vectors).float() for name in ("sparse", "flex whole"))
    difference = float((mine - other).abs().max() / other.abs().max())
    if not difference < 0.05:
        raise SystemExit(f"sparse and FlexAttention differ by {difference:.2g}")
    return difference


def run_case(hits: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure all ways for a number of hits."""
    dtype, device = getattr(torch, arguments.dtype), arguments.device
    event = Event(hits, arguments.heads, arguments.head_size, arguments.buckets, dtype, device)
    ways = event.ways()
    try:
        difference: float | None = check(event, ways)
    except RuntimeError as error:  # FlexAttention may not compile on this machine
        note(f"not compared with FlexAttention: {str(error).splitlines()[0]}")
        difference = None
    moved = hits * arguments.heads * arguments.head_size * dtype.itemsize
    products = event.pairs() * arguments.head_size
    found: dict[str, Any] = {"hits": hits, "pairs": event.pairs(), "difference": difference, "passes": {}}
    for name, tensors, operations in (("forward", 4, 4), ("forward and backward", 12, 14)):
        times: dict[str, Any] = {}
        for way, given in ways.items():
            if device == "cpu" and operations > 4 and way.startswith("flex"):
                continue  # FlexAttention has no backward pass on a CPU
            step = partial(given.run, backward=operations > 4)
            times[way] = measure(f"{way}, {name}, {hits} hits", step, device)
        times["order"] = measure("order", lambda: run_order(event.buckets, None, event.offset), device)
        floors = {
            "bytes_ms": tensors * moved / (arguments.bandwidth * 1e12) * 1e3,
            "operations_ms": operations * products / (arguments.peak * 1e12) * 1e3,
        }
        found["passes"][name] = {"times": times, "floors": floors}
        print_rows(hits, name, times, floors, device)
    return found


def print_rows(hits: int, name: str, times: dict[str, Any], floors: dict[str, float], device: str) -> None:
    """Print a row of the table for each way."""
    key = "kernels_ms" if device == "cuda" else "wall_ms"
    mine = times["sparse"].get(key)
    for way, of_way in times.items():
        if "error" in of_way:
            note(f"| {hits} | {name} | {way} | failed | | |")
            continue
        kernels = f"{of_way['kernels_ms']:.3f}" if "kernels_ms" in of_way else ""
        ratio = f"{of_way[key] / mine:.2f}" if mine else ""
        note(f"| {hits} | {name} | {way} | {of_way['wall_ms']:.3f} | {kernels} | {ratio} |")
    note(f"| {hits} | {name} | floor | bytes {floors['bytes_ms']:.3f}, products {floors['operations_ms']:.3f} | | |")


def crossings(cases: list[dict[str, Any]], key: str) -> dict[str, Any]:
    """Return, for each pass and each dense way, from how many hits on sparse is faster; None for never."""
    found: dict[str, Any] = {}
    for name in cases[0]["passes"]:
        for way in DENSE:
            least = None
            for case in sorted(cases, key=lambda case: -case["hits"]):
                times = case["passes"][name]["times"]
                if not times["sparse"].get(key, float("inf")) < times.get(way, {}).get(key, 0.0):
                    break
                least = case["hits"]
            found[f"{name}, {way}"] = least
    return found


def main() -> None:
    """Measure all cases and print the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--hits", nargs="+", type=int, default=[4096, 8192, 16384, 32768, 65536])
    parser.add_argument("--buckets", type=int, default=16)
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--head-size", type=int, default=64)
    parser.add_argument("--dtype", choices=["bfloat16", "float16", "float32"], default="bfloat16")
    parser.add_argument("--bandwidth", type=float, default=4.8, help="bandwidth of the memory in TB/s")
    parser.add_argument("--peak", type=float, default=989.0, help="peak of matrix products in TFLOP/s")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no GPU; --device cpu --hits 256 runs small cases")
    if min(arguments.hits) < 1 or arguments.buckets < 1:
        parser.error("--hits and --buckets must be at least 1")
    warnings.filterwarnings("ignore", message=".*flex_attention called without torch.compile.*")
    torch._dynamo.config.cache_size_limit = 64  # each number of hits is a compilation of its own
    note("| hits | pass | way | wall, ms | kernels, ms | ratio to sparse |")
    note("|---|---|---|---|---|---|")
    cases = [run_case(hits, arguments) for hits in arguments.hits]
    crossing = crossings(cases, "kernels_ms" if arguments.device == "cuda" else "wall_ms")
    for name, least in crossing.items():
        note(f"sparse is faster from {least} hits on: {name}" if least else f"sparse is never faster: {name}")
    facts = gpu_facts() if arguments.device == "cuda" else torch_facts()
    chosen = {name: value for name, value in vars(arguments).items() if name != "json"}
    give(facts | {"arguments": chosen, "crossing": crossing, "cases": cases}, arguments.json)


if __name__ == "__main__":
    main()
