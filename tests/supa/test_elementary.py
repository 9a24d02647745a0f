"""The elementary functions agree with the extended precision of NumPy."""

import numpy as np
import pytest

from supa.compiler import kernel
from supa.elementary import exp, log, sin_cos, sin_cos_turn


@kernel
def _sin_cos(x):  # type: ignore[no-untyped-def]
    out = np.empty((len(x), 2))
    for i in range(len(x)):
        out[i, 0], out[i, 1] = sin_cos(x[i])
    return out


@kernel
def _sin_cos_turn(words):  # type: ignore[no-untyped-def]
    out = np.empty((len(words), 2))
    for i in range(len(words)):
        out[i, 0], out[i, 1] = sin_cos_turn(words[i])
    return out


def test_sin_cos_is_accurate():
    x = np.linspace(-np.pi / 2, np.pi / 2, 20001)
    result = _sin_cos(x)
    assert np.abs(result[:, 0] - np.sin(x.astype(np.longdouble))).max() < 4e-16
    assert np.abs(result[:, 1] - np.cos(x.astype(np.longdouble))).max() < 4e-16


def test_sin_cos_turn_is_accurate():
    rng = np.random.default_rng(0)
    corners = np.arange(16, dtype=np.uint64) * np.uint64(2**28)
    words = np.concatenate([corners, corners + np.uint64(1), rng.integers(0, 2**32, 50000, dtype=np.uint64)])
    angle = words.astype(np.longdouble) * (2 * np.arccos(np.longdouble(-1)) / np.longdouble(2**32))
    result = _sin_cos_turn(words)
    assert np.abs(result[:, 0] - np.sin(angle)).max() < 3e-16
    assert np.abs(result[:, 1] - np.cos(angle)).max() < 3e-16


def test_quarter_turns_are_exact():
    words = np.array([0, 2**30, 2**31, 3 * 2**30], dtype=np.uint64)
    assert _sin_cos_turn(words).tolist() == [[0, 1], [1, 0], [0, -1], [-1, 0]]


@pytest.mark.parametrize("scale", [1e-300, 1e-10, 0.5, 1, 2, 1e5, 1e300])
def test_log_is_accurate(scale):
    x = scale * np.linspace(0.6, 1.7, 2001)
    expected = np.log(x.astype(np.longdouble))
    error = np.abs(np.array([log(v) for v in x]) - expected)
    assert (error <= 2 * np.spacing(np.abs(expected).astype(float)) + 1e-17).all()


def test_exp_is_accurate():
    x = np.linspace(-690, 690, 20001)
    expected = np.exp(x.astype(np.longdouble))
    assert np.abs(np.array([exp(v) for v in x]) / expected - 1).max() < 4e-16
