"""Conversion of graphs of PyTorch Geometric, NetworkX and DGL to lists of ``Data``."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from supa.checks import format_value

ALLOWED = (
    "a list of torch_geometric.data.Data, a dataset of PyTorch Geometric, or a list of graphs of NetworkX or DGL (or "
    "of pairs of a graph and its target)"
)
"""What a user may pass as graphs, for error messages."""


def as_data_list(graphs: Any) -> list[Any]:
    """Convert graphs to a list of PyTorch Geometric's ``Data``.

    Args:
        graphs: List or other iterable of ``Data``, of NetworkX graphs, of DGL graphs, or of pairs of a graph and its
            target; a dataset of PyTorch Geometric; or a single graph or batch. NetworkX graphs have the features of a
            node in its attribute ``x`` and the target in the attribute ``y`` of the graph or of the nodes; DGL graphs
            have the columns ``ndata["x"]`` and ``ndata["y"]``.

    Returns:
        The graphs. ``Data`` objects are not copied.

    Raises:
        ValueError: If something is not a graph, a graph cannot be converted, or its package is not installed.
    """
    if _is_graph(graphs):
        batch = getattr(graphs, "ptr", None) is not None and hasattr(graphs, "to_data_list")
        return list(graphs.to_data_list()) if batch else [_as_data(0, graphs)]
    refused = (str, bytes, Mapping, torch.Tensor)
    if (not isinstance(graphs, Iterable) and not hasattr(graphs, "__getitem__")) or isinstance(graphs, refused):
        raise ValueError(f"{described(graphs)} was given, but it must be {ALLOWED}.")
    return [_as_data(k, graph) for k, graph in enumerate(graphs)]


def described(value: object) -> str:
    """Describe a value by its type, for an error message.

    Args:
        value: Value that is not allowed.

    Returns:
        A text such as "a dict with the keys 'a', 'b'".
    """
    if value is None or isinstance(value, str | bool | int | float):
        return format_value(value)
    name = f"{type(value).__module__}.{type(value).__name__}".removeprefix("builtins.")
    keys = f" with the keys {', '.join(map(repr, list(value)[:5]))}" if isinstance(value, Mapping) and value else ""
    return f"a{'n' if name[0] in 'aeiou' else ''} {name}{keys}"


def _is_graph(value: object) -> bool:
    from torch_geometric.data import Dataset

    if isinstance(value, Dataset):  # it has the attributes of its joined graphs
        return False
    return hasattr(value, "edge_index") or bool(_packages(value) & {"networkx", "dgl"}) or _is_heterogeneous(value)


def _packages(value: object) -> set[str]:
    """Return the names of the packages that define the class of a value and its base classes."""
    return {kind.__module__.partition(".")[0] for kind in type(value).__mro__}


def _is_heterogeneous(value: object) -> bool:
    return any(kind.__name__ == "HeteroData" for kind in type(value).__mro__)


def _as_data(k: int, graph: Any) -> Any:
    target = None
    if isinstance(graph, tuple | list) and len(graph) == 2 and _is_graph(graph[0]):
        graph, target = graph
    if not _is_graph(graph):
        raise ValueError(f"Item {k} is {described(graph)}, but it must be a graph; pass {ALLOWED}.")
    data = _converted(k, graph)
    if _is_heterogeneous(data):
        raise ValueError(
            f"Graph {k} has several types of nodes or edges, but only one type is supported; convert it, for example "
            "by HeteroData.to_homogeneous()."
        )
    if target is not None:
        data = data.clone() if hasattr(data, "clone") else data
        data.y = target
    return data


def _converted(k: int, graph: Any) -> Any:
    """Convert a graph by PyTorch Geometric's own functions."""
    from torch_geometric.utils import from_dgl, from_networkx

    for package, title, convert in (("networkx", "NetworkX", from_networkx), ("dgl", "DGL", from_dgl)):
        if package not in _packages(graph):
            continue
        try:
            return convert(graph)
        except ImportError as error:
            raise ValueError(
                f"Graph {k} is a graph of {title}, but the package {package} cannot be imported ({error}); install it, "
                f"or convert the graphs to torch_geometric.data.Data."
            ) from None
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError(
                f"Graph {k} is a graph of {title} that PyTorch Geometric cannot convert ({error}). All nodes must have "
                "the same attributes, and all edges too."
            ) from None
    return graph
