"""Interactive figures of showers in three dimensions, and the web pages that contain them."""

import json
import math
from html import escape
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from supa.arrays import FloatArray
from supa.atomic_file import atomic_write
from supa.checks import counted
from supa.physics import UNKNOWN_SLICE
from supa.plotting.encoding import COLOURS, energy_decades, relative_log
from supa.plotting.geometry import hit_depths, hit_slices
from supa.plotting.style import GRID, INK, hits_text, shower_name
from supa.presets import preset_name
from supa.showers import Showers

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

MAX_SHOWERS = 6
"""The largest number of showers that one figure shows side by side."""
_GREY = "#8c8c8c"
_SMALLEST, _LARGEST = 4.0, 15.0  # diameters of markers in pixels
_LEGEND_ENTRIES = 8
_SCENE_HEIGHT = 420  # pixels, on a narrow page
_NARROW_MARGIN = {"l": 8, "r": 8, "t": 124, "b": 190}  # pixels


def plot_interactive(showers: Showers) -> "Figure":
    """Draw one shower, or several side by side, in three dimensions as an interactive figure.

    The figure shows the hits and, where the particles were recorded, the edges of the tree. The buttons colour the hits
    by readout layer or by primary, and show or hide the tree. The slider hides everything deeper than a slice. Hover
    over a hit to read its energy, slice, layer, primary and position.

    Args:
        showers: 1 to 6 showers.

    Returns:
        A ``plotly.graph_objects.Figure``, which notebooks display and `write_page` writes to a web page.

    Raises:
        ValueError: If there is no shower, if there are more than 6, or if the package plotly is not installed.

    Example:
        >>> import supa
        >>> from supa.plotting import plot_interactive
        >>> showers = supa.simulate(5, "two-primaries", seed=1, record="particles")
        >>> figure = plot_interactive(showers[:2])
        >>> figure.layout.title.text
        '2 showers of two-primaries'
    """
    try:
        from plotly.subplots import make_subplots
    except ImportError:
        raise ValueError("Interactive figures need the package plotly: pip install 'supa-showers[display]'.") from None
    if not 1 <= len(showers) <= MAX_SHOWERS:
        raise ValueError(
            f"An interactive figure shows 1 to {MAX_SHOWERS} showers, got {len(showers):,}; select some, such as "
            "showers[:2]."
        )
    several = len(showers) > 1
    titles = [_title(shower) for shower in showers]
    group = f"{counted(len(showers), 'shower')} of {preset_name(showers.config) or 'a custom config'}"
    figure = make_subplots(
        rows=1,
        cols=len(showers),
        specs=[[{"type": "scene"}] * len(showers)],
        subplot_titles=titles if several else None,
    )
    traces = _Traces(showers)
    figure.add_traces(traces.traces)
    figure.update_layout(
        title={"text": group if several else titles[0], "font": {"size": 17}},
        font={"color": INK, "size": 12},
        paper_bgcolor="white",
        legend={"itemsizing": "trace", "itemclick": False, "itemdoubleclick": False},
        updatemenus=traces.menus(),
        sliders=[traces.slider()],
        hoverlabel={"align": "left"},
        **_scenes(showers),
    )
    figure.update_annotations(font={"size": 13}, yanchor="bottom")
    figure.plotly_relayout(_arrangement(figure, narrow=False))
    return figure


def write_page(figure: "Figure", path: str | PathLike[str]) -> None:
    """Write an interactive figure to a web page that needs no other file and no network.

    The page contains the library plotly.js, which takes about 5 MB. An existing file is replaced once the new one is
    complete.

    Args:
        figure: Figure of `plot_interactive`.
        path: Path of the page, such as ``"shower.html"``.

    Raises:
        FileNotFoundError: If the folder does not exist.
        OSError: If the file cannot be written.

    Example:
        >>> import supa
        >>> from supa.plotting import plot_interactive, write_page
        >>> write_page(plot_interactive(supa.simulate(1, seed=1)), "shower.html")
    """
    number = len(list(figure.select_scenes()))
    arrangements = json.dumps([_arrangement(figure, narrow=narrow) for narrow in (False, True)])
    page = _PAGE.format(
        title=escape(figure.layout.title.text or "Showers"),
        height=_SCENE_HEIGHT * number + _NARROW_MARGIN["t"] + _NARROW_MARGIN["b"],
        figure=figure.to_html(
            full_html=False,
            include_plotlyjs=True,
            div_id="showers",
            default_height="100%",
            config={"responsive": True, "displaylogo": False},
        ),
        arrangements=arrangements,
    )
    with atomic_write(path) as file:
        file.write(page.encode())


