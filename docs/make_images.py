"""Draw the pictures of simulated showers in the README and the docs: python docs/make_images.py."""

from pathlib import Path

import numpy as np

import supa
from supa.comparison.figures import histogram_figures
from supa.plotting import plot_profiles, plot_shower

IMAGES = Path(__file__).parent / "images"


def main() -> None:
    """Draw one shower, the profiles of many showers, and the comparison of a flawed sample with true showers."""
    showers = supa.simulate(500, "standard", seed=4, keep="complete", record="particles")
    deep = np.bincount(showers.hits.group_of_row(), showers.layer == 2, minlength=len(showers))
    # Not too many hits for a picture, and many of them in the last layer.
    best = int(np.argmax(np.where(showers.num_hits < 200, deep, -1)))
    plot_shower(showers[best]).savefig(IMAGES / "shower.png", dpi=110)
    plot_profiles(supa.simulate(20_000, "standard", seed=4)).savefig(IMAGES / "profiles.png", dpi=100)
    true = supa.simulate(10_000, seed=1)
    comparison = supa.compare(true, flawed_showers(), names=("true", "flawed generator"), multivariate=False)
    histogram_figures(comparison)[0].savefig(IMAGES / "comparison.png", dpi=110)


def flawed_showers() -> supa.Showers:
    """Return showers with a typical flaw of a generative model: the hits of layer 1 are 7 % too close to the axis."""
    showers = supa.simulate(10_000, seed=2)
    narrower = np.where(showers.layer == 1, 0.93, 1.0)
    return supa.from_hits(
        showers.config,
        offset=showers.offset,
        incident_energy=showers.incident_energy,
        x=showers.x * narrower,
        y=showers.y * narrower,
        energy=showers.energy,
        slice=showers.slice,
    )


if __name__ == "__main__":
    main()
