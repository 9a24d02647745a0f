"""Layers in a pipeline: each process trains some of the layers and passes them on through a folder."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from supa_datasets.torch_io import read_checked, write_atomic
from supa_learning.processes import Processes

_FORMAT, _VERSION = "supa-gff-pipeline", 1
_POLL_SECONDS = 0.02


class Pipeline:
    """The consecutive layers of this process, and what processes pass on to each other.

    Args:
        layers: Number of layers of the network.
        processes: Processes that train the network together.
        folder: Folder that the processes share. None: there is one process.

    Raises:
        ValueError: If there are more processes than layers, or several processes have no folder.
    """

    def __init__(self, layers: int, processes: Processes, folder: Path | None) -> None:
        if processes.count > layers:
            raise ValueError(f"{processes.count} processes cannot share {layers} layers; use fewer processes.")
        if processes.count > 1 and folder is None:
            raise ValueError("Several processes need a folder for the kept inputs: cache=Path(...).")
        self.processes, self._folder, self._layers = processes, folder, layers
        ends = [rank * layers // processes.count for rank in range(processes.count + 1)]
        self.own = range(ends[processes.rank], ends[processes.rank + 1])
        """Indices of the layers of this process."""

    def send(self, turn: int, layer: int, values: Mapping[str, Any]) -> None:
        """Pass values on to the other processes.

        Args:
            turn: Number of the pass over the layers.
            layer: Index of the layer that has finished this pass.
            values: Plain values and tensors.
        """
        if self.processes.count > 1:
            write_atomic(self._path(turn, layer), {"format": _FORMAT, "version": _VERSION, **values})

    def receive(self, turn: int, layer: int) -> dict[str, Any]:
        """Wait for the values of a layer.

        Args:
            turn: Number of the pass over the layers.
            layer: Index of the layer.

        Returns:
            The values that the process of this layer sent, with all tensors on the CPU.
        """
        path = self._path(turn, layer)
        while not path.exists():  # torchrun ends all processes if one fails
            time.sleep(_POLL_SECONDS)
        return read_checked(path, format_name=_FORMAT, version=_VERSION, written_by="supa_gff.train")

    def _path(self, turn: int, layer: int) -> Path:
        assert self._folder is not None
        return self._folder / f"layer-{layer}-{turn}.pt"
