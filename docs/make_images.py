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
    # Not too many hits for a picture, and several in the last layer.
    best = int(np.argmax(np.where(showers.num_hits < 200, deep, -1)))
    plot_shower(showers[best]).savefig(IMAGES / "shower.png", dpi=110)
    plot_profiles(supa.simulate(20_000, "standard", seed=4)).savefig(IMAGES / "profiles.png", dpi=100)
    # The reference code rotates the children's directions by the transposed matrix, which shows in the radii.
    true, generated = supa.simulate(10_000, seed=1), supa.simulate(10_000, "reference", seed=2)
    comparison = supa.compare(true, generated, names=("standard", "reference"), multivariate=False)
    histogram_figures(comparison)[0].savefig(IMAGES / "comparison.png", dpi=100)


if __name__ == "__main__":
    main()
