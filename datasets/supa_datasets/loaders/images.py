"""Showers as calorimeter images."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch

from supa import CALOGAN, Grid
from supa.arrays import FloatArray
from supa.checks import format_value
from supa_datasets.loaders.column_batch import ColumnBatch, Item
from supa_datasets.loaders.dataset import ShowerDataset
from supa_datasets.loaders.normalisation import Normalisation, resolve_normalisation
from supa_datasets.loaders.source import Sample, SourceLike
from supa_datasets.loaders.splits import SPLITS

_FITTED_AT_ONCE = 256  # showers whose images are made at once


class ImageDataset(ShowerDataset):
    """Showers as images of the energy in the cells of a calorimeter.

    An item is a dictionary: ``layer_0``, ``layer_1``, ... (cells, cells) float32, GeV; ``overflow`` (layers,) float32,
    the energy of the hits that lie outside every cell of their layer, GeV; and each target by its name. With several
    grids the names begin with that of the grid: ``fine/layer_0``. A grid with a part for each slice gives ``slice_0``
    and so on. A batch stacks the items.

    Args:
        showers: Showers, a ShowerFile, a path, or a list of these.
        grid: the cells; or several granularities by name, all of the same showers.
        split: ``"train"``, ``"validation"``, ``"test"`` or ``"all"``; the shower's index decides.
        fractions: name and fraction of each split.
        targets: names of targets with one value a shower; see ``TARGETS``.
        normalisation: a Normalisation of the images' names; ``"fit"`` to fit one on up to 10,000 showers of the
            split ``train``; None for GeV. It divides each image by the root mean square of its cells above zero in the
            training showers, so that empty cells stay zero; the overflow stays in GeV.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a name is unknown, the grid does not fit the showers, or a file is damaged.
    """

    def __init__(
        self,
        showers: SourceLike,
        *,
        grid: Grid | Mapping[str, Grid] = CALOGAN,
        split: str = "all",
        fractions: Mapping[str, float] = SPLITS,
        targets: Iterable[str] = (),
        normalisation: Normalisation | Literal["fit"] | None = None,
    ) -> None:
        super().__init__(showers, split=split, fractions=fractions, targets=targets, columns=())
        grids = {"": grid} if isinstance(grid, Grid) else grid
        if not isinstance(grids, Mapping) or not grids or not all(isinstance(g, Grid) for g in grids.values()):
            raise ValueError(f"grid: {format_value(grid)} was given, but it must be a Grid, or Grids by name.")
        self.grids = {f"{name}/" if name else "": g for name, g in grids.items()}
        for run in self.source.runs:
            for g in grids.values():
                layers = run.config.num_layers if g.depth == "layer" else run.config.num_slices
                if len(g.parts) < layers:
                    raise ValueError(
                        f"grid: one of {len(g.parts)} parts was given, but these showers have {layers} {g.depth}s."
                    )

        self.names = tuple(
            f"{prefix}{g.depth}_{number}"
            for prefix, g in self.grids.items()
            for number, part in enumerate(g.parts)
            if part is not None
        )
        self.normalisation = resolve_normalisation(normalisation, lambda: self._fitted(fractions))
        fitted = self.normalisation
        if fitted is not None and (fitted.features != self.names or any(fitted.mean) or any(fitted.logarithm)):
            raise ValueError(
                f"normalisation: one of {', '.join(fitted.features)} was given, but the images are "
                f"{', '.join(self.names)}, and they are only scaled."
            )

    def _fitted(self, fractions: Mapping[str, float]) -> Normalisation:
        training = self._training(fractions)
        squares, counts = np.zeros(len(self.names)), np.zeros(len(self.names))
        for start in range(0, len(training), _FITTED_AT_ONCE):
            images = self._images(self.source.take(training[start : start + _FITTED_AT_ONCE])).values()
            squares += [np.square(image).sum() for image in images]
            counts += [np.count_nonzero(image) for image in images]
        scales = np.where(squares > 0, np.sqrt(squares / np.maximum(counts, 1)), 1.0)
        zeros = (0.0,) * len(scales)
        return Normalisation(self.names, (False,) * len(scales), zeros, tuple(map(float, scales)))

    def _images(self, sample: Sample) -> dict[str, FloatArray]:
        images = (
            image
            for grid in self.grids.values()
            for part, image in zip(grid.parts, grid.images(sample.showers), strict=True)
            if part is not None
        )
        return dict(zip(self.names, images, strict=True))

    def _column_batch(self, sample: Sample) -> ColumnBatch:
        columns, _ = self._target_columns(sample, sample.showers.hits)
        scales = self.normalisation.std if self.normalisation else (1.0,) * len(self.names)
        for (name, image), scale in zip(self._images(sample).items(), scales, strict=True):
            columns[name] = _tensor(image / scale)
        for prefix, grid in self.grids.items():
            columns[f"{prefix}overflow"] = _tensor(grid.overflow(sample.showers))
        return ColumnBatch(len(sample.showers), columns, {})

    def collate(self, items: Sequence[Item]) -> dict[str, Any]:
        """Make a batch.

        Args:
            items: some items.

        Returns:
            Every entry of an item, stacked: (batch, ...).
        """
        return ColumnBatch.of(items, []).each

    def invert(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Undo the normalisation.

        Args:
            batch: a batch, or an item, with images that were normalised.

        Returns:
            The same entries, the images in GeV.
        """
        scales = dict(zip(self.names, self.normalisation.std, strict=True)) if self.normalisation else {}
        return {name: values * scales.get(name, 1) for name, values in batch.items()}


def _tensor(values: Any) -> Any:
    return torch.from_numpy(values.astype(np.float32))
