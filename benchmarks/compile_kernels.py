"""Compile every Triton kernel of the package for several GPUs, and list registers, spills and shared memory.

    python benchmarks/compile_kernels.py [--capabilities 80 86 89 90 100] [--states 16 64 128 256]
                                         [--dtypes float32 bfloat16 float64] [--json results.json]

No GPU is needed. The public functions run forward and backward on small inputs, and each launch of a kernel compiles it
for a GPU of the given compute capability instead of running it. Arguments and constants are therefore those of real
launches. The script prints a row for each kernel and a column for each capability, with the largest value of

- registers per lane,
- bytes of spilled registers per lane, which are stored in local memory,
- kilobytes of shared memory per program,

first over inputs of usual sizes (half or single precision, up to 64 states, convolutions of width 4, norms and linear
layers of up to 1,024 features, heads of up to 256 features), and then over all inputs.

It fails if a kernel does not compile, needs more shared memory than a program of that GPU can have, or more registers
than a multiprocessor has. Kernels for capability 100 need Triton 3.4 or later.
"""

import argparse
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

# Triton reads it on import.
os.environ["TRITON_INTERPRET"] = "0"

import numpy as np
import torch
import triton
from measuring import give, note, torch_facts
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.runtime import JITFunction

import supa
from supa_gff.graph_ops import backend as graph_backend
from supa_gff.graph_ops.function import edge_sum, moments_of_graphs
from supa_gff.stacked.norm_ops.function import masked_batch_norm
from supa_gff.stacked.rows import Rows
from supa_mamba import (
    GeneratorConfig,
    HitCoding,
    InputBuffer,
    Mamba2,
    ReplayCache,
    ShowerGenerator,
    add_rms_norm,
    buffered_state_update,
    causal_conv1d,
    causal_conv1d_replay,
    causal_conv1d_update,
    gated_rms_norm,
    selective_scan,
    selective_state_replay,
    selective_state_update,
    sparse_attention,
    ssd,
)
from supa_mamba.generator.coding import SHARE_BITS
from supa_mamba.generator.sampling.gpu import GpuRows
from supa_mamba.generator.sampling.kernels.trials import trial_kernel
from supa_mamba.generator.sampling.uniforms import PER_TRIAL, TRIAL_BITS, TRIALS
from supa_mamba.modules.rotary import rotary_rates
from supa_mamba.ops import backend
from supa_mamba.ops.attention_step.function import attention_step
from supa_mamba.ops.row_linear.function import row_linear

SHARED_MEMORY = {80: 163, 86: 99, 89: 99, 90: 227, 100: 227}
"""Kilobytes of shared memory that a program can have, by compute capability (CUDA C++ programming guide, table of
technical specifications)."""

REGISTERS = 65536
"""Registers of a multiprocessor, for all these capabilities."""

LENGTHS, ROWS = (5, 0, 43), 48
MOST_STATES = 64
"""Number of states above which inputs count as extreme."""
TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"


class Compiled(NamedTuple):
    """A kernel compiled for a GPU.

    Args:
        capability: Compute capability, such as 86.
        case: Description of the inputs.
        kernel: Name of the kernel.
        warps: Number of warps per program.
        registers: Registers per lane.
        spilled: Bytes of local memory per lane.
        shared: Bytes of shared memory per program.
        extreme: Whether the inputs are in double precision or of an extreme size.
    """

    capability: int
    case: str
    kernel: str
    warps: int
    registers: int
    spilled: int
    shared: int
    extreme: bool

    def fault(self) -> str:
        """Return why the kernel cannot run on the GPU, or an empty string."""
        limit = SHARED_MEMORY[self.capability] * 1024
        if self.shared > limit:
            return f"{self.shared} bytes of shared memory, of which a program can have {limit}"
        if (needed := self.registers * self.warps * 32) > REGISTERS:
            return f"{needed} registers per program, of which a multiprocessor has {REGISTERS}"
        return ""


