"""Public tests of Mamba-2's chunk scan, with their parameters and tolerances, applied to ``ssd``.

The grids are those of mamba_ssm's test of states of packed sequences and of vLLM's tests of its copy of the kernels:
dtypes, groups, heads of odd sizes, chunk sizes, lengths around chunk boundaries, and sequences that continue from
states. An adapter takes the arguments of ``mamba_chunk_scan_combined``; the reference is the quadratic form in float64.
The chunk size is used on a CPU only; the kernels choose their own. The default run takes a part of each grid, and
``-m grid`` the rest. Without a GPU the sizes are smaller than the public ones.

D of shape (H, P) is not supported and raises an error.
"""

import math

import pytest
import torch
from public_grids import grid
from sequences import offset_of
from torch.nn import functional

from supa_mamba import ssd
from supa_mamba.ops.ssd import cpu

DTYPES = [torch.float32, torch.float16, torch.bfloat16]


def chunk_scan_combined(
    x, dt, A, B, C, D=None, z=None, dt_bias=None, initial_states=None, seq_idx=None, cu_seqlens=None, dt_softplus=False,
    dt_limit=(0.0, math.inf), return_final_states=False, return_varlen_states=False,
):  # fmt: skip
    """Call ``ssd`` with the arguments of ``mamba_chunk_scan_combined``, where ``seq_idx`` marks the sequences."""
    batch, length = x.shape[:2]
    begins = torch.ones(batch, length, dtype=torch.bool, device=x.device)
    begins[:, 1:] = False if seq_idx is None else seq_idx[:, 1:] != seq_idx[:, :-1]
    offset = torch.cat([begins.flatten().nonzero()[:, 0], torch.tensor([batch * length], device=x.device)])
    ends = (offset[1:] % length == 0).nonzero()[:, 0]
    starts = None
    if initial_states is not None:
        starts = initial_states.new_zeros(len(offset) - 1, *initial_states.shape[1:])
        starts[torch.cat([ends.new_zeros(1), ends[:-1] + 1])] = initial_states
    y, states = ssd(
        *(v.flatten(0, 1) for v in (x, dt)), A, *(v.flatten(0, 1) for v in (B, C)), D=D, dt_bias=dt_bias,
        dt_softplus=dt_softplus, dt_limit=dt_limit, offset=offset, initial_states=starts, return_final_states=True,
    )  # fmt: skip
    y = y.view(x.shape) if z is None else y.view(x.shape) * functional.silu(z)
    if return_varlen_states:
        assert torch.equal(cu_seqlens, offset)
    found = [y, *[states[ends]] * return_final_states, *[states] * return_varlen_states]
    return found[0] if len(found) == 1 else tuple(found)


