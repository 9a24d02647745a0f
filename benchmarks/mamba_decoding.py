"""Time steps of generation on a GPU: single inputs, and several inputs of speculative decoding at once.

    python benchmarks/mamba_decoding.py [--rows 4096] [--inputs 4] [--states 64] [--length 16]
        [--dtype float32 bfloat16] [--json results.json]

Mamba-1 has 512 channels with 16 states; Mamba-2 has 8 heads of 64 channels. Each time is compared with the time of its
memory traffic at the measured bandwidth of a copy: states are read and written once, inputs are read and outputs are
written; a replay also reads the accepted inputs and writes the cache. With a buffer of inputs, the sequences have
different numbers of buffered inputs, and the count is an average over the calls between two writes of a state. The
times are those of single calls with a cold cache, and those in a captured CUDA graph, without the overhead of the host.
All results are first checked against the naive steps.
"""

import argparse
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from copying import copied_bytes_per_second
from measuring import give, gpu_facts
from torch import Tensor

from supa.checks import counted
from supa_mamba import (
    InputBuffer,
    ReplayCache,
    buffered_state_update,
    causal_conv1d_replay,
    causal_conv1d_update,
    selective_state_replay,
    selective_state_update,
)
from supa_mamba.ops.buffered_state_update.naive import naive_buffered_state_update
from supa_mamba.ops.causal_conv1d_update.naive import naive_causal_conv1d_replay, naive_causal_conv1d_update
from supa_mamba.ops.selective_state_update.naive import naive_selective_state_replay, naive_selective_state_update

ALONG = ("x", "dt", "B", "C")
BOUNDS = {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 1e-2}
CHANNELS, WIDTH = 512, 4


@dataclass
class Case:
    """An operation with its arguments.

    Args:
        run: The operation.
        naive: The naive operation, which returns y and the new tables.
        changed: Tables that are modified in place, by name.
        given: The other tensors, by name.
        options: Arguments that are not tensors.
    """

    run: Callable[..., Tensor]
    naive: Callable[..., tuple[Any, ...]]
    changed: dict[str, Any]
    given: dict[str, Tensor]
    options: dict[str, Any]

    def __call__(self) -> Tensor:
        """Take the step once."""
        return self.run(**self.changed, **self.given, **self.options)


def tensors_of(tables: Iterable[Any]) -> list[Tensor]:
    """Return the tensors of tables and caches."""
    return [x for table in tables for x in ([table] if isinstance(table, Tensor) else vars(table).values())]


