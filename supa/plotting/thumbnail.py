"""A small picture of one shower for notebooks, drawn as SVG without matplotlib."""

import numpy as np

from supa.plotting.geometry import hit_depths, relative_log
from supa.plotting.style import COLOURS
from supa.showers import Showers

_WIDTH, _HEIGHT, _MARGIN = 360, 150, 12  # pixels
_MOST_HITS = 1000


def thumbnail(shower: Showers) -> str:
    """Draw the hits of one shower from the side.

    Args:
        shower: Showers of length one.

    Returns:
        SVG text: depth from left to right, y upwards, colours by readout layer, sizes by energy. Of more than 1000 hits
        those with the largest energies are drawn.
    """
    config, energy = shower.config, shower.energy.astype(np.float64)
    chosen = np.argsort(-energy, kind="stable")[:_MOST_HITS][::-1]
    depth, y = hit_depths(shower)[chosen], shower.y[chosen].astype(np.float64)
    radius = 1.2 + 3 * relative_log(energy[chosen], float(energy.max(initial=0.0)))
    reach = max(1.0, float(np.abs(y).max(initial=0.0)))
    longest = max(config.slice_spacing * (config.num_slices - 1), config.slice_spacing)
    across = _MARGIN + (_WIDTH - 2 * _MARGIN) * depth / longest
    up = _HEIGHT / 2 - (_HEIGHT / 2 - _MARGIN) * y / reach
    dots = "".join(
        f'<circle cx="{a:.1f}" cy="{b:.1f}" r="{r:.1f}" fill="{COLOURS[layer % len(COLOURS)]}" fill-opacity="0.8"/>'
        for a, b, r, layer in zip(across, up, radius, shower.layer[chosen].tolist(), strict=True)
    )
    axis = f'<line x1="{_MARGIN}" y1="{_HEIGHT / 2}" x2="{_WIDTH - _MARGIN}" y2="{_HEIGHT / 2}" stroke="#cccccc"/>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" '
        f'viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img"><title>hits from the side: depth to the right, y upwards, '
        f"colours by layer, sizes by energy</title>{axis}{dots}</svg>"
    )
