"""Compiled loop for steps of causal attention. One row is processed after another, with its keys and values."""

import math
from typing import Any

import numpy as np

from supa.compiler import fast_kernel, fast_stage
from supa_mamba.ops.compiled_math import exponential


@fast_stage
def _rotate(x: Any, cos: Any, sin: Any) -> None:
    """Rotate the pairs of one head in place."""
    half = len(cos)
    for d in range(half):
        first, second = x[d], x[d + half]
        x[d] = first * cos[d] - second * sin[d]
        x[d + half] = first * sin[d] + second * cos[d]


@fast_stage
def _score(q: Any, keys: Any, scores: Any) -> None:
    """Compute the scalar products of a query with keys."""
    for t in range(len(scores)):
        total = q.dtype.type(0)
        for d in range(len(q)):
            total += q[d] * keys[t, d]
        scores[t] = total


@fast_stage
def _attend(scores: Any, values: Any, scale: Any, y: Any) -> None:
    """Average the values with the softmax of scaled scores."""
    largest = scores[0]
    for t in range(len(scores)):
        largest = max(largest, scores[t])
    for t in range(len(scores)):
        scores[t] = exponential((scores[t] - largest) * scale)
    total = scores.dtype.type(0)
    for t in range(len(scores)):
        total += scores[t]
    y[:] = 0.0
    for t in range(len(scores)):
        weight = scores[t] / total
        for d in range(len(y)):
            y[d] += weight * values[t, d]


@fast_kernel
def take_steps(
    qkv: Any, keys: Any, values: Any, lengths: Any, rates: Any, slots: Any, first: int, last: int, y: Any
) -> None:
    """Take one step of some sequences.

    Args:
        qkv: (M, 3, H, D) queries, keys and values of the new rows. Queries and keys are rotated in place.
        keys: (R, L, H, D) stored keys, to which the new ones are added.
        values: (R, L, H, D) stored values, to which the new ones are added.
        lengths: (R,) int64 numbers of stored rows, which are increased.
        rates: (P,) float64 angles by position of the rotary embedding; none for no rotation.
        slots: (M,) int64 slots of the sequences. Those of finished sequences are negative.
        first: First sequence.
        last: Sequence after the last one.
        y: (M, H, D) result, which is written.
    """
    heads, width = y.shape[1:]
    scale = y.dtype.type(1.0 / math.sqrt(width))
    scores = np.empty(keys.shape[1], y.dtype)
    cos, sin = np.empty(len(rates), y.dtype), np.empty(len(rates), y.dtype)
    for m in range(first, last):
        slot = slots[m]
        if slot < 0:
            y[m] = 0.0
            continue
        length = lengths[slot]
        for p in range(len(rates)):
            cos[p], sin[p] = math.cos(length * rates[p]), math.sin(length * rates[p])
        for h in range(heads):
            q, k = qkv[m, 0, h], qkv[m, 1, h]
            _rotate(q, cos, sin)
            _rotate(k, cos, sin)
            keys[slot, length, h] = k
            values[slot, length, h] = qkv[m, 2, h]
            seen = scores[: length + 1]
            _score(q, keys[slot, :, h], seen)
            _attend(seen, values[slot, :, h], scale, y[m, h])
        lengths[slot] = length + 1
