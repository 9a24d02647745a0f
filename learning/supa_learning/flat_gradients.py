"""Gradients in one tensor, which processes sum with one operation."""

from collections.abc import Iterable
from itertools import islice

import torch
from torch import Tensor, nn

from supa_learning.processes import Processes


class FlatGradients:
    """Compute the gradients of parameters into one tensor for each dtype.

    Several processes sum these tensors with one operation each. The tensors stay at the same addresses, so that a CUDA
    graph can write them and another one can read them.

    Args:
        parameters: Parameters of a model, in the same order in all processes. Those without ``requires_grad`` are left
            out.

    Raises:
        ValueError: If no parameter requires a gradient.

    Example:
        >>> import torch
        >>> from supa_learning import FlatGradients, Processes
        >>> layer = torch.nn.Linear(2, 1)
        >>> gradients = FlatGradients(layer.parameters())
        >>> gradients.backward(layer(torch.ones(4, 2)).sum())
        >>> gradients.sum_(Processes())  # a single process
        >>> layer.weight.grad, layer.bias.grad
        (tensor([[4., 4.]]), tensor([4.]))
    """

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        by_dtype: dict[torch.dtype, list[nn.Parameter]] = {}
        for weights in parameters:
            if weights.requires_grad:
                by_dtype.setdefault(weights.dtype, []).append(weights)
        if not by_dtype:
            raise ValueError("parameters: none of them requires a gradient; pass those of a model to train.")
        self._parts: list[tuple[Tensor, int]] = []
        """Gradients of one dtype, and the number of their parameters."""
        self._parameters: list[nn.Parameter] = []
        self._views: list[Tensor] = []
        for group in by_dtype.values():
            sizes = [weights.numel() for weights in group]
            flat = torch.zeros(sum(sizes), dtype=group[0].dtype, device=group[0].device)
            views = flat.split_with_sizes(sizes)
            self._parts.append((flat, len(group)))
            self._parameters += group
            self._views += [view.view_as(weights) for view, weights in zip(views, group, strict=True)]

    def backward(self, loss: Tensor) -> None:
        """Compute the gradients of a loss. The ``grad`` of each parameter becomes a view of the flat tensors.

        Unlike `torch.Tensor.backward`, this method replaces earlier gradients. Parameters that the loss does not use
        have gradients of zeros, so the gradients of all processes have the same shapes.

        Args:
            loss: () loss of this process.

        Raises:
            RuntimeError: If the loss is not a single number, or requires no gradient.
        """
        gradients = torch.autograd.grad(loss, self._parameters, materialize_grads=True)
        rows = (gradient.reshape(-1) for gradient in gradients)
        for flat, count in self._parts:
            torch.cat(list(islice(rows, count)), out=flat)
        for weights, view in zip(self._parameters, self._views, strict=True):
            weights.grad = view

    def sum_(self, processes: Processes) -> None:
        """Replace the gradients by their sums over all processes.

        Args:
            processes: The processes, each of which calls this method once in each step.
        """
        for flat, _ in self._parts:
            processes.sum_(flat)