def cases(
    rows: int, inputs: int, dtype: torch.dtype, device: str, *, states: int = 64, length: int = 16
) -> dict[str, Case]:
    """Draw the arguments of all operations as in a model, with parameters and states in float32.

    Args:
        rows: Number of sequences.
        inputs: Number of inputs of a replay.
        dtype: Dtype of the inputs.
        device: Device of all tensors.
        states: Number of states per channel of Mamba-2.
        length: Number of inputs in a buffer.
    """
    generator = torch.Generator(device).manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, device=device)

    def cast(given: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: x.to(dtype) if name in ALONG else x for name, x in given.items()}

    accepted = torch.randint(inputs + 1, (rows,), generator=generator, device=device)
    places = torch.randperm(rows, generator=generator, device=device)
    of_scan, of_conv = {"state_batch_indices": places}, {"conv_state_indices": places}
    taken = {"accepted": accepted}
    forms = {
        "Mamba-1, 512 channels, 16 states": ((CHANNELS,), (CHANNELS,), (16,), -torch.rand(CHANNELS, 16, device=device)),
        f"Mamba-2, 8 heads of 64, {states} states": ((8, 64), (8,), (1, states), -torch.rand(8, device=device)),
    }
    made = {}
    for form, (channels, heads, of_group, A) in forms.items():
        for steps in (1, inputs):
            lead = (rows,) if steps == 1 else (rows, steps)
            drawn: dict[str, Tensor] = {
                "x": normal(*lead, *channels),
                "dt": normal(*lead, *heads) - 2,
                "A": A,
                "B": normal(*lead, *of_group),
                "C": normal(*lead, *of_group),
                "D": normal(*heads),
                "dt_bias": normal(*heads) / 10,
            }
            gate = {"z": normal(*lead, *channels).to(dtype)} if len(channels) == 1 else {}
            options = {"dt_softplus": True}
            state = normal(rows, *channels, of_group[-1])
            if steps == 1:
                made[f"{form}, update"] = Case(
                    selective_state_update, naive_selective_state_update, {"state": state},
                    cast(drawn) | gate | of_scan, options,
                )  # fmt: skip
            else:
                shapes = (channels, heads, of_group)
                cache = ReplayCache(*(normal(rows, inputs, *shape).to(dtype) for shape in shapes))
                made[f"{form}, replay of {inputs}"] = Case(
                    selective_state_replay,
                    naive_selective_state_replay,
                    {"state": state, "cache": cache},
                    cast(drawn) | gate | of_scan | taken,
                    options,
                )
            if len(channels) == 2:
                shapes = (channels, heads, of_group)
                table = (normal(rows, length, *shape).to(dtype) for shape in shapes)
                held = steps * torch.randint(1, length // steps + 1, (rows,), generator=generator, device=device)
                along = {name: x if steps > 1 else x[:, None] for name, x in cast(drawn).items() if name in ALONG}
                made[f"{form}, buffer of {length}, {counted(steps, 'input')}"] = Case(
                    buffered_state_update, naive_buffered_state_update,
                    {"state": state.clone(), "buffer": InputBuffer(*table, held)},
                    drawn | along | of_scan, options,
                )  # fmt: skip
    window, silu = normal(rows, CHANNELS, WIDTH - 1), {"activation": "silu"}
    parameters: dict[str, Tensor] = {"weight": normal(CHANNELS, WIDTH), "bias": normal(CHANNELS)}
    x = normal(rows, inputs, CHANNELS).to(dtype)
    given = {"x": x[:, 0].contiguous()} | parameters | of_conv
    made["convolution, update"] = Case(
        causal_conv1d_update, naive_causal_conv1d_update, {"conv_state": window}, given, silu
    )
    made["convolution, circular buffer"] = Case(
        causal_conv1d_update, naive_causal_conv1d_update, {"conv_state": window.clone()},
        given | {"cache_seqlens": places}, silu,
    )  # fmt: skip
    made[f"convolution, replay of {inputs}"] = Case(
        causal_conv1d_replay, naive_causal_conv1d_replay, {"conv_state": window.clone(), "cache": x.flip(1)},
        {"x": x} | parameters | of_conv | taken, silu,
    )  # fmt: skip
    return made


def distance_from_naive(case: Case) -> float:
    """Return the largest relative RMS error of y and of the tables, compared with the naive results."""

    def double(x: Any) -> Any:
        if isinstance(x, Tensor):
            return x.cpu().double() if x.is_floating_point() else x.cpu().clone()
        return type(x)(*(double(v) for v in vars(x).values()))

    given = {name: double(x) for name, x in case.given.items()}
    changed = {name: double(x) for name, x in case.changed.items()}
    truth = case.naive(**changed, **given, **case.options)
    found = [case(), *case.changed.values()]
    return max(
        ((a.double().cpu() - b).square().mean() / b.double().square().mean()).sqrt().item()
        for a, b in zip(tensors_of(found), tensors_of(truth), strict=True)
    )


def bytes_of(case: Case) -> float:
    """Count the bytes that one call must move. y has as many bytes as x."""
    state, *cached = tensors_of(case.changed.values())
    buffer = case.changed.get("buffer")
    if isinstance(buffer, InputBuffer):
        inputs, length = case.given["x"].shape[1], buffer.x.shape[1]
        calls = length // inputs  # between two writes of a state
        touched = (inputs * (calls + 1) / 2 + inputs) / length  # buffered inputs that are read, and written
        given = sum(x.nbytes for x in case.given.values()) + case.given["x"].nbytes
        return state.nbytes * (1 + 1 / calls) + given + touched * sum(x.nbytes for x in cached[:-1])
    moved = 2.0 * state.nbytes + case.given["x"].nbytes + sum(x.nbytes for x in case.given.values())
    if cached:
        read = case.given["accepted"].double().mean().item() / case.given["x"].shape[1]
        moved += (1 + read) * sum(x.nbytes for x in cached)
    return moved


def time_on_gpu(given: argparse.Namespace, dtype: torch.dtype, copied: float) -> dict[str, Any]:
    """Check all operations against the naive ones on a few rows, and time them."""
    import triton

    sizes = {"states": given.states, "length": given.length}
    errors = {name: distance_from_naive(case) for name, case in cases(7, given.inputs, dtype, "cuda", **sizes).items()}
    for name, error in errors.items():
        if not error <= BOUNDS[dtype]:
            raise SystemExit(f"{name}: error of {error:.1e}; not timed.")
    results = {}
    for name, case in cases(given.rows, given.inputs, dtype, "cuda", **sizes).items():
        floor = bytes_of(case) / copied * 1e3
        single = triton.testing.do_bench(case, warmup=50, rep=300, return_mode="median")
        captured = triton.testing.do_bench_cudagraph(case, rep=300, return_mode="median")
        results[name] = {
            "bytes, MB": bytes_of(case) / 1e6,
            "bytes, ms": floor,
            "single call, ms": single,
            "in a CUDA graph, ms": captured,
            "single call over bytes": single / floor,
            "in a CUDA graph over bytes": captured / floor,
            "distance from the naive one": errors[name],
        }
    return results


def main() -> None:
    """Run the benchmark and print the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=4096, help="number of showers that are generated together")
    parser.add_argument("--inputs", type=int, default=4, help="number of inputs of a replay, at least 2")
    parser.add_argument("--states", type=int, default=64, help="number of states per channel of Mamba-2")
    parser.add_argument("--length", type=int, default=16, help="number of inputs in a buffer")
    parser.add_argument("--dtype", nargs="+", default=["float32"], choices=["float16", "bfloat16", "float32"])
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    arguments = parser.parse_args()
    if arguments.inputs < 2 or arguments.rows < 1:
        parser.error("--inputs must be at least 2, and --rows at least 1")
    if arguments.length < arguments.inputs:
        parser.error("--length must be at least --inputs")
    if not torch.cuda.is_available():
        raise SystemExit("No CUDA device is available, but this benchmark requires one.")
    copied = copied_bytes_per_second()
    results: dict[str, Any] = gpu_facts() | {
        "copy, TB/s": copied / 1e12,
        "rows": arguments.rows,
    }
    results["results"] = {name: time_on_gpu(arguments, getattr(torch, name), copied) for name in arguments.dtype}
    give(results, arguments.json)


if __name__ == "__main__":
    main()
