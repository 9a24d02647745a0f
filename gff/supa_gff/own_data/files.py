"""Graphs from PyTorch files, which are read without running code from the file."""

import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from supa_datasets.torch_io import UNREADABLE
from supa_gff.own_data.conversion import ALLOWED, as_data_list, described

_HOW_TO_WRITE = "Write a list of torch_geometric.data.Data with tensors by torch.save(graphs, path)"
_OR_FUNCTION = f"{_HOW_TO_WRITE}, or give a function that reads the file and returns the graphs, as module:function."


def read_graphs(path: Path) -> list[Any]:
    """Read graphs from a PyTorch file.

    Args:
        path: File that ``torch.save`` wrote: a list of ``Data``, one ``Data``, or the processed file of an
            ``InMemoryDataset``.

    Returns:
        The graphs.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is not a PyTorch file, would have to run code to be read, or contains something else.
    """
    if path.is_dir():
        raise ValueError(f"{path}: it is a folder, but a file is needed. {_OR_FUNCTION}")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file.")
    if path.suffix == ".py":
        raise ValueError(f"{path}: it is a Python program. Name a function in it, as {path.stem}:function.")
    found = _load(path)
    if isinstance(found, Mapping) and isinstance(found.get("format"), str):
        raise ValueError(f"{path}: it is a checkpoint ({found['format']}), but a file of graphs is needed.")
    try:
        return as_data_list(_separated(path, found) if _is_collated(found) else found)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _load(path: Path) -> Any:
    from torch_geometric.data.data import DataEdgeAttr, DataTensorAttr
    from torch_geometric.data.storage import GlobalStorage

    # PyTorch Geometric itself allows Data. These classes, which every Data contains, only store values.
    parts = [DataEdgeAttr, DataTensorAttr, GlobalStorage]
    try:
        with torch.serialization.safe_globals(parts), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the protocol of a file that cannot be read anyway
            return torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        found = re.search(r"(?:GLOBAL|function|class) ([\w.]+)", str(error))
        if not zipfile.is_zipfile(path) and found is None:
            raise ValueError(f"{path}: it is not a PyTorch file. {_OR_FUNCTION}") from None
        name = f"objects of {found[1]}" if found is not None else "objects that are not tensors, numbers or graphs"
        raise ValueError(
            f"{path}: it contains {name}, and reading them would run code from the file, which is never done silently. "
            f"{_HOW_TO_WRITE}. Or, if you trust the file, write a function that returns the graphs of "
            "torch.load(path, weights_only=False), and give it as module:function."
        ) from None
    except OSError as error:
        raise ValueError(f"{path}: the file cannot be read ({error.strerror}).") from None
    except UNREADABLE:
        raise ValueError(f"{path}: it is damaged or not a PyTorch file. {_OR_FUNCTION}") from None


def _is_collated(found: Any) -> bool:
    """Return whether an object is what an ``InMemoryDataset`` writes: joined graphs and the ends of their parts."""
    return isinstance(found, tuple) and len(found) in (2, 3) and isinstance(found[1], Mapping | None)


def _separated(path: Path, found: tuple[Any, ...]) -> Any:
    """Return the graphs of the processed file of an ``InMemoryDataset``."""
    from torch_geometric.data import Data, InMemoryDataset

    joined, slices = found[:2]
    kind = found[2] if len(found) == 3 else Data
    if isinstance(joined, Mapping) and kind is Data:
        joined = Data.from_dict(dict(joined))
    if not isinstance(joined, Data):
        raise ValueError(f"it contains {described(found[0])} and its slices, but it must be {ALLOWED}.")
    dataset = InMemoryDataset()
    dataset.data, dataset.slices = joined, slices
    try:
        return list(dataset)
    except (*UNREADABLE, AssertionError):
        raise ValueError("the slices of its graphs do not fit its data; write it again.") from None
