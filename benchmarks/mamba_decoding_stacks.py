"""Time steps of whole stacks for generation, in a CUDA graph and without one.

    python benchmarks/mamba_decoding_stacks.py [--rows 256 4096 16384] [--states 64] [--length 16]
        [--dtype float32] [--json results.json]

The stacks have four layers of width 256 with 512 inner channels: Mamba with 16 states, Mamba-2 with 8 heads, and
Mamba-2 with a buffer of inputs. Each step processes one row of all sequences, whose slots are in random order. The wall
time per step is compared with the time of the bytes at the measured bandwidth of a copy: each kernel reads its inputs
once and writes its results once.
``--dtype`` is the dtype of the parameters and rows; states are float32.
"""

import argparse
from pathlib import Path
from typing import Any, cast

import torch
from copying import copied_bytes_per_second
from mamba_modules import wall_ms
from measuring import give, gpu_facts, note
from torch import Tensor

from supa_learning import CapturedStep
from supa_mamba import BufferedMambaState, Mamba2, MambaStack

D_MODEL, LAYERS = 256, 4


def state_bytes(state: Any) -> float:
    """Count the bytes of the states of a layer that a step reads and writes, on average."""
    moved = 2.0 * state.conv.nbytes
    if not isinstance(state, BufferedMambaState):
        return moved + 2 * state.ssm.nbytes
    buffer = state.buffer
    length = buffer.x.shape[1]
    touched = ((length + 1) / 2 + 1) / length
    return (
        moved + state.ssm.nbytes * (1 + 1 / length) + touched * sum(v.nbytes for v in (buffer.x, buffer.dt, buffer.B))
    )


def row_values(mixer: Any) -> int:
    """Count the values of a row that the kernels of a layer read and write, except those of the states."""
    inner, width = mixer.d_inner, mixer.conv1d.in_channels
    projections = D_MODEL + mixer.in_proj.out_features + inner + D_MODEL
    if isinstance(mixer, Mamba2):
        recurrence, norm = width + mixer.nheads + inner, 3 * inner
        return 4 * D_MODEL + projections + 2 * width + recurrence + norm
    small, rank = mixer.x_proj.out_features, mixer.dt_proj.in_features
    return 4 * D_MODEL + projections + 2 * width + inner + small + rank + inner + 4 * inner + small - rank


def bytes_of(stack: MambaStack, state: tuple[Any, ...], rows: int) -> float:
    """Count the bytes that one step must move."""
    weights = sum(p.nbytes for p in stack.parameters())
    size = stack.norm_f.weight.itemsize
    of_rows = sum(row_values(layer.mixer) for layer in stack.blocks()) * rows * size
    return weights + of_rows + sum(state_bytes(of_layer) for of_layer in state)


def timed(kind: str, rows: int, states: int, length: int, dtype: torch.dtype, copied: float) -> dict[str, float]:
    """Time the steps of a stack."""
    options: dict[str, Any] = {"d_state": 16} if kind == "Mamba" else {"d_state": states, "headdim": 64}
    torch.manual_seed(0)
    device = torch.device("cuda")
    stack = MambaStack(
        D_MODEL, LAYERS, "mamba" if kind == "Mamba" else "mamba2", device=device, dtype=dtype, **options
    ).eval()

    def new_inputs(count: int) -> tuple[Tensor, Tensor]:
        x = torch.randn(count, D_MODEL, device=device, dtype=dtype)
        return x, torch.randperm(count, device=device)

    state = stack.init_state(rows)
    if kind.endswith("buffer"):
        state = stack.with_buffers(state, length)
        for of_layer in state:
            buffer = cast(BufferedMambaState, of_layer).buffer
            for v in (buffer.x, buffer.dt, buffer.B):
                v.zero_()
            # As in generation, the states of the sequences are written at different steps.
            buffer.lengths.random_(0, length + 1)
    results = {"bytes, ms": bytes_of(stack, state, rows) / copied * 1e3}
    for name, enabled in (("graph", True), ("eager", False)):
        step = CapturedStep(
            lambda inputs: stack.step(inputs[0], state, inputs[1]), new_inputs, device=device, enabled=enabled
        )
        step.inputs(rows)
        for _ in range(3):
            step(rows)
        results[f"{name}, ms"] = wall_ms(lambda step=step: step(rows), "cuda")  # type: ignore[misc]
        results[f"{name} over bytes"] = results[f"{name}, ms"] / results["bytes, ms"]
    return results


def main() -> None:
    """Run the benchmark and print the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, nargs="+", default=[256, 4096, 16384], help="numbers of sequences")
    parser.add_argument("--states", type=int, default=64, help="number of states per channel of Mamba-2")
    parser.add_argument("--length", type=int, default=16, help="number of inputs in a buffer")
    parser.add_argument("--dtype", default="float32", choices=["float16", "bfloat16", "float32"])
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    arguments = parser.parse_args()
    if min(arguments.rows) < 1:
        parser.error("--rows must be at least 1")
    if not torch.cuda.is_available():
        raise SystemExit("No CUDA device is available, but this benchmark requires one.")
    copied = copied_bytes_per_second()
    results: dict[str, Any] = gpu_facts() | {"copy, TB/s": copied / 1e12, "results": {}}
    for rows in arguments.rows:
        for kind in ("Mamba", "Mamba-2", "Mamba-2 with a buffer"):
            found = timed(kind, rows, arguments.states, arguments.length, getattr(torch, arguments.dtype), copied)
            results["results"][f"{kind}, {rows} rows"] = found
            note(f"{kind}, {rows} rows: " + ", ".join(f"{name} {value:.3f}" for name, value in found.items()))
    give(results, arguments.json)


if __name__ == "__main__":
    main()
