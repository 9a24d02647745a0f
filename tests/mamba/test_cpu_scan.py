"""The compiled loops of the scan on a CPU: blocks of channels, tiles, threads, second derivatives, exponentials."""

import numba
import numpy as np
import pytest
import torch
from sequences import distance, offset_of

from supa_mamba.ops.exponential import exponential
from supa_mamba.ops.selective_scan import walk_compiled, walk_recorded
from supa_mamba.ops.selective_scan.walk import Walk

LENGTHS = [5, 0, 40, 1, 33, 16, 0]


def _inputs(channels, states, *, initial, dtype=torch.float64):
    rows, generator = sum(LENGTHS), torch.Generator().manual_seed(1)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype)

    return Walk(
        normal(rows, channels), normal(rows, channels).exp(), -normal(states, channels).exp(), normal(rows, states),
        normal(rows, states), normal(len(LENGTHS), states, channels) if initial else None, offset_of(LENGTHS, "cpu"),
    )  # fmt: skip


def _results(walk, given, **options):
    """Return outputs, final states and the gradients of all inputs."""
    leaves = Walk(*(x if x is None or not x.is_floating_point() else x.requires_grad_() for x in given))
    y, final_states = walk(leaves, **options)
    weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape)
    loss = (weights * y).sum() + final_states.square().sum()
    wanted = [x for x in leaves if x is not None and x.requires_grad]
    return [y, final_states, *torch.autograd.grad(loss, wanted)]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("initial", [False, True])
@pytest.mark.parametrize(("channels", "states"), [(70, 64), (17, 200), (3, 1), (260, 16)])
def test_compiled_loops_equal_operations_of_pytorch(channels, states, initial, reverse):
    """The sizes give several blocks of channels, the last of which is not full, and several tiles of rows."""
    given = _inputs(channels, states, initial=initial)
    found = _results(walk_compiled.walk, given, reverse=reverse, return_final_states=True)
    expected = _results(walk_recorded.walk, given, reverse=reverse)
    assert len(found) == len(expected) == (8 if initial else 7)
    for one, other in zip(found, expected, strict=True):
        assert distance(one, other) < 1e-12


def test_the_bits_do_not_depend_on_the_number_of_threads(monkeypatch):
    monkeypatch.setattr(walk_compiled, "_THREADS_FROM", 0)
    given, before = _inputs(70, 64, initial=True, dtype=torch.float32), torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(_results(walk_compiled.walk, given, reverse=False, return_final_states=True))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_second_derivatives_are_correct():
    rows, offset = 4, torch.tensor([0, 3, 3, 4])
    generator = torch.Generator().manual_seed(2)
    shapes = [(rows, 2), (rows, 2), (3, 2), (rows, 3), (rows, 3), (3, 3, 2)]
    leaves = [torch.rand(shape, generator=generator, dtype=torch.float64, requires_grad=True) for shape in shapes]

    def walk(*given):
        return walk_compiled.walk(Walk(*given, offset), reverse=True, return_final_states=True)

    assert torch.autograd.gradgradcheck(walk, leaves)


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


def test_a_nan_reaches_the_outputs():
    given = _inputs(3, 2, initial=False)
    for name in ("x", "step", "A", "B", "C"):
        damaged = given._replace(**{name: getattr(given, name).clone().index_fill_(0, torch.tensor(0), torch.nan)})
        y, _ = walk_compiled.walk(damaged, reverse=False, return_final_states=False)
        assert y[0].isnan().any(), name