class _Traces:
    """The traces of a figure: the edges and hits of each slice, then the entries of the legend.

    Each slice has traces of its own, since the slider can then hide slices without a second copy of the data.
    """

    def __init__(self, showers: Showers) -> None:
        self.traces: list[dict[str, Any]] = []
        self._showers = showers
        self._slices: list[int] = []  # slice of each trace of edges or hits
        self._edges: list[int] = []  # numbers of the traces of edges
        self._colours: dict[int, dict[str, list[str]]] = {}  # by trace of hits, then by "layer" or "primary"
        self._entries: dict[str, list[int]] = {"layer": [], "primary": []}  # numbers of the legend's entries
        self._largest = float(showers.energy.max(initial=0.0))
        particles = showers.particles.num_rows / len(showers) if showers.particles is not None else 0
        self._tree_opacity = 1.0 if particles < 1000 else 0.3
        self._palettes = {
            "layer": _palette(showers.config.num_layers),
            "primary": _palette(int(showers.num_primaries.max(initial=1))),
        }
        for number, shower in enumerate(showers):
            scene = f"scene{number + 1 if number else ''}"
            self._add_edges(shower, scene)
            self._add_hits(shower, scene)
        self._add_legend()

    def menus(self) -> list[dict[str, Any]]:
        """Return the buttons that colour the hits, and those that show and hide the tree."""
        hits, entries = list(self._colours), [k for numbers in self._entries.values() for k in numbers]
        colour_buttons = [
            {
                "label": f"Colour by {kind}",
                "method": "restyle",
                "args": [
                    {
                        "marker.color": [
                            *(self._colours[k][kind] for k in hits),
                            *(self.traces[k]["marker"]["color"] for k in entries),
                        ],
                        "showlegend": [False] * len(hits) + [k in numbers for k in entries],
                    },
                    hits + entries,
                ],
            }
            for kind, numbers in self._entries.items()
        ]
        tree_buttons = [
            {"label": label, "method": "restyle", "args": [{"opacity": opacity}, self._edges]}
            for label, opacity in (("Show tree", self._tree_opacity), ("Hide tree", 0))
        ]
        style = {"type": "buttons", "direction": "right", "xanchor": "left", "yanchor": "bottom"}
        return [{**style, "buttons": buttons} for buttons in (colour_buttons, tree_buttons)][: 2 if self._edges else 1]

    def slider(self) -> dict[str, Any]:
        """Return the slider that hides everything deeper than a slice."""
        deepest = max(self._slices, default=self._showers.config.num_slices - 1)
        spacing = self._showers.config.slice_spacing
        traces = list(range(len(self._slices)))
        return {
            "active": deepest,
            "currentvalue": {"prefix": "Shown: slices 0 to ", "font": {"size": 13, "color": INK}},
            "font": {"size": 1, "color": "rgba(0, 0, 0, 0)"},  # no label at each step
            "minorticklen": 0,
            "steps": [
                {
                    "label": f"{last} (depth 0 to {last * spacing:g})",
                    "method": "restyle",
                    "args": [{"visible": [slice_ <= last for slice_ in self._slices]}, traces],
                }
                for last in range(deepest + 1)
            ],
        }

    def _add_edges(self, shower: Showers, scene: str) -> None:
        if shower.particles is None:
            return
        tree = shower.particles
        parent: Any = tree["parent"]
        slices = np.asarray(tree["slice"], dtype=np.int64)
        points = np.column_stack([slices * shower.config.slice_spacing, tree["x"], tree["y"]]).astype(np.float64)
        child = np.flatnonzero(parent >= 0)
        shown_with = np.minimum(slices[child], shower.config.num_slices - 1)  # leaked particles: with the last slice
        for value in np.unique(shown_with).tolist():
            rows = child[shown_with == value]
            lines = np.full((len(rows), 3, 3), np.nan)  # start, end, and a gap
            lines[:, 0], lines[:, 1] = points[parent[rows]], points[rows]
            self._edges.append(len(self.traces))
            self._add(
                value,
                scene=scene,
                name=f"tree, slice {value}",
                mode="lines",
                **{axis: _short(lines[..., k].ravel()) for k, axis in enumerate("xyz")},
                hoverinfo="skip",
                line={"color": _GREY, "width": 2},
                opacity=self._tree_opacity,
            )

    def _add_hits(self, shower: Showers, scene: str) -> None:
        slices, energy = hit_slices(shower), shower.energy.astype(np.float64)
        depth, size = hit_depths(shower), _diameter(energy, self._largest)
        for value in np.unique(slices).tolist():
            rows = np.flatnonzero(slices == value)
            colours = {
                kind: [self._palettes[kind][k % len(self._palettes[kind])] for k in column[rows].tolist()]
                for kind, column in (("layer", shower.layer), ("primary", shower.primary))
            }
            self._colours[len(self.traces)] = colours
            columns = (rows, _short(energy[rows]), shower.layer[rows].tolist(), shower.primary[rows].tolist())
            known = shower.slice[rows[0]] != UNKNOWN_SLICE
            self._add(
                value,
                scene=scene,
                name=f"hits, slice {value}",
                mode="markers",
                x=_short(depth[rows]),
                y=_short(shower.x[rows]),
                z=_short(shower.y[rows]),
                customdata=[[int(k), *others] for k, *others in zip(*columns, strict=True)],
                hovertemplate=(
                    "<b>hit %{customdata[0]}: %{customdata[1]:.3~g} GeV</b><br>"
                    f"slice {value if known else 'not recorded'}, layer %{{customdata[2]}}, primary %{{customdata[3]}}"
                    "<br>depth %{x:.3~g}, x %{y:.3~g}, y %{z:.3~g} (length unit)<extra></extra>"
                ),
                marker={
                    "size": _short(size[rows]),
                    "color": colours["layer"],
                    "opacity": 1,
                    "line": {"color": "white", "width": 0.5},
                },
            )

    def _add(self, slice_: int, **trace: Any) -> None:
        self._slices.append(slice_)
        self.traces.append({"type": "scatter3d", "showlegend": False, **trace})

    def _add_legend(self) -> None:
        """Add traces without data, whose entries in the legend explain the colours and the sizes."""
        for kind, numbers in self._entries.items():
            used = np.unique(self._showers.layer if kind == "layer" else self._showers.primary)
            palette = self._palettes[kind]
            for value in used[:: math.ceil(len(used) / _LEGEND_ENTRIES) or 1].tolist():
                numbers.append(len(self.traces))
                marker = {"size": 10, "color": palette[value % len(palette)]}
                self._add_entry(f"Colour: {kind}", f"{kind} {value}", marker, shown=kind == "layer")
        if self._largest > 0:
            for energy in energy_decades(self._largest):
                size = float(_diameter(np.array([energy]), self._largest)[0])
                self._add_entry("Size: hit energy", f"{energy:.3g} GeV", {"size": size, "color": _GREY}, shown=True)

    def _add_entry(self, group: str, name: str, marker: dict[str, Any], *, shown: bool) -> None:
        nowhere = {"x": [None], "y": [None], "z": [None], "mode": "markers", "hoverinfo": "skip"}
        title = {"legendgroup": group, "legendgrouptitle": {"text": group}}
        self.traces.append(
            {"type": "scatter3d", "name": name, "marker": marker, "showlegend": shown, **title, **nowhere}
        )


