"""Tests of mamba_ssm's selective scan and of causal-conv1d, with their shapes, grids and tolerances.

Adapters convert the public layout, channels before rows, into that of supa_mamba. The references implement the formulas
in float64. By default a part of the grid runs on a CPU; ``-m grid`` runs the complete grid, ``-m gpu`` the kernels.
"""

from itertools import pairwise, product

import pytest
import torch
from sequences import offset_of
from torch.nn import functional

from supa_mamba import causal_conv1d, selective_scan

ITYPES = [torch.float32, torch.float16, torch.bfloat16]
LENGTHS = [8, 16, 32, 64, 128, 256, 372, 512, 784, 1024, 1134, 2048, 4096]
CONV_LENGTHS = [1, 2, 8, 16, 32, 64, 128, 129, 130, 151, 256, 372, 512, 784, 1024, 1134, 2048, 4096]
SCAN_BOUNDS = {torch.float32: (6e-4, 2e-3), torch.float16: (3e-3, 5e-3), torch.bfloat16: (3e-2, 5e-2)}
CONV_BOUNDS = {torch.float32: (3e-4, 1e-3), torch.float16: (3e-3, 5e-3), torch.bfloat16: (1e-2, 5e-2)}
BATCH, DIM, STATES = 2, 4, 8

on_processors = pytest.mark.parametrize("path", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)], indirect=True)


def allclose(found, expected, rtol, atol):
    return torch.allclose(found.double(), expected.to(found.dtype).double(), rtol=rtol, atol=atol)


# The scan: u, delta and z are (B, D, L), B and C are (D, N), (B, N, L) or (B, G, N, L), last states (B, D, N).


def public_scan(u, delta, A, B, C, D, z, delta_bias, delta_softplus):
    length = u.shape[-1]

    def ours(x):
        return x.expand(BATCH, length, *x.shape) if x.shape == A.shape else x.movedim(-1, 1)

    gate = None if z is None else z.mT
    y, last = selective_scan(
        u.mT, delta.mT, A, ours(B), ours(C), D, gate, delta_bias, delta_softplus, return_final_states=True
    )
    return y.mT, last


