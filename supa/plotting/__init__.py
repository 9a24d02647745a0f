"""Figures of showers: single showers, images of layers, profiles of samples, and errors of energy estimates."""

from supa.plotting.event import plot_shower
from supa.plotting.image import plot_image
from supa.plotting.interactive import plot_interactive, write_page
from supa.plotting.profiles import plot_profiles
from supa.plotting.resolution import plot_resolution

__all__ = ["plot_image", "plot_interactive", "plot_profiles", "plot_resolution", "plot_shower", "write_page"]
