"""The compiled loops on a CPU: blocks, tiles, threads, second derivatives, exponentials."""

import math
import multiprocessing
import os
import subprocess
import sys
import threading

import numba
import numpy as np
import pytest
import torch
from sequences import distance, offset_of

from supa_mamba import gated_rms_norm, selective_state_update
from supa_mamba.ops import compiled
from supa_mamba.ops.causal_conv1d import cpu as conv_cpu
from supa_mamba.ops.causal_conv1d.inputs import ConvInputs, ConvOptions
from supa_mamba.ops.causal_conv1d.operator import run_conv
from supa_mamba.ops.compiled_math import exponential, softplus
from supa_mamba.ops.selective_scan import cpu
from supa_mamba.ops.selective_scan.inputs import ScanInputs, ScanOptions
from supa_mamba.ops.selective_scan.operator import run_scan
from supa_mamba.ops.ssd import cpu as ssd_cpu
from supa_mamba.ops.ssd.inputs import SsdInputs, SsdOptions
from supa_mamba.ops.ssd.operator import run_ssd

LENGTHS = [5, 0, 40, 1, 33, 16, 0]
OPTIONS = [ScanOptions(False, False), ScanOptions(True, True)]
OPTIONAL = ("D", "z", "delta_bias", "initial_states")
SSD_OPTIONS = [SsdOptions(False, False, 0.0, math.inf), SsdOptions(True, True, 0.3, 0.9)]
SSD_OPTIONAL = ("D", "dt_bias", "initial_states")


def _inputs(channels, states, *, dtype=torch.float64, lengths=LENGTHS, without=()):
    rows, generator = sum(lengths), torch.Generator().manual_seed(1)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype)

    given = ScanInputs(
        normal(rows, channels), normal(rows, channels).sigmoid(), -normal(states, channels).exp(), normal(rows, states),
        normal(rows, states), normal(channels), normal(rows, channels), normal(channels).abs(),
        offset_of(lengths, "cpu"), normal(len(lengths), states, channels),
    )  # fmt: skip
    return given._replace(**dict.fromkeys(without))


def _conv_inputs(channels, width, *, dtype=torch.float64, lengths=LENGTHS, without=()):
    generator = torch.Generator().manual_seed(1)
    shapes = (sum(lengths), channels), (channels, width), (channels,), (len(lengths), channels, width - 1)
    x, weight, bias, states = (torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes)
    return ConvInputs(x, weight, bias, offset_of(lengths, "cpu"), states)._replace(**dict.fromkeys(without))


def _ssd_inputs(heads, width, groups, states, *, dtype=torch.float64, lengths=LENGTHS, without=()):
    rows, generator = sum(lengths), torch.Generator().manual_seed(1)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype)

    given = SsdInputs(
        normal(rows, heads, width), normal(rows, heads), -normal(heads).exp(), normal(rows, groups, states),
        normal(rows, groups, states), normal(heads), normal(heads).abs(), offset_of(lengths, "cpu"),
        normal(len(lengths), heads, width, states),
    )  # fmt: skip
    return given._replace(**dict.fromkeys(without))


def _results(operation, given, options):
    """Return outputs, final states and the gradients of all inputs."""
    leaves = type(given)(*(x if x is None or not x.is_floating_point() else x.requires_grad_() for x in given))
    y, final_states = operation(leaves, options, True)
    weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape)
    loss = (weights * y).sum() + final_states.square().sum()
    wanted = [x for x in leaves if x is not None and x.requires_grad]
    return [y, final_states, *torch.autograd.grad(loss, wanted)]


def _assert_same(found, expected, count):
    assert len(found) == len(expected) == count
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        assert one.numel() == 0 or distance(one, other) < 1e-12


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("without", [(), OPTIONAL, *[(name,) for name in OPTIONAL]])
@pytest.mark.parametrize(("channels", "states"), [(70, 64), (17, 200), (3, 1)])
def test_compiled_loops_equal_operations_of_pytorch(channels, states, without, options):
    """The sizes give several blocks of channels, the last of which is not full, and several tiles of rows."""
    given = _inputs(channels, states, without=without)
    _assert_same(_results(run_scan, given, options), _results(cpu.forward, given, options), 11 - len(without))


