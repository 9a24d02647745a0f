"""Choice of the number of drafted hits of a round, from measured acceptance and costs."""

import math
import time

import numpy as np

from supa import Run
from supa.arrays import FloatArray
from supa_mamba.generator.model import ShowerGenerator
from supa_mamba.generator.sampling.cpu_batches import Queue
from supa_mamba.generator.sampling.speculation.batches import new_rounds, profile_choice
from supa_mamba.generator.sampling.speculation.drafts import Draft
from supa_mamba.generator.sampling.speculation.rounds import Counts

MOST_DRAFTED = 64
"""Largest number of drafted hits of a round."""

_LONG = 8  # drafted hits of a round of the measurement, the largest choice
_WARM_UP, _ROUNDS = 2, 6
_SHOWERS, _FEWEST_SHOWERS = 64, 32
_SEED = 0x3C6EF372FE94F82B
"""Arbitrary constant, which separates the measured showers from those of a sample."""


def chosen_length(model: ShowerGenerator, draft: Draft, run: Run, slots: int) -> int:
    """Choose the number of drafted hits of a round.

    Some rounds are timed with one and with eight drafted hits. The time of other numbers is interpolated. The choice
    depends on the machine, but the showers do not depend on the choice.

    Args:
        model: The generator.
        draft: The draft.
        run: The sample.
        slots: Number of showers that are sampled at the same time.

    Returns:
        The number with the most hits per second, from 1 to 8.
    """
    slots = min(slots, _SHOWERS)
    counts, long = _measured(model, draft, run, slots, _LONG)
    if slots < _FEWEST_SHOWERS:
        counts, _ = _measured(model, draft, run, _FEWEST_SHOWERS, _LONG)
    _, short = _measured(model, draft, run, slots, 1)
    return best_length(acceptance(counts), short, long)


def acceptance(counts: Counts) -> FloatArray:
    """Return the shares of accepted hits, by their place in the draft.

    Args:
        counts: Numbers of tested and accepted hits.

    Returns:
        (K,) shares; 0 if no hit was tested.
    """
    share: FloatArray = counts.accepted / np.maximum(counts.tested, 1)
    return share


def best_length(share: FloatArray, short: float, long: float) -> int:
    """Return the number of drafted hits with the most hits per second.

    A round with k drafted hits yields the accepted ones and, if one is rejected, its replacement. On average these are
    1 + a_1 + a_1 a_2 + ... hits, up to the product of k - 1 shares.

    Args:
        share: (K,) shares of accepted hits.
        short: Time of a round with one drafted hit, or NaN if it is unknown.
        long: Time of a round with K drafted hits, or NaN if it is unknown.

    Returns:
        The number, from 1 to K.

    Example:
        >>> import numpy as np
        >>> from supa_mamba.generator.sampling.speculation.length import best_length
        >>> best_length(np.full(8, 0.9), short=1.0, long=2.0), best_length(np.full(8, 0.1), short=1.0, long=8.0)
        (8, 1)
    """
    length = len(share)
    if not math.isfinite(short + long):  # all showers ended before
        return length
    hits = np.cumsum(np.concatenate([[1.0], np.cumprod(share)[:-1]]))
    taken = np.interp(np.arange(1, length + 1), [1, length], [short, long])
    return int(np.argmax(hits / taken)) + 1


def _measured(model: ShowerGenerator, draft: Draft, run: Run, slots: int, length: int) -> tuple[Counts, float]:
    """Return the counts of some rounds, and the mean time of a round."""
    rounds = new_rounds(model, draft, _SEED, slots, length)
    queue = Queue(model, run, _SEED, 2 * slots, profile_choice(model, run.config, _SEED))
    taken, timed = 0.0, 0
    rows = queue.take(np.arange(slots))
    rounds.enter(rows)
    for number in range(_WARM_UP + _ROUNDS):
        if not len(rows.shower):
            break
        start = time.perf_counter()
        _, is_done = rounds.step(rows)
        if number >= _WARM_UP:
            taken, timed = taken + time.perf_counter() - start, timed + 1
        rows = rows.selected(~is_done)
    counts = rounds.counts()
    rounds.close()
    return counts, taken / timed if timed else math.nan
