"""A user's own graphs, by the name of a file or of a function."""

import os
from pathlib import Path
from typing import Any

from supa.checks import format_value
from supa_gff.own_data.conversion import as_data_list
from supa_gff.own_data.files import read_graphs
from supa_gff.own_data.functions import call_function, names_function

_SUFFIXES = (".pt", ".pth")


def load_graphs(source: str | os.PathLike[str]) -> list[Any]:
    """Load graphs from a file, or from a function.

    A file is read without running code that it contains. A function is your own code, and runs.

    Args:
        source: File that ``torch.save`` wrote (.pt or .pth): a list of ``Data``, or the processed file of an
            ``InMemoryDataset``. Or ``"module:function"``: a function without arguments that returns any graphs that
            `GraphSet.of` accepts. Its module is searched in the current folder first.

    Returns:
        List of PyTorch Geometric's ``Data``, for `GraphSet.of`.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file contains no graphs, or would have to run code to be read; or if the module or function
            does not exist, the function raises an exception, or it returns something else.

    Example:
        >>> import torch
        >>> from torch_geometric.data import Data
        >>> from supa_gff import GraphSet, load_graphs
        >>> edges = torch.tensor([[0, 1], [1, 0]])
        >>> graphs = [Data(x=torch.ones(2, 3), edge_index=edges, y=torch.tensor([0.5 * k])) for k in range(10)]
        >>> torch.save(graphs, "graphs.pt")
        >>> GraphSet.of(load_graphs("graphs.pt")).target_kind
        'regression'
    """
    text = os.fspath(source)
    path = Path(text)
    if names_function(text) and not path.exists():
        try:
            return as_data_list(_returned(text))
        except ValueError as error:
            message = str(error)
            raise ValueError(
                message if message.startswith(text) else f"{text} returned: {message}"
            ) from error.__cause__
    if path.suffix not in _SUFFIXES and not path.exists():
        raise ValueError(
            f"{format_value(text)} was given, but graphs are a file of torch.save (.pt), or a function as "
            "module:function, such as my_graphs:load."
        )
    return read_graphs(path)


def _returned(name: str) -> Any:
    found = call_function(name)
    if found is None:
        raise ValueError(f"{name} returned None; does the function end with return graphs?")
    return found