def reference_scan(u, delta, A, B, C, D, z, delta_bias, delta_softplus):
    def each(x):  # (B or 1, D, N, L or 1)
        if x.shape == A.shape:
            return x[None, :, :, None]
        x = x[:, None] if x.ndim == 3 else x
        return x.repeat_interleave(DIM // x.shape[1], 1)

    step = delta if delta_bias is None else delta + delta_bias[:, None]
    step = functional.softplus(step) if delta_softplus else step
    decays = torch.exp(step[:, :, None] * A[:, :, None]).unbind(-1)
    changes = ((step * u)[:, :, None] * each(B)).unbind(-1)
    state, states = torch.zeros_like(changes[0]), []
    for decay, change in zip(decays, changes, strict=True):
        state = decay * state + change
        states.append(state)
    y = (torch.stack(states, -1) * each(C)).sum(2)
    y = y if D is None else y + D[:, None] * u
    return y if z is None else y * functional.silu(z), state


def scan_arguments(length, itype, form, *, z=True, D=True, delta_bias=True):
    torch.manual_seed(0)
    shapes = {"variable": (BATCH, STATES, length), "grouped": (BATCH, 2, STATES, length), "constant": (DIM, STATES)}
    of_B, of_C = (form, form) if isinstance(form, str) else form
    kind = lambda of: torch.float32 if of == "constant" else itype  # noqa: E731
    return {
        "u": torch.randn(BATCH, DIM, length).to(itype),
        "delta": (0.5 * torch.rand(BATCH, DIM, length)).to(itype),
        "A": -0.5 * torch.rand(DIM, STATES),
        "B": torch.randn(shapes[of_B]).to(kind(of_B)),
        "C": torch.randn(shapes[of_C]).to(kind(of_C)),
        "D": torch.randn(DIM) if D else None,
        "z": torch.randn(BATCH, DIM, length).to(itype) if z else None,
        "delta_bias": 0.5 * torch.rand(DIM) if delta_bias else None,
    }


def check_scan(given, softplus, itype, device):
    rtol, atol = SCAN_BOUNDS[itype]
    of_weights = (max(1e-3, rtol), max(1e-3, atol)) if given["z"] is not None else (1e-3, 1e-3)
    bounds = {
        "u": (2 * rtol, 2 * atol), "delta": (5 * rtol, 10 * atol), "A": (of_weights[0], 5 * of_weights[1]),
        "D": of_weights, "z": of_weights, "delta_bias": of_weights,
    }  # fmt: skip
    bounds |= {n: of_weights if given[n].ndim == 2 else (rtol, atol) for n in ("B", "C")}
    mine = {n: None if x is None else x.to(device).detach().requires_grad_() for n, x in given.items()}
    truth = {n: None if x is None else x.double().requires_grad_() for n, x in given.items()}
    y, last = public_scan(**mine, delta_softplus=softplus)
    expected, expected_last = reference_scan(**truth, delta_softplus=softplus)
    assert y.dtype == itype
    assert allclose(y.cpu(), expected, rtol, atol)
    assert allclose(last.cpu(), expected_last, rtol, atol)
    grad = torch.randn(y.shape).to(itype)
    y.backward(grad.to(device))
    expected.backward(grad.double())
    for name, x in mine.items():
        assert x is None or allclose(x.grad.cpu(), truth[name].grad, *bounds[name]), name


@on_processors
@pytest.mark.parametrize("itype", ITYPES)
@pytest.mark.parametrize("form", ["variable", "grouped"])
def test_scan(path, device, form, itype):
    check_scan(scan_arguments(128, itype, form), True, itype, device)


@on_processors
@pytest.mark.parametrize("missing", ["z", "D", "delta_bias", "softplus"])
def test_scan_without_optional_arguments(path, device, missing):
    options = {} if missing == "softplus" else {missing: False}
    check_scan(scan_arguments(64, torch.float32, "variable", **options), missing != "softplus", torch.float32, device)


@on_processors
@pytest.mark.parametrize("form", [("constant", "variable"), ("variable", "constant"), "constant"])
def test_scan_with_constant_matrices(path, device, form):
    check_scan(scan_arguments(32, torch.float32, form), True, torch.float32, device)


def test_scan_with_the_kernels(interpreter):
    check_scan(scan_arguments(5, torch.float32, "grouped"), True, torch.float32, "cpu")


@pytest.mark.grid
@on_processors
@pytest.mark.parametrize("itype", ITYPES)
@pytest.mark.parametrize("length", LENGTHS)
def test_scan_complete_grid(path, device, length, itype):
    for form, z, D, delta_bias, softplus in product(["variable", "grouped"], *[[False, True]] * 4):
        check_scan(scan_arguments(length, itype, form, z=z, D=D, delta_bias=delta_bias), softplus, itype, device)


@on_processors
@pytest.mark.parametrize("pieces", [2, 5])
def test_scan_in_pieces_with_carried_states(path, device, pieces):
    given = {n: None if x is None else x.to(device) for n, x in scan_arguments(60, torch.float32, "variable").items()}
    expected, expected_last = public_scan(**given, delta_softplus=True)
    state, parts = None, []
    for cut in torch.arange(60, device=device).chunk(pieces):
        part = {n: x[..., cut].mT if n in ("u", "delta", "B", "C", "z") else x for n, x in given.items()}
        y, state = selective_scan(**part, delta_softplus=True, initial_states=state, return_final_states=True)
        parts.append(y.mT)
    assert allclose(torch.cat(parts, -1), expected, *SCAN_BOUNDS[torch.float32])
    assert allclose(state, expected_last, *SCAN_BOUNDS[torch.float32])


# The convolution: x is (B, D, L) in either memory layout, a slice of a wider tensor; states are (B, D, W - 1).


def public_conv(x, weight, bias, initial_states, activation):
    y, states = causal_conv1d(
        x.mT, weight, bias, initial_states=initial_states, activation=activation, return_final_states=True
    )
    return y.mT, states


def reference_conv(x, weight, bias, initial_states, activation):
    width = weight.shape[1]
    seen = functional.pad(x, (width - 1, 0)) if initial_states is None else torch.cat([initial_states, x], -1)
    y = functional.conv1d(seen, weight[:, None], bias, groups=weight.shape[0])
    return y if activation is None else functional.silu(y), seen[..., seen.shape[-1] - width + 1 :]


def check_conv(length, dim, width, itype, device, *, bias, activation, channel_last, initial):
    torch.manual_seed(0)
    rtol, atol = CONV_BOUNDS[itype]
    if channel_last:
        x = torch.randn(BATCH, length, dim + 160).to(itype)[:, :, 96 : 96 + dim].mT
    else:
        x = torch.randn(BATCH, dim + 160, length).to(itype)[:, 96 : 96 + dim]
    given = {
        "x": x,
        "weight": torch.randn(dim, width),
        "bias": torch.randn(dim) if bias else None,
        "initial_states": torch.randn(BATCH, width - 1, dim).to(itype).mT if initial else None,
    }
    mine = {n: None if v is None else v.to(device).detach().requires_grad_() for n, v in given.items()}
    truth = {n: None if v is None else v.double().requires_grad_() for n, v in given.items()}
    y, states = public_conv(**mine, activation=activation)
    expected, expected_states = reference_conv(**truth, activation=activation)
    assert allclose(y.cpu(), expected, rtol, atol)
    assert allclose(states.cpu(), expected_states, rtol, atol)
    grad = torch.randn(y.shape).to(itype).double()
    ((y + states.sigmoid().sum(-1, keepdim=True)).double() * grad.to(device)).sum().backward()
    ((expected + expected_states.sigmoid().sum(-1, keepdim=True)) * grad).sum().backward()
    for name, v in mine.items():
        bounds = (1e-3, 1e-3) if name in ("weight", "bias") else (rtol, atol)
        assert v is None or allclose(v.grad.cpu(), truth[name].grad, *bounds), name


@on_processors
@pytest.mark.parametrize("itype", ITYPES)
@pytest.mark.parametrize(("length", "width"), [(1, 4), (2, 3), (8, 2), (129, 4)])
def test_conv(path, device, length, width, itype):
    last = length > 1
    check_conv(length, 64, width, itype, device, bias=True, activation="silu", channel_last=last, initial=last)


@on_processors
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("activation", [None, "silu", "swish"])
@pytest.mark.parametrize("channel_last", [False, True])
def test_conv_options(path, device, channel_last, activation, bias):
    options = {"bias": bias, "activation": activation, "channel_last": channel_last, "initial": not bias}
    check_conv(16, 64, 3, torch.float32, device, **options)


def test_conv_with_the_kernels(interpreter):
    check_conv(5, 8, 4, torch.float32, "cpu", bias=True, activation="silu", channel_last=True, initial=True)


@pytest.mark.grid
@on_processors
@pytest.mark.parametrize("itype", ITYPES)
@pytest.mark.parametrize("dim", [64, 4096 + 32])
@pytest.mark.parametrize("length", CONV_LENGTHS)
def test_conv_complete_grid(path, device, length, dim, itype):
    for width, bias, activation, channel_last, initial in product(
        [2, 3, 4], [False, True], [None, "silu"], [False, True], [False, True]
    ):
        options = {"bias": bias, "activation": activation, "channel_last": channel_last, "initial": initial}
        check_conv(length, dim, width, itype, device, **options)


def check_packed(length, dim, width, itype, device):
    """Compare sequences packed at random positions, as marked by ``seq_idx``, with single sequences."""
    torch.manual_seed(0)
    rtol, atol = CONV_BOUNDS[itype]
    cuts = torch.randperm(length - 1)[: min(9, length - 1)].add(1).sort().values.tolist()
    lengths = [end - start for start, end in pairwise([0, *cuts, length])]
    x, weight, bias = torch.randn(length, dim).to(itype), torch.randn(dim, width), torch.randn(dim)
    mine = [v.to(device).detach().requires_grad_() for v in (x, weight, bias)]
    truth = [v.double().requires_grad_() for v in (x, weight, bias)]
    y = causal_conv1d(*mine, offset=offset_of(lengths, device).int(), activation="silu")
    alone = [reference_conv(part.t()[None], *truth[1:], None, "silu")[0][0].t() for part in truth[0].split(lengths)]
    expected = torch.cat(alone)
    assert allclose(y.cpu(), expected, rtol, atol)
    grad = torch.randn(y.shape).to(itype)
    y.backward(grad.to(device))
    expected.backward(grad.double())
    for v, right, bounds in zip(mine, truth, [(rtol, atol), (1e-3, 1e-3), (1e-3, 1e-3)], strict=True):
        assert allclose(v.grad.cpu(), right.grad, *bounds)


@on_processors
@pytest.mark.parametrize("itype", ITYPES)
@pytest.mark.parametrize(("length", "width"), [(8, 4), (151, 3)])
def test_conv_of_packed_sequences(path, device, length, width, itype):
    check_packed(length, 64, width, itype, device)


@pytest.mark.grid
@on_processors
@pytest.mark.parametrize("itype", ITYPES)
@pytest.mark.parametrize("dim", [64, 4096 + 32])
@pytest.mark.parametrize("length", CONV_LENGTHS[2:])
def test_conv_of_packed_sequences_complete_grid(path, device, length, dim, itype):
    for width in (2, 3, 4):
        check_packed(length, dim, width, itype, device)


@on_processors
@pytest.mark.parametrize("width", [2, 3, 4])
def test_conv_in_pieces_with_carried_states(path, device, width):
    torch.manual_seed(0)
    x, weight = torch.randn(BATCH, 40, 16, device=device), torch.randn(16, width, device=device)
    expected, expected_last = causal_conv1d(x, weight, return_final_states=True)
    state, parts = None, []
    for part in x.split([1, 2, 30, 7], 1):
        y, state = causal_conv1d(part, weight, initial_states=state, return_final_states=True)
        parts.append(y)
    assert allclose(torch.cat(parts, 1), expected, *CONV_BOUNDS[torch.float32])
    assert torch.equal(state, expected_last)
