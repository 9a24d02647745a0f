"""Make the pictures of the README and the docs anew: python docs/make_images.py."""

from pathlib import Path

import numpy as np

import supa
from supa.comparison.figures import histogram_figures
from supa.plotting import plot_profiles, plot_shower

IMAGES = Path(__file__).parent / "images"


def main() -> None:
    """Draw a shower of typical size that reaches every layer, the profiles of many, and a comparison."""
    showers = supa.simulate(500, "standard", seed=4, keep="complete", record="particles")
    typical = int(np.argmin(np.abs(showers.num_hits - 140)))
    plot_shower(showers[typical]).savefig(IMAGES / "shower.png", dpi=110)
    plot_profiles(supa.simulate(20_000, "standard", seed=4)).savefig(IMAGES / "profiles.png", dpi=90)
    true, made = supa.simulate(10_000, seed=1), supa.simulate(10_000, "reference", seed=2)
    comparison = supa.compare(true, made, names=("standard", "reference"), multivariate=False)
    histogram_figures(comparison)[0].savefig(IMAGES / "comparison.png", dpi=110)


if __name__ == "__main__":
    main()