@pytest.mark.parametrize("options", [ConvOptions(False, False), ConvOptions(True, True)])
@pytest.mark.parametrize("without", [(), ("bias",), ("initial_states",), ("bias", "initial_states")])
@pytest.mark.parametrize(("channels", "width"), [(70, 4), (1, 1), (5, 20)])
def test_compiled_convolution_equals_operations_of_pytorch(channels, width, without, options):
    given = _conv_inputs(channels, width, without=without)
    _assert_same(_results(run_conv, given, options), _results(conv_cpu.forward, given, options), 6 - len(without))


@pytest.mark.parametrize("options", SSD_OPTIONS)
@pytest.mark.parametrize("without", [(), SSD_OPTIONAL, *[(name,) for name in SSD_OPTIONAL]])
@pytest.mark.parametrize("sizes", [(6, 25, 2, 200), (3, 1, 1, 5), (2, 100, 1, 128)])
def test_compiled_recurrence_equals_operations_of_pytorch(sizes, without, options):
    """In the first and last sizes blocks of channels end within a head, and the last block of a group is not full."""
    given = _ssd_inputs(*sizes, without=without)
    _assert_same(_results(run_ssd, given, options), _results(ssd_cpu.forward, given, options), 10 - len(without))


THREADED = {
    "scan": (run_scan, OPTIONS[1], lambda: _inputs(70, 64, dtype=torch.float32)),
    "convolution": (run_conv, ConvOptions(True, True), lambda: _conv_inputs(70, 4, dtype=torch.float32)),
    "ssd": (run_ssd, SSD_OPTIONS[1], lambda: _ssd_inputs(2, 100, 1, 128, dtype=torch.float32)),
}


@pytest.mark.parametrize("operation", THREADED)
def test_the_bits_do_not_depend_on_the_number_of_threads(monkeypatch, operation):
    monkeypatch.setattr(compiled, "_THREADS_FROM", 0)
    before, (run, options, draw) = torch.get_num_threads(), THREADED[operation]
    given, results = draw(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(_results(run, given, options))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_the_bits_of_a_step_depend_neither_on_threads_nor_on_other_rows(monkeypatch):
    generator = torch.Generator().manual_seed(1)
    x, dt, B, C, table = (torch.randn(40, *n, generator=generator) for n in ((70,), (70,), (6,), (6,), (70, 6)))
    A, before = -torch.rand(70, 6, generator=generator), torch.get_num_threads()

    def step(rows):
        state = table[rows].clone()
        return selective_state_update(state, x[rows], dt[rows], A, B[rows], C[rows], dt_softplus=True), state

    expected = step(slice(None))
    monkeypatch.setattr(compiled, "_THREADS_FROM", 0)
    torch.set_num_threads(3)
    try:
        assert all(torch.equal(a, b) for a, b in zip(step(slice(None)), expected, strict=True))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b[7:9]) for a, b in zip(step(slice(7, 9)), expected, strict=True))


@pytest.mark.parametrize("norm_before_gate", [False, True])
def test_the_bits_of_the_norm_with_a_gate_do_not_depend_on_threads(monkeypatch, norm_before_gate):
    monkeypatch.setattr(compiled, "_THREADS_FROM", 0)
    generator, before, results = torch.Generator().manual_seed(1), torch.get_num_threads(), []
    x, gate, y_grad = (torch.randn(101, 30, generator=generator, requires_grad=True) for _ in range(3))
    weight = torch.randn(30, generator=generator, requires_grad=True)
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            y = gated_rms_norm(x, gate, weight, 3, norm_before_gate=norm_before_gate)
            results.append([y, *torch.autograd.grad(y, [x, gate, weight], y_grad)])
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def _thread_names():
    names = set()
    compiled.run_rows(lambda first, last: names.add(threading.current_thread().name), 100, 1)
    return names


def test_batches_of_all_sizes_share_threads(monkeypatch):
    monkeypatch.setattr(compiled, "_THREADS_FROM", 0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 5)
    compiled._pool.cache_clear()
    for sequences in range(2, 9):
        compiled.run_parts(lambda *_: None, np.arange(sequences + 1), 1)
    assert compiled._pool.cache_info().currsize == 1