class Target:
    """Driver of a GPU that is absent: only what Triton asks before it compiles.

    Args:
        capability: Compute capability.
    """

    def __init__(self, capability: int) -> None:
        self._capability = capability

    def get_current_target(self) -> GPUTarget:
        """Return the GPU to compile for."""
        return GPUTarget("cuda", self._capability, 32)

    def get_current_device(self) -> int:
        """Return a number that differs between capabilities, so that Triton keeps their kernels apart."""
        return self._capability

    def get_current_stream(self, _device: int) -> int:
        """Return the default stream."""
        return 0


@contextmanager
def compiling(capability: int, found: list[tuple[str, Any]]) -> Iterator[None]:
    """Compile each kernel that is launched for a GPU of a capability, instead of running it.

    Args:
        capability: Compute capability.
        found: List to which the name of each kernel and the kernel are appended.

    Yields:
        None.
    """
    run = JITFunction.run

    def only_compile(function: Any, *args: Any, grid: Any, warmup: bool, **options: Any) -> Any:
        kernel = run(function, *args, grid=grid, warmup=True, **options)
        found.append((function.__name__, kernel))
        return kernel

    triton.runtime.driver.set_active(Target(capability))
    with (
        mock.patch.object(JITFunction, "run", only_compile),
        mock.patch.object(backend, "is_cuda", return_value=True),
        mock.patch.object(graph_backend, "uses_kernels", return_value=True),
        mock.patch("torch.cuda.is_available", return_value=True),
        mock.patch("torch.cuda.get_device_capability", return_value=divmod(capability, 10)),
    ):
        yield


def usage(kernel: Any) -> tuple[int, int]:
    """Return the registers and the bytes of local memory per lane of a compiled kernel."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        command = [TOOLS / "cuobjdump", "-res-usage", file.name]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    match = re.search(r"REG:(\d+) STACK:(\d+).*LOCAL:(\d+)", printed)
    if match is None:
        raise SystemExit(f"cuobjdump printed no registers: {printed!r}")
    registers, stack, local = map(int, match.groups())
    return registers, stack + local


def normal(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Draw an input that requires a gradient."""
    return torch.randn(*shape).to(dtype).requires_grad_()


def backward(*outputs: Tensor) -> None:
    """Compute the gradients of the sum of all outputs."""
    torch.autograd.backward([y for y in outputs if y.requires_grad], [torch.ones_like(y) for y in outputs])


def sequence_cases(states: int, dtype: torch.dtype) -> dict[str, Callable[[], None]]:
    """Return the operations over sequences, with all options and with few."""
    offset = torch.tensor([0, *LENGTHS]).cumsum(0)
    of_rows = lambda *shape: normal(ROWS, *shape, dtype=dtype)  # noqa: E731

    def scan() -> None:
        given = of_rows(512), of_rows(512), -torch.rand(512, states), of_rows(states), of_rows(states)
        options: dict[str, Any] = {"D": normal(512), "z": of_rows(512), "delta_bias": normal(512), "offset": offset}
        options |= {"initial_states": normal(len(LENGTHS), 512, states), "return_final_states": True}
        backward(*selective_scan(*given, delta_softplus=True, **options))

    def recurrence(heads: int, width: int, *, states_given: bool) -> None:
        given = of_rows(heads, width), of_rows(heads), -torch.rand(heads), of_rows(1, states), of_rows(1, states)
        options: dict[str, Any] = {"D": normal(heads), "dt_bias": normal(heads), "offset": offset, "dt_softplus": True}
        if not states_given:
            return backward(ssd(*given, **options))
        initial = normal(len(LENGTHS), heads, width, states)
        return backward(*ssd(*given, **options, initial_states=initial, return_final_states=True))

    def mixer() -> None:
        module = Mamba2(256, states).to(dtype)
        backward(module(of_rows(256), offset))

    return {
        "Mamba2, 256 features": mixer,
        "scan, 512 channels": scan,
        "ssd, 8 heads of 64": lambda: recurrence(8, 64, states_given=False),
        "ssd, 8 heads of 64, initial states": lambda: recurrence(8, 64, states_given=True),
    }


