"""Hypothesis strategies for valid configs."""

import math

from hypothesis import strategies as st

from supa import ShowerConfig


def _readout(first: int, last: int) -> st.SearchStrategy[tuple[tuple[int, int], ...]]:
    """Return a strategy for consecutive layers that cover the slices from first to last."""

    def build(cuts: set[int]) -> tuple[tuple[int, int], ...]:
        starts = [first, *sorted(cuts)]
        return tuple((a, b - 1) for a, b in zip(starts, [*starts[1:], last + 1], strict=True))

    if last <= first:
        return st.just(((first, last),))
    return st.sets(st.integers(first + 1, last), max_size=4).map(build)


_probability = st.floats(0, 1)
_energy = st.floats(0.01, 1000)
_spectrum = st.one_of(
    _energy.map(lambda e: f"{e!r}"),
    st.tuples(_energy, st.floats(1.1, 50)).map(lambda p: f"{p[0]!r}:{p[0] * p[1]!r}"),
    st.tuples(_energy, st.floats(1.1, 50)).map(lambda p: f"log:{p[0]!r}:{p[0] * p[1]!r}"),
    st.lists(_energy, min_size=1, max_size=4).map(lambda values: ",".join(map(repr, values))),
)


def _range(low: float, high: float) -> st.SearchStrategy[tuple[float, float]]:
    return st.tuples(st.floats(low, high), st.floats(low, high)).map(lambda p: (min(p), max(p)))


@st.composite
def configs(draw: st.DrawFn, *, forward: bool = False) -> ShowerConfig:
    """Draw a valid config with few slices, so that its showers are small.

    With forward=True, no direction comes close to the plane of the slices, which would amplify rounding errors.
    """
    num_slices = draw(st.integers(1, 10))
    first_stop_slice = draw(st.integers(0, num_slices))
    critical_energy = draw(st.one_of(st.just(0.0), st.floats(0, 5)))
    earliest = 0 if critical_energy > 0 else min(first_stop_slice, num_slices - 1)
    angle = st.floats(1e-3, 0.7 / num_slices if forward else math.pi / 2)
    return ShowerConfig(
        num_slices=num_slices,
        slice_spacing=draw(st.floats(0.1, 10)),
        stop_amplitude=draw(_probability),
        stop_scale=draw(st.floats(0.5, 60)),
        stop_exponent=draw(st.floats(0, 3)),
        first_stop_slice=first_stop_slice,
        split_early=draw(_probability),
        split_late=draw(_probability),
        split_late_rule=draw(st.sampled_from(["fixed", "shared"])),
        opening_angle=draw(st.tuples(angle, angle)),
        deviation=draw(st.floats(0, 0.499)),
        energy_sharing=draw(st.sampled_from(["balanced", "equal"])),
        readout_layers=draw(_readout(earliest, num_slices - 1)),
        frame=draw(st.sampled_from(["parent", "reference"])),
        critical_energy=critical_energy,
        incident_energy=draw(_spectrum),
        polar_angle=draw(_range(0, 0.6 if forward else 1.5)),
        azimuth=draw(_range(-2 * math.pi, 2 * math.pi)),
        impact_spread=draw(st.floats(0, 10)),
        num_primaries=draw(st.one_of(st.integers(1, 3), st.floats(0.1, 3).map(lambda m: f"poisson:{m!r}"))),
    )
