"""Checks of a user's graphs and targets. Each error names the graph, the fault, what is allowed and what to do."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from supa.checks import counted, format_value
from supa_gff.checks import dtype_name, form
from supa_gff.names import TargetKind

_SHOWN = 8
"""Number of values that a message lists."""


def check_graph(k: int, graph: Any, first: Any) -> None:
    """Check the nodes, features and edges of a graph.

    Args:
        k: Index of the graph.
        graph: Graph to check.
        first: First graph of the set, which determines the number of features.

    Raises:
        ValueError: If the graph has no nodes or no features, or its features or edges are not allowed.
    """
    _check_features(k, graph, first)
    nodes = len(graph.x)
    edges = getattr(graph, "edge_index", None)
    if not isinstance(edges, Tensor) or edges.dim() != 2 or edges.shape[0] != 2 or edges.dtype != torch.int64:
        found = "" if edges is None else f", but {form(edges)}; convert it by edge_index.long() or torch.tensor"
        raise ValueError(
            f"Graph {k} has no int64 edge_index of shape (2, edges){found}. Use shape (2, 0) if it has no edges."
        )
    if edges.numel() and not (int(edges.min()) >= 0 and int(edges.max()) < nodes):
        raise ValueError(
            f"Graph {k} has {counted(nodes, 'node')}, but its edges use other indices. Indices start at 0. They range "
            f"from {int(edges.min())} to {int(edges.max())}, but must be below the number of nodes of this graph."
        )


def check_edge_features(k: int, graph: Any, first: Any, level: str) -> None:
    """Check the features of the edges of a graph.

    Args:
        k: Index of the graph.
        graph: Graph to check.
        first: First graph of the set, which determines the number of features.
        level: ``"graph"``, ``"node"`` or ``"link"``.

    Raises:
        ValueError: If the features are missing or not allowed, or links are predicted.
    """
    if level == "link":
        raise ValueError("Edge features are not supported at link level; omit edge_features=True.")
    values, edges = getattr(graph, "edge_attr", None), graph.edge_index.shape[1]
    if values is None:
        raise ValueError(
            f"Graph {k} has no features of edges, edge_attr; add them, or omit edge_features=True (--edge-features)."
            f"{_attributes(graph)}"
        )
    if not isinstance(values, Tensor) or values.layout != torch.strided or values.is_complex():
        raise ValueError(
            f"Graph {k} has features of edges that are {form(values)}, but edge_attr must be a dense tensor of real "
            "numbers."
        )
    known = isinstance(first.edge_attr, Tensor) and first.edge_attr.dim() == 2
    columns = first.edge_attr.shape[1] if known else "edge features"
    if values.dim() != 2 or len(values) != edges or values.shape[1] == 0 or values.shape[1] != columns:
        hint = ""
        if values.dim() == 1:
            hint = " Use edge_attr.view(-1, 1) for one number per edge, and one-hot features for kinds of edges."
        raise ValueError(
            f"Graph {k} has {counted(edges, 'edge')}, so edge_attr must have the shape ({edges}, {columns}), got "
            f"{tuple(values.shape)}.{hint}"
        )
    _check_finite(k, "features of edges", "edge_attr", values)


def _check_features(k: int, graph: Any, first: Any) -> None:
    x = getattr(graph, "x", None)
    if x is None:
        raise ValueError(
            f"Graph {k} has no node features x. Add some, for example the one-hot degree of each node "
            f"(supa_datasets.graph_benchmarks.degree_features).{_attributes(graph)}"
        )
    if not isinstance(x, Tensor) or x.layout != torch.strided or x.is_complex():
        raise ValueError(f"Graph {k} has features that are {form(x)}, but x must be a dense tensor of real numbers.")
    if x.dim() != 2 or (isinstance(first.x, Tensor) and first.x.dim() == 2 and x.shape[1] != first.x.shape[1]):
        columns = first.x.shape[1] if first.x.dim() == 2 else "features"
        hint = " Use x.view(-1, 1) for one feature per node." if x.dim() == 1 else ""
        hint = " All graphs must have the same features, in the same order." if x.dim() == 2 else hint
        raise ValueError(f"Graph {k} must have features of shape (nodes, {columns}), got {tuple(x.shape)}.{hint}")
    if x.shape[1] == 0:
        raise ValueError(f"Graph {k} has features of shape {tuple(x.shape)}, without a column. Add node features.")
    if len(x) == 0:
        raise ValueError(f"Graph {k} has no nodes, so nothing can be predicted from it; remove it.")
    _check_finite(k, "features", "x", x)


def _check_finite(k: int, what: str, name: str, values: Tensor) -> None:
    finite = torch.isfinite(values.float())
    if bool(finite.all()):
        return
    row, column = (~finite).nonzero()[0].tolist()
    value = float(values[row, column])
    fault = "exceed the range of float32" if math.isfinite(value) else "are not finite"
    raise ValueError(
        f"Graph {k} has {what} that {fault}: {name}[{row}, {column}] is {value}. Correct them or remove the graph."
    )


def target_of(k: int, graph: Any, expected: int, level: str) -> Tensor:
    """Return the checked target of a graph.

    Args:
        k: Index of the graph.
        graph: Graph with a target ``y``.
        expected: Number of units of the graph.
        level: ``"graph"``, ``"node"`` or ``"link"``.

    Returns:
        (units,) or (units, targets) tensor of finite numbers.

    Raises:
        ValueError: If the target is missing, is not a number, has another shape or is not finite.
    """
    y = getattr(graph, "y", None)
    if y is None:
        hint = " Set it to any number at link level." if level == "link" else _attributes(graph)
        raise ValueError(f"Graph {k} has no target y.{hint}")
    target = _as_tensor(k, y)
    if level == "link":
        return target.view(-1)
    several = target.dim() == 2 and target.shape[0] == expected
    if not several and target.numel() != expected:
        hint = ""
        if level == "graph" and target.numel() == len(graph.x):
            hint = " One target per node needs level='node' (--level node)."
        elif level == "graph" and target.dim() == 1:
            hint = f" Several targets of a graph have the shape (1, {target.numel()})."
        elif level == "node" and target.numel() == 1:
            hint = " One target per graph needs level='graph' (--level graph)."
        raise ValueError(
            f"Graph {k} must have {counted(expected, 'target')} at {level} level, got {target.numel():,}.{hint}"
        )
    if target.numel() == 0:
        raise ValueError(f"Graph {k} has targets of shape {tuple(target.shape)}, without a column.")
    if target.is_floating_point() and not bool(torch.isfinite(target).all()):
        raise ValueError(
            f"Graph {k} has targets that are not finite: y is {format_value(y)}. Correct them or remove the graph."
        )
    return target if several and target.shape[1] > 1 else target.reshape(-1)


def _as_tensor(k: int, y: Any) -> Tensor:
    try:
        target = torch.as_tensor(y)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(
            f"Graph {k} has the target {format_value(y)}, but y must be numbers. Replace names of classes by 0, 1, ..."
        ) from None
    if target.is_complex():
        raise ValueError(f"Graph {k} has the target {format_value(y)}, but y must be real numbers.")
    return target


def joined_targets(targets: Sequence[Tensor]) -> Tensor:
    """Join the targets of all graphs.

    Args:
        targets: Target of each graph, from `target_of`.

    Returns:
        (units,) or (units, targets) tensor.

    Raises:
        ValueError: If the numbers of targets differ, or some are integers and others floats.
    """
    first = targets[0]
    for k, target in enumerate(targets):
        if target.shape[1:] != first.shape[1:]:
            raise ValueError(
                f"Graph {k} has {counted(_columns(target), 'target')} per unit, but graph 0 has {_columns(first):,}; "
                "all must have the same targets."
            )
        if target.is_floating_point() != first.is_floating_point():
            raise ValueError(
                f"Graph {k} has targets of type {dtype_name(target)}, but graph 0 has {dtype_name(first)}. Use "
                "integers for classes and labels, and floats for regression, in all graphs."
            )
    return torch.cat(list(targets))


def inferred_kind(target: Tensor) -> TargetKind:
    """Return the kind of targets that their type and shape suggest.

    Args:
        target: (units,) or (units, targets) tensor.

    Returns:
        Integers are classes if there is one per unit, and labels if there are several. Floats are regression targets.

    Raises:
        ValueError: If several floats per unit are all 0 or 1.
    """
    if not target.is_floating_point():
        return "classification" if target.dim() == 1 else "multi-label"
    if target.dim() == 2 and bool(((target == 0) | (target == 1)).all()):
        raise ValueError(
            f"The {target.shape[1]:,} targets of each unit are floats, but all are 0 or 1, so they may be labels or "
            "regression targets. State which: target_kind='multi-label' or 'regression' (--target-kind)."
        )
    return "regression"


def classes_of(target: Tensor, num_outputs: int | None) -> tuple[Tensor, int]:
    """Check targets that are classes.

    Args:
        target: (units,) or (units, targets) tensor.
        num_outputs: Number of classes. None: every class from 0 to the largest one must occur.

    Returns:
        (units,) int64 classes, and their number.

    Raises:
        ValueError: If the classes are not whole numbers from 0, or one is missing, or there is only one.
    """
    if target.dim() == 2:
        raise ValueError(
            f"A class is one number per unit, but there are {target.shape[1]:,}. For one-hot classes use y.argmax(1); "
            "for several labels use target_kind='multi-label' (--target-kind)."
        )
    if target.is_floating_point() and not bool((target == target.round()).all()):
        value = float(target[target != target.round()][0])
        raise ValueError(
            f"Classes must be whole numbers from 0, but a target is {value:g}. Floats are targets of regression: "
            "target_kind='regression' (--target-kind)."
        )
    target = target.long()
    found = torch.unique(target)
    outputs = int(found[-1]) + 1 if num_outputs is None else num_outputs
    if int(found[0]) < 0 or int(found[-1]) >= outputs:
        raise ValueError(
            f"Labels must be between 0 and {outputs - 1} for {counted(outputs, 'class', 'classes')}, but they "
            f"range from {int(found[0])} to {int(found[-1])}; renumber them."
        )
    if num_outputs is None and len(found) == 1:
        raise ValueError(
            f"All labels are {int(found[0])}, but a classifier needs at least two classes. (num_outputs= allows "
            "classes without members.)"
        )
    if num_outputs is None and len(found) < outputs:
        shown = ", ".join(map(str, found[:_SHOWN].tolist())) + (", ..." if len(found) > _SHOWN else "")
        raise ValueError(
            f"Labels must be 0, 1, ... without gaps, but they are {shown}. Renumber them, for example by "
            "torch.unique(y, return_inverse=True)[1]; if they are quantities, use floats. (num_outputs= allows classes "
            "without members.)"
        )
    return target, outputs


def labels_of(target: Tensor, num_outputs: int | None) -> tuple[Tensor, int]:
    """Check multi-label targets.

    Args:
        target: (units,) or (units, labels) tensor.
        num_outputs: Number of labels. None: the number of columns.

    Returns:
        (units, labels) bool, True for labels that apply, and the number of labels.

    Raises:
        ValueError: If a target is not 0 or 1, the number of labels is wrong, or no label differs between units.
    """
    target = target.view(len(target), -1)
    wrong = (target != 0) & (target != 1)
    if bool(wrong.any()):
        raise ValueError(
            f"Multi-label targets must be 0 or 1 for each label, but one is {format_value(target[wrong][0].item())}. "
            "For a list of the numbers of the labels, write a row of zeros and ones for each unit."
        )
    _check_columns(target, num_outputs, "label")
    applies = target > 0
    if num_outputs is None and not bool((applies != applies[0]).any()):
        raise ValueError("Every label is the same for all units, so there is nothing to learn. Check the targets.")
    return applies, target.shape[1]


def values_of(target: Tensor, num_outputs: int | None) -> tuple[Tensor, int]:
    """Check regression targets.

    Args:
        target: (units,) or (units, targets) tensor.
        num_outputs: Number of targets. None: the number of columns.

    Returns:
        (units,) or (units, targets) float32 values, and the number of targets.

    Raises:
        ValueError: If the number of targets is wrong, or a value exceeds float32.
    """
    _check_columns(target, num_outputs, "target")
    values = target.float()
    if not bool(torch.isfinite(values).all()):
        raise ValueError("A target exceeds the range of float32. Use another unit, or a logarithm.")
    return values, _columns(target)


def _check_columns(target: Tensor, num_outputs: int | None, noun: str) -> None:
    if num_outputs not in (None, _columns(target)):
        raise ValueError(f"There must be {counted(int(num_outputs or 0), noun)} per unit, got {_columns(target):,}.")


def _columns(target: Tensor) -> int:
    return 1 if target.dim() == 1 else target.shape[1]


def _attributes(graph: Any) -> str:
    """Name the attributes that a graph has, which a user may only have to rename."""
    keys = getattr(graph, "keys", None)
    names = sorted(str(name) for name in (keys() if callable(keys) else keys or ()))
    return f" It has {', '.join(names[:_SHOWN])}." if names else ""