def step_cases(states: int, dtype: torch.dtype) -> dict[str, Callable[[], None]]:
    """Return the steps of both forms of states, with and without a cache of inputs."""
    precision = torch.float64 if dtype == torch.float64 else torch.float32

    def step(channels: tuple[int, ...], *, inputs: int) -> None:
        lead, groups = (2, inputs) if inputs > 1 else (2,), () if len(channels) == 1 else (1,)
        drawn = {"x": channels, "dt": channels[:1], "B": (*groups, states), "C": (*groups, states)}
        given: dict[str, Any] = {name: torch.randn(*lead, *shape).to(dtype) for name, shape in drawn.items()}
        given["A"] = -torch.rand(*channels[:1], *((states,) if len(channels) == 1 else ()))
        given |= {"D": torch.ones(channels[0]), "dt_bias": torch.ones(channels[0]), "z": given["x"]}
        table = torch.zeros(2, *channels, states, dtype=precision)
        if inputs == 1:
            selective_state_update(table, **given, dt_softplus=True)
        else:
            cache, accepted = ReplayCache.empty(table, inputs, dtype=dtype), torch.zeros(2, dtype=torch.int64)
            selective_state_replay(table, cache, **given, dt_softplus=True, accepted=accepted)

    def buffered(inputs: int) -> None:
        lead = (2, inputs) if inputs > 1 else (2,)
        x, dt, B, C = (torch.randn(*lead, *shape).to(dtype) for shape in ((8, 64), (8,), (1, states), (1, states)))
        table = torch.zeros(2, 8, 64, states, dtype=precision)
        buffer = InputBuffer.empty(table, 16, dtype=dtype)
        options: dict[str, Any] = {"D": torch.ones(8), "dt_bias": torch.ones(8), "z": x, "dt_softplus": True}
        buffered_state_update(table, buffer, x, dt, -torch.rand(8), B, C, **options)

    return {
        "step with a buffer, 8 heads of 64": lambda: buffered(1),
        "4 steps with a buffer, 8 heads of 64": lambda: buffered(4),
        "step, 512 channels": lambda: step((512,), inputs=1),
        "step, 8 heads of 64": lambda: step((8, 64), inputs=1),
        "replay of 4, 512 channels": lambda: step((512,), inputs=4),
        "replay of 4, 8 heads of 64": lambda: step((8, 64), inputs=4),
    }


def other_cases(dtype: torch.dtype) -> dict[str, Callable[[], None]]:
    """Return the operations without states of a recurrence: convolutions, norms and sparse attention."""
    precision = torch.float64 if dtype == torch.float64 else torch.float32
    offset = torch.tensor([0, *LENGTHS]).cumsum(0)

    def convolution(width: int) -> None:
        given = normal(ROWS, 512, dtype=dtype), normal(512, width), normal(512)
        initial = normal(len(LENGTHS), 512, width - 1)
        options: dict[str, Any] = {"offset": offset, "activation": "silu", "initial_states": initial}
        backward(*causal_conv1d(*given, **options, return_final_states=True))

    def conv_steps(width: int) -> None:
        x, weight, bias = torch.randn(2, 3, 512).to(dtype), torch.randn(512, width), torch.randn(512)
        tables = [torch.zeros(2, 512, width, dtype=precision) for _ in range(3)]
        none = torch.zeros(2, dtype=torch.int64)
        causal_conv1d_update(x[:, 0], tables[0], weight, bias, "silu")
        causal_conv1d_update(x[:, 0], tables[1], weight, bias, "silu", cache_seqlens=none)
        causal_conv1d_replay(x, tables[2], torch.zeros_like(x), weight, bias, "silu", accepted=none)

    def norms(width: int) -> None:
        x, gate = normal(ROWS, width, dtype=dtype), normal(ROWS, width, dtype=dtype)
        backward(*add_rms_norm(normal(ROWS, width), x, normal(width), dtype=dtype))
        backward(gated_rms_norm(x, gate, normal(width), norm_before_gate=False))
        backward(gated_rms_norm(x, gate, normal(width), norm_before_gate=True))

    def attention(width: int) -> None:
        buckets = torch.zeros(ROWS, 4, dtype=torch.int16)
        q, k, v = (normal(ROWS, 4, width, dtype=dtype) for _ in range(3))
        backward(sparse_attention(q, k, v, buckets, offset=offset))
        # Buckets of another dtype, and those of keys, have kernels of their own.
        sparse_attention(q, k, v, buckets.long(), buckets, offset=offset)

    return {
        **{f"sparse attention, heads of {width}": lambda width=width: attention(width) for width in (16, 64, 128)},
        **{f"convolution of {width}": lambda width=width: convolution(width) for width in (4, 16)},
        **{f"steps of a convolution of {width}": lambda width=width: conv_steps(width) for width in (4, 16)},
        **{f"norms of {width}": lambda width=width: norms(width) for width in (64, 1024, 16384)},
    }