@pytest.mark.skipif(not hasattr(os, "register_at_fork"), reason="this system cannot fork processes")
def test_forked_processes_start_their_own_threads(monkeypatch):
    monkeypatch.setattr(compiled, "_THREADS_FROM", 0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert "MainThread" not in _thread_names()
    child = multiprocessing.get_context("fork").Process(target=_thread_names)
    child.start()
    child.join(30)
    finished = not child.is_alive()
    child.kill()
    assert finished, "the forked process waits for threads that it does not have"
    assert child.exitcode == 0


def test_second_derivatives_are_correct():
    given = [x.requires_grad_() if x.is_floating_point() else x for x in _inputs(2, 2, lengths=[3, 0, 1])]
    assert torch.autograd.gradgradcheck(lambda *x: run_scan(ScanInputs(*x), OPTIONS[1], True), given)
    given = [x.requires_grad_() if x.is_floating_point() else x for x in _conv_inputs(2, 3, lengths=[4, 0, 1])]
    options = ConvOptions(True, True)
    assert torch.autograd.gradgradcheck(lambda *x: run_conv(ConvInputs(*x), options, True), given)
    given = [x.requires_grad_() if x.is_floating_point() else x for x in _ssd_inputs(2, 1, 1, 2, lengths=[3, 0, 1])]
    options = SsdOptions(True, True, 0.0, math.inf)
    assert torch.autograd.gradgradcheck(lambda *x: run_ssd(SsdInputs(*x), options, True), given)


@numba.njit
def _exponentials(x, y):
    for k in range(len(x)):
        y[k] = exponential(x[k])


@pytest.mark.parametrize(("dtype", "limit"), [(np.float32, 86.9), (np.float64, 707.0)])
def test_the_exponential_is_accurate_to_the_last_bits(dtype, limit):
    x = np.linspace(-limit, limit, 200_001).astype(dtype)
    y = np.empty_like(x)
    _exponentials(x, y)
    expected = np.exp(x.astype(np.longdouble))
    assert np.abs(y.astype(np.longdouble) / expected - 1).max() < 2 * np.finfo(dtype).eps
    special = np.array([np.nan, np.inf, -np.inf, 0, -2 * limit, 2 * limit], dtype)
    y = np.empty_like(special)
    _exponentials(special, y)
    assert np.isnan(y[0])
    assert y[1:].tolist() == [np.inf, 0, 1, 0, np.inf]


@numba.njit
def _softplus(x, y):
    for k in range(len(x)):
        y[k] = softplus(x[k])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_softplus_is_accurate(dtype):
    x = np.linspace(-80, 80, 100_001).astype(dtype)
    y = np.empty_like(x)
    _softplus(x, y)
    exact = x.astype(np.longdouble)
    expected = np.where(exact > 0, exact, 0) + np.log1p(np.exp(-np.abs(exact)))
    assert np.abs(y.astype(np.longdouble) / expected - 1).max() < 4 * np.finfo(dtype).eps


def test_a_nan_reaches_the_outputs():
    given = _inputs(3, 2)
    for name in ("u", "delta", "A", "B", "C", "D", "z", "delta_bias", "initial_states"):
        damaged = given._replace(**{name: torch.full_like(getattr(given, name), torch.nan)})
        assert run_scan(damaged, OPTIONS[1], False)[0].isnan().all(), name
    given = _ssd_inputs(2, 1, 1, 2)
    for name in ("x", "dt", "A", "B", "C", "D", "dt_bias", "initial_states"):
        damaged = given._replace(**{name: torch.full_like(getattr(given, name), torch.nan)})
        assert run_ssd(damaged, SSD_OPTIONS[1], False)[0].isnan().all(), name


@pytest.mark.slow
def test_loops_from_the_cache_have_the_bits_of_newly_compiled_ones(root, tmp_path):
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, str(root / "tests" / "tools" / "compiled_bits.py")]
    new, cached = (
        subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout for _ in range(2)
    )
    assert new == cached
    assert len(new.splitlines()) == 10
