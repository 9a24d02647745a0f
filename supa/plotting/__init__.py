"""Figures of showers: one in three dimensions, the image of a layer, the profiles of many, and errors of energies."""

from supa.plotting.event import plot_shower
from supa.plotting.image import plot_image
from supa.plotting.profiles import plot_profiles
from supa.plotting.resolution import plot_resolution

__all__ = ["plot_image", "plot_profiles", "plot_resolution", "plot_shower"]