def graph_cases(dtype: torch.dtype) -> dict[str, Callable[[], None]]:
    """Return the operations of graph networks."""

    def networks(copies: int, rows: int, channels: int) -> None:
        own = Rows.of(torch.ones(3, rows, dtype=torch.bool), dtype)
        weight, bias = (normal(3, channels, dtype=dtype) for _ in range(2))
        running = [torch.zeros(3, channels, dtype=dtype) for _ in range(2)]
        x = normal(copies, 3, rows, channels, dtype=dtype)
        backward(masked_batch_norm(x, own, weight, bias, *running, momentum=0.1, eps=1e-5))
        nodes = torch.zeros(rows, dtype=torch.int64)
        backward(edge_sum(normal(rows, channels, dtype=dtype), nodes, nodes))
        backward(moments_of_graphs(normal(rows, channels, dtype=dtype), nodes, nodes[:1], nodes[:1] + rows))

    return {
        "graph networks of 64 channels": lambda: networks(1, 33, 64),
        "graph networks of 48 channels, hypotheses": lambda: networks(2, 600, 48),
    }


def single_precision_cases() -> dict[str, Callable[[], None]]:
    """Return what has kernels in single precision only: linear layers and attention of steps, and sampling."""

    def linear_layers() -> None:
        x = torch.randn(2, 1024)
        for features in (37, 64, 1024):
            for outputs in (512, 1024):
                weight = torch.randn(outputs, features)
                row_linear(x[:, :features], weight)
                row_linear(x[:, :features], weight, torch.randn(outputs), use_silu=True)

    def attention(width: int) -> None:
        qkv, keys, values = torch.randn(2, 3, 4, width), torch.zeros(2, 8, 4, width), torch.zeros(2, 8, 4, width)
        lengths, slots = torch.zeros(2, dtype=torch.int64), torch.arange(2)
        for rotated in (0, width):
            attention_step(qkv, keys, values, lengths, slots, rates=rotary_rates(rotated))

    def sampling() -> None:
        showers = supa.simulate(20, "critical", seed=1)
        model = ShowerGenerator(GeneratorConfig(d_model=192, n_layer=1), HitCoding.fit(showers))
        rows = GpuRows(model, showers.config, seed=1, rows=2, capacity=4)
        rows.enqueue(np.arange(2), np.arange(2), np.full(2, 1 << SHARE_BITS), np.zeros((2, 1), np.float32))
        rows.steps()

    def trials() -> None:
        numbers = torch.zeros(2, dtype=torch.int64)
        found = torch.empty(2, PER_TRIAL, dtype=torch.float64)
        trial_kernel[(2,)](numbers, numbers, numbers, numbers, found, TRIALS=TRIALS, BITS=TRIAL_BITS, num_warps=1)

    return {
        "linear layers": linear_layers,
        "sampling": sampling,
        "trials of speculative sampling": trials,
        **{f"attention, heads of {width}": lambda width=width: attention(width) for width in (16, 64, 256)},
    }


