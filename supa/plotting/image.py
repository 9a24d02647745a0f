"""The image of a readout layer."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from supa.arrays import FloatArray
from supa.cells import Cartesian, Cells
from supa.checks import check_int
from supa.plotting.image_cells import image_cells
from supa.plotting.style import INK, SEQUENTIAL, hits_text, label_log_axis, remark, shower_name
from supa.showers import Showers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot_image(sample: Showers | Iterable[Showers], layer: int, *, cells: Cells | None = None) -> "Figure":
    """Draw the energy per cell in one readout layer: of one shower, or the mean over several showers.

    Args:
        sample: Showers, or an iterable over chunks of showers, all with the same config.
        layer: Index of the readout layer.
        cells: Rectangular or polar cells. By default, the cells of the showers themselves if every hit of the layer
            lies at the centre of a cell; otherwise squares.

    Returns:
        A ``matplotlib.figure.Figure``. The colour scale of the energy in GeV is logarithmic; cells without energy are
        empty.

    Raises:
        ValueError: If there is no shower, if there is no such layer, or if the showers have several configs.

    Example:
        >>> import supa
        >>> from supa.plotting import plot_image
        >>> showers = supa.simulate(100, seed=1)
        >>> plot_image(showers, layer=0).savefig("mean.png")
        >>> plot_image(showers[3], layer=0).savefig("shower.png")
    """
    from matplotlib.figure import Figure

    image = _Image(layer, cells)
    for chunk in [sample] if isinstance(sample, Showers) else sample:
        image.add(chunk)
    if not image.count:
        raise ValueError("There is no shower to draw.")
    figure = Figure(figsize=(6.4, 5.6), layout="constrained")
    axes: Any = figure.subplots()
    axes.set(xlabel="x (length unit)", ylabel="y (length unit)", aspect="equal")
    image.draw(figure, axes)
    axes.set_title(image.title(), fontsize=10, color=INK)
    return figure


class _Image:
    """Energy in the cells of one layer, summed over showers."""

    def __init__(self, layer: int, cells: Cells | None) -> None:
        self.layer, self.cells = layer, cells
        self.count = self.num_hits = 0
        self.energy = self.outside = 0.0
        self.sums: FloatArray = np.zeros(0)
        self.first: Showers | None = None

    def add(self, showers: Showers) -> None:
        if self.first is None:
            check_int(0, showers.config.num_layers - 1, "layer", self.layer)
            self.first = showers[:1]
        if showers.config != self.first.config:
            raise ValueError(
                "Showers of different configs cannot be drawn as one sample; draw each config as its own sample."
            )
        if not len(self.first):
            self.first = showers[:1]
        self.count += len(showers)
        chosen = showers.layer == self.layer
        if not chosen.any():
            return
        if self.cells is None:
            self.cells = image_cells(showers, self.layer)
        cell = self.cells.cell(showers.x[chosen], showers.y[chosen])
        energy = showers.energy[chosen].astype(np.float64)
        size = self.cells.shape[0] * self.cells.shape[1]
        sums = np.bincount(cell[cell >= 0], energy[cell >= 0], minlength=size).astype(np.float64)
        self.sums = sums if not len(self.sums) else self.sums + sums
        self.outside += energy[cell < 0].sum()
        self.energy += energy.sum()
        self.num_hits += len(energy)

    def title(self) -> str:
        assert self.first is not None
        hits = f"{hits_text(self.num_hits)} in layer {self.layer}"
        if self.count == 1:
            title = f"{shower_name(self.first)}: {self.first.incident_energy[0]:.4g} GeV, {hits}"
        else:
            title = f"mean of {self.count:,} showers, {hits}"
        if not self.outside:
            return title
        share = 100 * self.outside / self.energy
        return f"{title}\n{share:.2g} % of the layer's energy is outside the image"

    def draw(self, figure: "Figure", axes: "Axes") -> None:
        from matplotlib.colors import LogNorm

        mean = self.sums / self.count
        if not mean.any():
            remark(axes, "no hits in this layer" if not self.num_hits else "no energy in these cells")
            return
        assert self.cells is not None
        x, y, values = _mesh(self.cells, mean.reshape(self.cells.shape))
        most = float(mean.max())
        scale = LogNorm(max(min(float(mean[mean > 0].min()), most / 10), most * 1e-6), most)
        colours = axes.pcolormesh(x, y, np.where(values > 0, values, np.nan), norm=scale, cmap=SEQUENTIAL)
        label = "energy per cell (GeV)" if self.count == 1 else "mean energy per cell (GeV)"
        bar = figure.colorbar(colours, ax=axes, label=label, shrink=0.9)
        label_log_axis(bar.ax.yaxis)


def _mesh(cells: Cells, values: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the corners of the cells in x and in y, and the values between them."""
    if isinstance(cells, Cartesian):
        return (*np.meshgrid(cells.x_edges, cells.y_edges, indexing="ij"), values)
    steps = -(-180 // cells.num_alpha)  # draws a wide angle as an arc
    alpha = np.linspace(-np.pi, np.pi, steps * cells.num_alpha + 1)[:, None]
    return cells.r_edges * np.cos(alpha), cells.r_edges * np.sin(alpha), np.repeat(values, steps, axis=0)