def _title(shower: Showers) -> str:
    title = f"{shower_name(shower)}: {shower.incident_energy[0]:.4g} GeV, {hits_text(shower.hits.num_rows)}"
    if not shower.slices_known:
        title += " (slices not recorded: hits drawn in the middle of their layers)"
    return escape(title[:1].upper() + title[1:], quote=False)


def _palette(number: int) -> list[str]:
    """Return a colour for each of some layers or primaries."""
    if number <= len(COLOURS):
        return list(COLOURS)
    from plotly.colors import sample_colorscale

    return [str(colour) for colour in sample_colorscale("Viridis", np.linspace(0, 1, number).tolist())]


def _diameter(energy: FloatArray, largest: float) -> FloatArray:
    return _SMALLEST + (_LARGEST - _SMALLEST) * relative_log(energy, largest)


def _short(values: npt.ArrayLike) -> list[float | None]:
    """Return numbers with five significant digits, which keep the page small; None for gaps."""
    return [None if math.isnan(value) else float(f"{value:.5g}") for value in np.asarray(values).tolist()]


def _scenes(showers: Showers) -> dict[str, Any]:
    """Return the settings of the scenes, whose equal axes make showers comparable."""
    spacing = showers.config.slice_spacing
    tables = [table for table in (showers.hits, showers.particles) if table is not None]
    reach = max(float(np.abs(table[axis]).max(initial=0.0)) for table in tables for axis in ("x", "y")) or 1.0
    slices = hit_slices(showers)
    if showers.particles is not None:
        slices = np.concatenate([slices, showers.particles["slice"]])
    depth = spacing * float(slices.max(initial=0) or showers.config.num_slices - 1)
    axis = {
        "tickangle": 0,
        "tickfont": {"size": 11},
        "backgroundcolor": "white",
        "gridcolor": GRID,
        "zerolinecolor": GRID,
        "showspikes": False,
    }
    sideways = {**axis, "range": [-1.05 * reach, 1.05 * reach], "nticks": 5}
    scene = {
        "xaxis": {
            **axis,
            "title": {"text": "depth (length unit)", "font": {"size": 12}},
            "range": [0, 1.03 * depth or spacing],
            "nticks": 6,
        },
        "yaxis": {**sideways, "title": {"text": "x (length unit)", "font": {"size": 12}}},
        "zaxis": {**sideways, "title": {"text": "y (length unit)", "font": {"size": 12}}},
        "aspectmode": "manual",
        "camera": {"eye": {"x": -0.6, "y": -1.8, "z": 0.6}, "projection": {"type": "orthographic"}},
        "dragmode": "orbit",
    }
    return {f"scene{number + 1 if number else ''}": scene for number in range(len(showers))}


