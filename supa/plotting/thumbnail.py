"""A small picture of one shower for notebooks, drawn as SVG without matplotlib."""

import numpy as np

from supa.arrays import FloatArray, IntArray
from supa.config import ShowerConfig
from supa.plotting.encoding import COLOURS, drawn_depth, relative_log

_WIDTH, _HEIGHT, _MARGIN = 360, 150, 12  # pixels
_MOST_HITS = 1000


def thumbnail(z: FloatArray, y: FloatArray, energy: FloatArray, layer: IntArray, config: ShowerConfig) -> str:
    """Draw the hits of one shower from the side.

    Args:
        z: (hits,) depth in the length unit, NaN if unknown.
        y: (hits,) position in the length unit.
        energy: (hits,) energy, GeV.
        layer: (hits,) readout layer.
        config: Config of the shower.

    Returns:
        SVG text: depth from left to right, y upwards, colours by readout layer, sizes by energy. Of more than 1000 hits
        those with the largest energies are drawn.
    """
    chosen = np.argsort(-energy, kind="stable")[:_MOST_HITS][::-1]
    radius = 1.2 + 3 * relative_log(energy[chosen], float(energy.max(initial=0.0)))
    reach = max(1.0, float(np.abs(y).max(initial=0.0)))
    longest = config.slice_spacing * max(config.num_slices - 1, 1)
    across = _MARGIN + (_WIDTH - 2 * _MARGIN) * drawn_depth(z, layer, config)[chosen] / longest
    up = _HEIGHT / 2 - (_HEIGHT / 2 - _MARGIN) * y[chosen] / reach
    dots = "".join(
        f'<circle cx="{a:.1f}" cy="{b:.1f}" r="{r:.1f}" fill="{COLOURS[k % len(COLOURS)]}" fill-opacity="0.8"/>'
        for a, b, r, k in zip(across, up, radius, layer[chosen].tolist(), strict=True)
    )
    axis = f'<line x1="{_MARGIN}" y1="{_HEIGHT / 2}" x2="{_WIDTH - _MARGIN}" y2="{_HEIGHT / 2}" stroke="#cccccc"/>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" '
        f'viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img"><title>hits from the side: depth to the right, y upwards, '
        f"colours by layer, sizes by energy</title>{axis}{dots}</svg>"
    )
