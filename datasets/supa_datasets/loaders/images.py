"""Showers as calorimeter images."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch

from supa import CALOGAN, Grid
from supa.arrays import FloatArray
from supa.checks import counted, format_value
from supa_datasets.loaders.column_batch import ColumnBatch, Item
from supa_datasets.loaders.dataset import ShowerDataset
from supa_datasets.loaders.normalisation import Normalisation, resolve_normalisation
from supa_datasets.loaders.source import Sample, SourceLike
from supa_datasets.loaders.splits import SPLITS

_FITTED_AT_ONCE = 256  # showers whose images are computed at once


class ImageDataset(ShowerDataset):
    """Showers as images of the energy in the cells of a calorimeter.

    An item is a dictionary with ``layer_0``, ``layer_1``, ... (rows, columns) float32 energies in GeV, ``overflow``
    (layers,) float32 energy in GeV of the hits outside all cells of their layer, and one entry per target. A grid over
    slices has ``slice_0``, ``slice_1``, ... instead. With several grids, each name starts with the name of its grid:
    ``fine/layer_0``. A batch stacks the items.

    Args:
        showers: A `supa.Showers` object, a `ShowerFile`, a path, or a list of these.
        grid: A `supa.Grid`, or several grids by name; the default is the grid of CaloGAN, `supa.CALOGAN`.
        split: Name of a split in ``fractions``, or ``"all"``. The index of a shower selects its split, see `in_split`.
        fractions: Fraction of each split by name; the default is 0.8 for ``"train"``, 0.1 for ``"validation"`` and 0.1
            for ``"test"``.
        targets: Names of targets out of ``TARGETS`` with one value per shower. Their tensors are float32, or int64 for
            whole numbers.
        normalisation: A `Normalisation` whose features are the names of the images; ``"fit"`` to fit one to up to
            10,000 showers of the split ``"train"``; None for energies in GeV. It divides each image by the root mean
            square of its non-zero cells in the training showers. Empty cells stay zero, and the overflow stays in GeV.

    Raises:
        FileNotFoundError: If a file does not exist.
        ValueError: If a name is unknown, the grid does not fit the showers, or a file is damaged.

    Example:
        >>> import supa
        >>> from supa_datasets import ImageDataset
        >>> dataset = ImageDataset(supa.simulate(20, "standard", seed=1), targets=["incident_energy"])
        >>> {name: tuple(values.shape) for name, values in dataset[0].items()}
        {'incident_energy': (), 'layer_0': (3, 96), 'layer_1': (12, 12), 'layer_2': (12, 6), 'overflow': (3,)}
        >>> dataset.collate([dataset[0], dataset[1]])["layer_1"].shape
        torch.Size([2, 12, 12])

    Source:
        The default grid is that of CaloGAN, arXiv 1705.02355.
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
                        f"grid: a grid with {counted(len(g.parts), 'part')} was given, but the showers have "
                        f"{counted(layers, g.depth)}."
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
                f"The normalisation is for {', '.join(fitted.features)}, but it must only scale the images "
                f"{', '.join(self.names)}, without means and logarithms."
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
        """Combine items into a batch, as the argument ``collate_fn`` of a ``DataLoader``.

        Args:
            items: Items of this dataset.

        Returns:
            Every entry of the items, stacked along a new first axis: (batch, ...).
        """
        return ColumnBatch.of(items, []).each

    def invert(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Invert the normalisation.

        Args:
            batch: A batch or an item with normalised images.

        Returns:
            The same entries with the images in GeV.
        """
        scales = dict(zip(self.names, self.normalisation.std, strict=True)) if self.normalisation else {}
        return {name: values * scales.get(name, 1) for name, values in batch.items()}


def _tensor(values: Any) -> Any:
    return torch.from_numpy(values.astype(np.float32))