def _arrangement(figure: "Figure", *, narrow: bool) -> dict[str, Any]:
    """Return the places of the scenes, titles, buttons, slider and legend, by dotted name.

    Args:
        figure: The figure.
        narrow: Whether the page is narrow, as on a phone. The showers are then placed one below the other.
    """
    places: dict[str, Any] = {}
    number = len(list(figure.select_scenes()))
    # The size of an orthographic scene follows from its aspect ratio: as large as the space for it allows.
    length, side = (1.15, 0.75) if narrow else {1: (2.5, 1.15), 2: (1.5, 0.95), 3: (0.95, 0.7)}.get(number, (0.7, 0.55))
    for k in range(number):
        left, right, bottom, top = (0, 1, 1 - (k + 1) / number, 1 - k / number) if narrow else (k, k + 1, 0, 1)
        scene = f"scene{k + 1 if k else ''}"
        title_space = 0.06 / (number if narrow else 1) if number > 1 else 0
        places[f"{scene}.domain.x"] = [left, right] if narrow else [left / number, right / number]
        places[f"{scene}.aspectratio"] = {"x": length, "y": side, "z": side}
        places[f"{scene}.domain.y"] = [bottom, top - title_space]
        if number > 1:
            places[f"annotations[{k}].x"] = 0.5 if narrow else (k + 0.5) / number
            places[f"annotations[{k}].y"] = top - title_space
    places |= {"margin": _NARROW_MARGIN if narrow else {"l": 8, "r": 150, "t": 88, "b": 76}}
    places |= {"title.x": 0.02 if narrow else 0.01, "title.y": 0.985, "title.yanchor": "top"}
    places |= {"title.font.size": 14 if narrow else 17}
    places |= {"legend.x": 0.0 if narrow else 1.01, "legend.xanchor": "left", "legend.yanchor": "top"}
    # On a narrow page, the legend is below the slider, which takes 80 pixels.
    places |= {"legend.y": -80 / (_SCENE_HEIGHT * number) if narrow else 0.95}
    places |= {"legend.orientation": "h" if narrow else "v"}
    places |= {"sliders[0].pad": {"t": 4, "b": 4, "l": 8, "r": 8}}
    # The buttons for the tree are to the right of those for the colours, or below them on a narrow page.
    pads = [{"b": 44}, {"b": 4}] if narrow else [{"b": 8}, {"b": 8, "l": 260}]
    for k, pad in enumerate(pads[: len(figure.layout.updatemenus)]):
        places |= {f"updatemenus[{k}].x": 0, f"updatemenus[{k}].y": 1, f"updatemenus[{k}].pad": {"l": 8, **pad}}
    return places


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
  body {{ margin: 0; font-family: "Open Sans", Verdana, Arial, sans-serif; color: #333; background: #fff; }}
  #figure {{ height: calc(100vh - 2.6rem); min-height: 480px; }}
  p {{ margin: 0; padding: 0.5rem 0.8rem; font-size: 0.85rem; line-height: 1.3; color: #555; }}
  body.narrow #figure {{ height: {height}px; }}
  body.narrow .modebar {{ display: none; }}
</style>
</head>
<body>
<div id="figure">{figure}</div>
<p>Drag to rotate, scroll or pinch to zoom, and point at a hit (or tap it) to read its values.</p>
<script>
  const arrangements = {arrangements};
  let narrow = null;
  function arrange() {{
    const now = window.innerWidth < 760;
    if (now === narrow) return;
    narrow = now;
    document.body.classList.toggle("narrow", narrow);
    Plotly.relayout("showers", arrangements[narrow ? 1 : 0]).then(() => Plotly.Plots.resize("showers"));
  }}
  window.addEventListener("resize", arrange);
  arrange();
</script>
</body>
</html>
"""
