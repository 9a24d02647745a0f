"""Observables of one shower in plain Python, following the definitions in docs/explanation/observables.md."""

import itertools
import math

import numpy as np

NAN = math.nan


def mean(weights, values):
    total = math.fsum(weights)
    return math.fsum(w * v for w, v in zip(weights, values, strict=True)) / total if total > 0 else NAN


def width(weights, values):
    centre = mean(weights, values)
    return NAN if math.isnan(centre) else math.sqrt(mean(weights, [(v - centre) ** 2 for v in values]))


def divided(a, b):
    return a / b if b else NAN


def counted(values, edges):
    """Count the values in each bin. The last bin includes its upper edge."""
    return [int(c) for c in summed(values, [1] * len(values), edges)]


def summed(values, weights, edges):
    result = []
    for k, (low, high) in enumerate(itertools.pairwise(edges)):
        last = k == len(edges) - 2
        inside = [low <= v < high or (last and v == high) for v in values]
        result.append(math.fsum(w for w, i in zip(weights, inside, strict=True) if i))
    return result


def observables(shower, grid=None, radii=(0, 1, 2, 5), fractions=(1e-4, 1e-2, 1), distances=(0, 1, 3, 10)):
    """Compute the observables of one shower, which is a Showers of length one."""
    config, incident = shower.config, float(shower.incident_energy[0])
    x, y, energy = ([float(v) for v in column] for column in (shower.x, shower.y, shower.energy))
    layer, slices = [int(v) for v in shower.layer], [int(v) for v in shower.slice]
    known = 255 not in slices
    n = len(x)
    r = [math.hypot(a, b) for a, b in zip(x, y, strict=True)]
    z = [s * config.slice_spacing if s != 255 else NAN for s in slices]
    result = {
        "num_hits": n,
        "total_energy": math.fsum(energy),
        "response": math.fsum(energy) / incident,
        "radial_profile": [e / incident for e in summed(r, energy, radii)],
        "hit_spectrum": counted([e / incident for e in energy], fractions),
        "largest_hit_fraction": max(energy) / incident if n else NAN,
    }
    logarithms = [math.log10(e / incident) for e in energy if e > 0]
    result["mean_log_hit_energy"] = mean([1] * len(logarithms), logarithms)
    for name, where, number in (("layer", layer, config.num_layers), ("slice", slices, config.num_slices)):
        if name == "layer" or known:
            groups = [[e for e, w in zip(energy, where, strict=True) if w == k] for k in range(number)]
            result[f"{name}_hits"] = [len(group) for group in groups]
            result[f"{name}_energy"] = [math.fsum(group) for group in groups]
            result[f"{name}_fraction"] = [math.fsum(group) / incident for group in groups]
    result["depth_mean"] = mean(energy, z) if known else NAN
    result["depth_width"] = width(energy, z) if known else NAN
    result["depth_start"] = min(z) if known and n else NAN
    result["depth_maximum"] = NAN
    if known and math.fsum(energy) > 0:
        per_slice = result["slice_energy"]
        result["depth_maximum"] = per_slice.index(max(per_slice)) * config.slice_spacing
    lateral = {name: [] for name in ("centre_x", "centre_y", "width_x", "width_y", "mean_radius", "width_r")}
    result["anisotropy"] = []
    for number in range(config.num_layers):
        rows = [k for k in range(n) if layer[k] == number]
        weights = [energy[k] for k in rows]
        columns = {name: [column[k] for k in rows] for name, column in (("x", x), ("y", y), ("r", r))}
        for name in ("x", "y"):
            lateral[f"centre_{name}"].append(mean(weights, columns[name]))
        lateral["mean_radius"].append(mean(weights, columns["r"]))
        for name in ("x", "y", "r"):
            lateral[f"width_{name}"].append(width(weights, columns[name]))
        xx, yy = (math.fsum(v * v for v in columns[name]) for name in ("x", "y"))
        result["anisotropy"].append(divided(yy - xx, yy + xx))
    result |= lateral
    for lateral_only in (False, True):
        pairs = [
            math.sqrt((x[i] - x[j]) ** 2 + (y[i] - y[j]) ** 2 + (0 if lateral_only else z[i] - z[j]) ** 2)
            for i in range(n)
            for j in range(i)
        ]
        name = " lateral" if lateral_only else ""
        result[f"mean_pair_distance{name}"] = math.fsum(pairs) / len(pairs) if pairs else NAN
        if known or lateral_only:
            result[f"pair_distances{name}"] = counted(pairs, distances)
    if grid is not None:
        result |= cells(grid, layer, x, y, energy)
    if shower.particles is not None:
        result |= tree(shower.particles, config.slice_spacing)
    return result


def cells(grid, layer, x, y, energy):
    occupancy, cell_ratio = [], []
    for number, part in enumerate(grid.parts):
        if part is None:
            occupancy.append(NAN)
            cell_ratio.append(NAN)
            continue
        content = [0.0] * (part.shape[0] * part.shape[1])
        for k in range(len(x)):
            place = int(part.cell(x[k], y[k])) if layer[k] == number else -1
            if place >= 0:
                content[place] += energy[k]
        occupancy.append(sum(c > 0 for c in content) / len(content))
        first, second = sorted([*content, 0.0], reverse=True)[:2]
        cell_ratio.append(divided(first - second, first + second) if len(content) > 1 else NAN)
    return {"occupancy": occupancy, "sparsity": [1 - value for value in occupancy], "cell_ratio": cell_ratio}


def tree(particles, spacing):
    parent, slices, fate = (particles[name].tolist() for name in ("parent", "slice", "fate"))
    place = np.stack([particles["x"], particles["y"], particles["slice"] * spacing], axis=1).astype(float).tolist()
    generations, lengths = [], []
    for leaf in range(len(parent)):
        if fate[leaf] != 0:
            continue
        generation, length, here = 0, 0.0, leaf
        while parent[here] >= 0:
            length += math.dist(place[here], place[parent[here]])
            here = parent[here]
            generation += fate[here] == 1
        assert slices[here] == 0
        generations.append(generation)
        lengths.append(length)
    return {
        "hit_generation": generations,
        "hit_path_length": lengths,
        "mean_generation": mean([1] * len(generations), generations),
        "max_generation": max(generations, default=NAN),
        "mean_path_length": mean([1] * len(lengths), lengths),
        "num_splits": fate.count(1),
        "branching_fraction": divided(fate.count(1), fate.count(1) + fate.count(2)),
    }
