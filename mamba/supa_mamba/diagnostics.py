"""Outlier features and signal propagation of any module, measured by forward hooks."""

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from supa_learning.task import Figures
from supa_learning.trainer import Trainer
from supa_mamba.modules.block import DeferredSum
from supa_mamba.modules.stack import BlockStack
from supa_mamba.ops.checks import check_tensor
from supa_mamba.packed_task import PackedTask

_MEASURED = 256
"""Number of validation showers whose activations are measured after an epoch."""


@torch.no_grad()
def activation_statistics(x: Tensor) -> dict[str, Tensor]:
    """Compute the outlier features and the signal propagation of activations.

    With n rows, such as the hits of a batch, and d features:

    - ``kurtosis``: with the mean squares s² of each feature over the rows, the mean over the features of s⁴ over the
      squared mean of s². It is 1 if all features are equally large, and d if only one is not 0.
    - ``max_over_median``: the largest absolute value of a row over its median one, as a mean over the rows.
    - ``cosine``: the mean cosine of the angle between two different rows. It is 1 if all rows have the same direction.
    - ``rms``: the square root of the mean square of all values.

    Args:
        x: (..., d) activations, of any floating-point dtype.

    Returns:
        () float64 values by name, without gradients. They are NaN where there are too few rows, or only zeros.

    Raises:
        ValueError: If it is no tensor of this shape.

    Example:
        >>> import torch
        >>> from supa_mamba import activation_statistics
        >>> one_feature = torch.nn.functional.one_hot(torch.zeros(5, dtype=torch.int64), 8).float()
        >>> [round(float(value), 3) for value in activation_statistics(one_feature).values()]
        [8.0, inf, 1.0, 0.354]
        >>> float(activation_statistics(torch.randn(1000, 8).sign())["kurtosis"])
        1.0

    Source:
        Understanding and Minimising Outlier Features in Neural Network Training (arXiv 2405.19279), sections 2 and 3.
    """
    check_tensor("x", x)
    if x.ndim == 0 or x.shape[-1] == 0 or x.is_complex():
        raise ValueError(
            f"x: shape {tuple(x.shape)}, {x.dtype} was given, but it must be (..., d) real numbers, d >= 1."
        )
    rows = x.detach().reshape(-1, x.shape[-1]).double()
    square = rows.square().mean(0)
    size = rows.abs()
    direction = rows / rows.norm(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)
    count = len(rows)
    ordered_pairs = direction.sum(0).square().sum() - direction.square().sum()
    return {
        "kurtosis": square.square().mean() / square.mean().square(),
        "max_over_median": (size.amax(1) / size.median(1).values).mean(),
        "cosine": ordered_pairs / (count * (count - 1)),
        "rms": square.mean().sqrt(),
    }


class ActivationMonitor:
    """Measure the results of modules while it is active; see `activation_statistics`.

    Forward hooks compute the statistics, and keep those of the latest call of each module. They change neither results
    nor gradients, and before and after the ``with`` block there are no hooks. The statistics stay on the device until
    `figures` is called. A captured CUDA graph calls no hooks: measure a pass without graphs.

    Args:
        modules: The modules by name. Each must return a tensor, or a tuple that begins with one. The result of a block
            of a stack is the residual after it.

    Raises:
        ValueError: If it is no dictionary of modules.

    Example:
        >>> import torch
        >>> from supa_mamba import ActivationMonitor, MambaStack
        >>> stack = MambaStack(32, 2, d_state=4)
        >>> with ActivationMonitor({f"layer {k}": block for k, block in enumerate(stack.layers)}) as monitor:
        ...     y = stack(torch.randn(8, 32), torch.tensor([0, 3, 8]))
        >>> {name: sorted(values) for name, values in monitor.figures().items()}["layer 1"]
        ['cosine', 'kurtosis', 'max_over_median', 'rms']
    """

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        if not isinstance(modules, Mapping) or not all(isinstance(module, nn.Module) for module in modules.values()):
            raise ValueError(
                f"modules: a {type(modules).__name__} was given, but it must be a dictionary of modules by name, such "
                "as dict(model.named_children())."
            )
        self._modules = dict(modules)
        self._handles: list[Any] = []
        self._latest: dict[str, dict[str, Tensor]] = {}

    def __enter__(self) -> Self:
        """Register the hooks."""
        for name, module in self._modules.items():
            self._handles.append(module.register_forward_hook(self._hook(name)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the hooks."""
        while self._handles:
            self._handles.pop().remove()

    def figures(self) -> dict[str, dict[str, float]]:
        """Return the statistics of the latest call of each module that was called.

        Returns:
            Values by the name of the module and by that of the statistic.
        """
        return {name: {key: float(value) for key, value in values.items()} for name, values in self._latest.items()}

    def _hook(self, name: str) -> Any:
        def measure(_module: nn.Module, _given: Any, result: Any) -> None:
            self._latest[name] = activation_statistics(_rows_of(result))

        return measure


def stack_activations(trainer: Trainer[Any]) -> Figures:
    """Measure the residual after each layer of the stack of a model in training, on validation showers.

    Args:
        trainer: Trainer of a ``PackedTask``, such as that of an encoder or of a generator.

    Returns:
        The figures of `ActivationMonitor` by layer.

    Example:
        >>> import supa, supa_mamba
        >>> sizes = supa_mamba.GeneratorConfig(d_model=32, n_layer=2)
        >>> config = supa_mamba.GeneratorTrainingConfig(generator=sizes, epochs=1, batch_size=16)
        >>> trainer = supa_mamba.train_generator(supa.simulate(60, "critical", seed=1), config)
        >>> sorted(supa_mamba.stack_activations(trainer))
        ['layer 0', 'layer 1']
    """
    task: PackedTask = trainer.task
    (stack,) = (module for module in task.model.modules() if isinstance(module, BlockStack))
    order = np.arange(min(len(task.valid), _MEASURED))
    modules = {f"layer {number}": block for number, block in enumerate(stack.layers)}
    with torch.no_grad(), ActivationMonitor(modules) as monitor:
        for batch in task.valid.batches(order, _MEASURED):
            task.validation_sums(batch)
    return monitor.figures()


@torch.no_grad()
def _rows_of(result: Any) -> Tensor:
    """Return the activations in the result of a module."""
    if isinstance(result, tuple) and not isinstance(result, DeferredSum):
        return _rows_of(result[0])
    if isinstance(result, DeferredSum):
        return result.residual if result.update is None else result.residual + result.update
    rows: Tensor = result
    return rows