def compile_case(capability: int, case: str, run: Callable[[], None], *, extreme: bool) -> list[Compiled]:
    """Compile the kernels of a case.

    Args:
        capability: Compute capability.
        case: Description of the inputs.
        run: The case.
        extreme: Whether the case is extreme.

    Returns:
        Each kernel once.
    """
    found: list[tuple[str, Any]] = []
    with compiling(capability, found):
        run()
    different = {id(kernel): (name, kernel) for name, kernel in found}.values()
    return [
        Compiled(capability, case, name, kernel.metadata.num_warps, *usage(kernel), kernel.metadata.shared, extreme)
        for name, kernel in different
    ]


def compile_all(capability: int, states: list[int], dtypes: list[str]) -> list[Compiled]:
    """Compile the kernels of all cases.

    Args:
        capability: Compute capability.
        states: Numbers of states per channel.
        dtypes: Dtypes of the inputs, except those of kernels that support single precision only.

    Returns:
        The compiled kernels.
    """
    done = []
    for case, run in single_precision_cases().items():
        done += compile_case(capability, f"{case}, float32", run, extreme=False)
    for name in dtypes:
        dtype = getattr(torch, name)
        double = name == "float64"
        for case, run in other_cases(dtype).items():
            done += compile_case(capability, f"{case}, {name}", run, extreme=double or case.endswith((" 16", " 16384")))
        for case, run in graph_cases(dtype).items() if name in ("float32", "float64") else ():
            done += compile_case(capability, f"{case}, {name}", run, extreme=double)
        for count in states:
            for case, run in (sequence_cases(count, dtype) | step_cases(count, dtype)).items():
                described = f"{case}, {count} states, {name}"
                done += compile_case(capability, described, run, extreme=double or count > MOST_STATES)
    return done


def print_table(title: str, compiled: list[Compiled]) -> None:
    """Print a row for each kernel and a column for each capability, with the largest values."""
    capabilities = list(dict.fromkeys(c.capability for c in compiled))
    note(f"| {title} | {' | '.join(f'{c / 10}' for c in capabilities)} |")
    note(f"|{'---|' * (len(capabilities) + 1)}")
    for name in sorted({c.kernel for c in compiled}):
        cells = []
        for capability in capabilities:
            of_kernel = [c for c in compiled if (c.kernel, c.capability) == (name, capability)]
            registers, spilled, shared = (max(c[field] for c in of_kernel) for field in (4, 5, 6))
            cells.append(f"{registers} / {spilled} / {shared / 1024:.3g}")
        note(f"| `{name}` | {' | '.join(cells)} |")


def main() -> None:
    """Compile, print a table, and fail if a kernel does not fit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--capabilities", nargs="+", type=int, choices=SHARED_MEMORY, default=list(SHARED_MEMORY))
    parser.add_argument("--states", nargs="+", type=int, default=[16, 64, 128, 256], help="states per channel")
    kinds = ["float32", "bfloat16", "float16", "float64"]
    parser.add_argument("--dtypes", nargs="+", choices=kinds, default=[kinds[0], kinds[1], kinds[3]])
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    arguments = parser.parse_args()
    if min(arguments.states) < 1 or max(arguments.states) > 256:
        parser.error("--states must be between 1 and 256")
    compiled: list[Compiled] = []
    for capability in arguments.capabilities:
        if capability >= 100 and not (TOOLS / "ptxas-blackwell").exists():
            note(f"capability {capability}: skipped; the assembler of Triton {triton.__version__} does not support it")
            continue
        compiled += compile_all(capability, arguments.states, arguments.dtypes)
    for title, chosen in (("usual sizes", [c for c in compiled if not c.extreme]), ("all sizes", compiled)):
        if chosen:
            print_table(title, chosen)
    facts = torch_facts()
    facts["versions"]["triton"] = triton.__version__
    give(facts | {"compiled": [c._asdict() for c in compiled]}, arguments.json)
    if faults := [f"{c.capability}, {c.case}, {c.kernel}: {c.fault()}" for c in compiled if c.fault()]:
        raise SystemExit("\n".join(["These kernels do not fit:", *faults]))


if __name__ == "__main__":
    main()
