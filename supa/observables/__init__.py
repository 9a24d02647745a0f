"""Shower-shape variables of many showers at once.

The page *Observables* of the documentation defines all of them. The modules ``calogan`` and ``calochallenge`` contain
the definitions of these two projects for their images and voxels.
"""

from supa.observables import calochallenge, calogan
from supa.observables.cells import cell_ratio, occupancy, sparsity
from supa.observables.distances import mean_pair_distance, pair_distances
from supa.observables.lateral import (
    anisotropy,
    centre_x,
    centre_y,
    mean_radius,
    radial_profile,
    width_r,
    width_x,
    width_y,
)
from supa.observables.longitudinal import (
    depth_maximum,
    depth_mean,
    depth_start,
    depth_width,
    layer_energy,
    layer_fraction,
    layer_hits,
    num_hits,
    response,
    slice_energy,
    slice_fraction,
    slice_hits,
    total_energy,
)
from supa.observables.spectra import hit_fraction, hit_spectrum, largest_hit_fraction, mean_log_hit_energy
from supa.observables.tables import hit_table, label, table
from supa.observables.tree import (
    branching_fraction,
    hit_generation,
    hit_path_length,
    max_generation,
    mean_generation,
    mean_path_length,
    num_splits,
)

__all__ = [
    "anisotropy",
    "branching_fraction",
    "calochallenge",
    "calogan",
    "cell_ratio",
    "centre_x",
    "centre_y",
    "depth_maximum",
    "depth_mean",
    "depth_start",
    "depth_width",
    "hit_fraction",
    "hit_generation",
    "hit_path_length",
    "hit_spectrum",
    "hit_table",
    "label",
    "largest_hit_fraction",
    "layer_energy",
    "layer_fraction",
    "layer_hits",
    "max_generation",
    "mean_generation",
    "mean_log_hit_energy",
    "mean_pair_distance",
    "mean_path_length",
    "mean_radius",
    "num_hits",
    "num_splits",
    "occupancy",
    "pair_distances",
    "radial_profile",
    "response",
    "slice_energy",
    "slice_fraction",
    "slice_hits",
    "sparsity",
    "table",
    "total_energy",
    "width_r",
    "width_x",
    "width_y",
]