def quadratic(x, dt, A, B, C, D=None, z=None, dt_bias=None, start=None, dt_softplus=False, dt_limit=(0.0, math.inf)):
    """Compute one sequence from all pairs of its rows in float64: y (L, H, P), and the final state."""
    x, dt, A, B, C, D, z, dt_bias, start = (
        None if v is None else v.detach().cpu().double() for v in (x, dt, A, B, C, D, z, dt_bias, start)
    )
    step = dt if dt_bias is None else dt + dt_bias
    step = (functional.softplus(step) if dt_softplus else step).clamp(*dt_limit)
    B, C = (v.repeat_interleave(x.shape[1] // v.shape[1], 1) for v in (B, C))
    start = x.new_zeros(*x.shape[1:], B.shape[2]) if start is None else start
    s = (step * A).cumsum(0)
    pairs = (s[:, None] - s[None, :]).masked_fill(torch.ones(len(x), len(x)).triu(1)[..., None] > 0, -math.inf).exp()
    y = torch.einsum("ihn,jhn,ijh,jh,jhp->ihp", C, B, pairs, step, x)
    y = y + torch.einsum("ihn,ih,hpn->ihp", C, s.exp(), start)
    final = torch.einsum("jh,jh,jhp,jhn->hpn", (s[-1] - s).exp(), step, x, B) + s[-1].exp()[:, None, None] * start
    y = y if D is None else y + D[:, None] * x
    return (y if z is None else y * functional.silu(z)), final


def close(found, expected, rtol, atol):
    torch.testing.assert_close(found.detach().cpu().double(), expected, rtol=rtol, atol=atol)


@pytest.mark.parametrize(("dtype", "groups", "chunk"), grid(DTYPES, [1, 2, 8, "max"], [64, 128], every=7))
def test_states_of_packed_sequences(path, device, monkeypatch, dtype, groups, chunk):
    monkeypatch.setattr(cpu, "CHUNK", chunk)
    torch.manual_seed(chunk + (64 if groups == "max" else groups))
    sequences, heads, width, states = {"cuda": (300, 64, 64, 32), "cpu": (12, 16, 16, 32)}.get(path, (2, 8, 8, 16))
    groups = heads if groups == "max" else groups
    lengths = torch.randint(1, 70 if path == "interpreter" else 200, (sequences,)).tolist()
    offset, rows = offset_of(lengths, device), sum(lengths)
    x, B, C = torch.randn(rows, heads, width), torch.randn(rows, groups, states) / 5, torch.randn(rows, groups, states)
    given = [x.to(dtype), functional.softplus(torch.randn(rows, heads) - 4), -0.1 * torch.rand(heads)]
    given = [v.to(device) for v in (*given, B.to(dtype), C.to(dtype))]
    seq_idx = torch.arange(sequences, device=device).repeat_interleave(offset.diff())[None]
    packed = [v[None] if v.ndim > 1 else v for v in given]
    y, found = chunk_scan_combined(*packed, seq_idx=seq_idx, cu_seqlens=offset, return_varlen_states=True)
    assert y.dtype == dtype
    for s, (start, end) in enumerate(zip(offset[:-1].tolist(), offset[1:].tolist(), strict=True)):
        expected, final = quadratic(*(v[start:end] if v.ndim > 1 else v for v in given))
        close(found[s], final, 1e-2, 3e-3)
        close(y[0, start:end], expected, 1e-2, 3e-2 if dtype == torch.bfloat16 else 3e-3)


@pytest.mark.parametrize(
    ("heads", "width", "length", "chunk", "dtype"),
    grid([4, 16, 32], [5, 8, 32, 128], [112, 128], [16, 32], [torch.float32, torch.bfloat16], every=29),
)
def test_one_padded_batch(path, device, monkeypatch, heads, width, length, chunk, dtype):
    monkeypatch.setattr(cpu, "CHUNK", chunk)
    torch.manual_seed(0)
    heads, states = (4, 16) if path == "interpreter" else (heads, 32)
    given = _inputs(2, length, heads, width, states, 1, dtype, device)
    y, final = chunk_scan_combined(*given, return_final_states=True)
    for row in range(2):
        expected, state = quadratic(*(v[row] if v.ndim > 1 else v for v in given))
        close(y[row], expected, 5e-3, 8e-3 if dtype == torch.float32 else 8e-2)
        close(final[row], state, 5e-3, 8e-3 if dtype == torch.float32 else 5e-2)


@pytest.mark.parametrize(
    ("heads", "width", "groups", "has_D", "has_z", "has_bias", "softplus", "limit"),
    grid(
        [4, 8], [5, 16], [1, 2, 4], [False, True], [False, True], [False, True], [False, True],
        [(0.0, math.inf), (0.01, 0.05)], every=89,
    ),
)  # fmt: skip
def test_options(path, device, heads, width, groups, has_D, has_z, has_bias, softplus, limit):
    torch.manual_seed(0)
    given = _inputs(2, 40, heads, width, 8, groups, torch.float32, device)
    if softplus:
        given[1] = torch.randn(2, 40, heads, device=device) - 4
    options = {
        "D": torch.randn(heads, device=device) if has_D else None,
        "z": torch.randn(2, 40, heads, width, device=device) if has_z else None,
        "dt_bias": torch.rand(heads, device=device) if has_bias else None,
        "initial_states": torch.randn(2, heads, width, 8, device=device),
    }
    shared = {"dt_softplus": softplus, "dt_limit": limit}
    y, final = chunk_scan_combined(*given, **options, **shared, return_final_states=True)
    for row in range(2):
        of_row = {name: None if v is None else v[row] if v.ndim > 1 else v for name, v in options.items()}
        start = of_row.pop("initial_states")
        expected, state = quadratic(*(v[row] if v.ndim > 1 else v for v in given), **of_row, start=start, **shared)
        close(y[row], expected, 5e-3, 5e-3)
        close(final[row], state, 5e-3, 5e-3)


CASES = [
    (8, [(64, 32), (64, 32)]),
    (8, [(8, 8), (8, 8), (8, 8)]),  # lengths equal to the chunk size
    (8, [(4, 4), (4, 4), (4, 4), (4, 4)]),  # lengths shorter than a chunk
    (8, [(64, 32, 16, 8, 8)]),
    (8, [(64, 32, 16, 8, 8), (8, 16, 32, 16, 8), (8, 8, 16, 32, 16)]),
    (256, [(5,), (1,), (1,), (1,)]),
    (256, [(5, 30), (1, 2), (1, 2), (1, 2)]),
    (16, [(1, 7, 8, 9), (15, 16, 17, 1), (31, 33, 1, 16)]),
    (128, [(200, 300), (100, 29)]),
]


@pytest.mark.parametrize(("heads", "width", "case"), grid([4, 8, 13], [5, 16, 21, 32], CASES, every=23))
def test_sequences_that_continue_from_their_states(path, device, monkeypatch, heads, width, case):
    """Processing a part of each sequence per call equals processing complete sequences."""
    chunk, batches = case
    monkeypatch.setattr(cpu, "CHUNK", chunk)
    torch.manual_seed(0)
    heads = 2 if path == "interpreter" else heads
    totals = [sum(lengths) for lengths in zip(*batches, strict=True)]
    whole = [_inputs(1, total, heads, width, 8, 1, torch.float32, device) for total in totals]
    done, state, parts = [0] * len(totals), None, [[] for _ in totals]
    for lengths in batches:
        pieces = [
            [v[0, at : at + n] if v.ndim > 1 else v for v in given]
            for given, at, n in zip(whole, done, lengths, strict=True)
        ]
        x, dt, A, B, C = (
            torch.cat([piece[i] for piece in pieces]) if i != 2 else whole[0][2] for i in range(5)
        )  # fmt: skip
        y, state = ssd(
            x, dt, A, B, C, offset=offset_of(lengths, device), initial_states=state, return_final_states=True
        )  # fmt: skip
        for part, piece in zip(parts, y.split(list(lengths)), strict=True):
            part.append(piece)
        done = [at + n for at, n in zip(done, lengths, strict=True)]
    for s, given in enumerate(whole):
        given[2] = whole[0][2]
        expected, final = quadratic(*(v[0] if v.ndim > 1 else v for v in given))
        close(torch.cat(parts[s]), expected, 5e-3, 5e-3)
        close(state[s], final, 5e-3, 5e-3)


def test_skip_weights_per_channel_are_rejected():
    given = _inputs(1, 5, 2, 3, 4, 1, torch.float32, "cpu")
    with pytest.raises(ValueError, match=r"D: shape \(2, 3\) was given, but it must be \(H,\) = \(2,\)"):
        chunk_scan_combined(*given, D=torch.zeros(2, 3))


def _inputs(batch, length, heads, width, states, groups, dtype, device):
    given = [
        torch.randn(batch, length, heads, width).to(dtype),
        functional.softplus(torch.randn(batch, length, heads) - 4),
        -torch.exp(torch.rand(heads)),
        torch.randn(batch, length, groups, states).to(dtype),
        torch.randn(batch, length, groups, states).to(dtype),
    ]
    return [v.to(device) for v in given]
