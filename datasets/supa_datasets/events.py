"""Events: the hits of many showers in one sequence, each labelled by its shower."""

import numpy as np

from supa import Ragged, Showers
from supa.checks import check_int, check_real, counted
from supa.ragged import counts_to_offsets


def overlay_events(
    showers: Showers, mean: float, *, seed: int, half_width: float = 20.0, duration: float = 50.0
) -> Ragged:
    """Overlay showers into events, as pile-up in a detector does: each shower at an impact point and a time of its own.

    The number of showers of an event follows a Poisson distribution. Consecutive showers form an event; those at the
    end that do not fill one are left out. Impact points are uniform in a square, and times in an interval. The hits of
    an event are ordered by time. The random numbers of an event, that of its showers included, depend on the seed and
    the number of the event only, so further showers do not change the first events.

    Args:
        showers: Showers whose slices are known.
        mean: Mean number of showers per event, at least 1.
        seed: Random seed, from 0 to 2^63 - 1.
        half_width: Half of the side of the square of impact points (length unit), at least 0.
        duration: Length of the interval of times (length unit: light travels one unit of length in one of time), at
            least 0. The time of a hit is that of its shower plus its depth.

    Returns:
        Table with one group per event. The columns are x, y, z (length unit), energy (GeV) and time (length unit),
        float32; ``shower``, the place of the shower in ``showers``, int64; and ``impact_x``, ``impact_y`` and
        ``impact_time``, the impact point and the time of the shower (length unit), float32.

    Raises:
        ValueError: If an argument is out of range, slices are unknown, or the showers do not fill one event.

    Example:
        >>> import supa
        >>> from supa_datasets import overlay_events
        >>> events = overlay_events(supa.simulate(1000, "standard", seed=1), 200, seed=2)
        >>> len(events), list(events.columns)
        (4, ['x', 'y', 'z', 'energy', 'time', 'impact_x', 'impact_y', 'impact_time', 'shower'])
        >>> first = events["time"][: events.offset[1]]
        >>> bool((first[1:] >= first[:-1]).all())
        True
    """
    check_real(lambda x: x >= 1, "of at least 1", "mean", mean)
    check_real(lambda x: x >= 0, "of at least 0", "half_width", half_width)
    check_real(lambda x: x >= 0, "of at least 0", "duration", duration)
    check_int(0, 2**63 - 1, "seed", seed)
    if not isinstance(showers, Showers):
        raise ValueError(f"showers: a {type(showers).__name__} was given, but it must be Showers; load a file first.")
    if not showers.slices_known:
        raise ValueError("showers: the slices of some hits are unknown, but the time of a hit depends on its depth.")
    placed = [np.zeros((0, 3))]
    sizes: list[int] = []
    remaining = len(showers)
    while True:
        generator = np.random.Generator(np.random.Philox(key=[seed, len(sizes)]))
        size = int(generator.poisson(mean))
        if size > remaining or remaining == 0:
            break
        placed.append(generator.uniform(-1, 1, (size, 3)))
        sizes.append(size)
        remaining -= size
    if not sizes:
        raise ValueError(f"showers: {counted(len(showers), 'shower')} do not fill one event of {mean:g} on average.")
    x0, y0, t0 = np.concatenate(placed).T
    showers = showers[: len(x0)]
    shower = showers.hits.group_of_row()
    event = np.repeat(np.arange(len(sizes)), sizes)[shower]
    x, y, start = half_width * x0[shower], half_width * y0[shower], duration * (t0[shower] + 1) / 2
    time = start + showers.z
    order = np.lexsort((time, event))
    columns = {
        "x": showers.x + x,
        "y": showers.y + y,
        "z": showers.z,
        "energy": showers.energy,
        "time": time,
        "impact_x": x,
        "impact_y": y,
        "impact_time": start,
    }
    table = {name: column[order].astype(np.float32) for name, column in columns.items()}
    offset = counts_to_offsets(np.bincount(event, minlength=len(sizes)))
    return Ragged(table | {"shower": shower[order]}, offset)
