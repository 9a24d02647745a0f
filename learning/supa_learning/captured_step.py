"""Steps that are recorded as CUDA graphs, so that launching their kernels costs almost no time."""

import gc
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

K = TypeVar("K", bound=Hashable)
I = TypeVar("I")

_MOST_SHAPES = 16  # graphs that are kept


@dataclass(eq=False)
class _Shape(Generic[I]):
    inputs: I
    calls: int = 0
    captured: tuple[torch.cuda.CUDAGraph, Tensor] | None = None
    """Graph and its result."""


class CapturedStep(Generic[K, I]):
    """Run a function of tensors as a CUDA graph, one for each shape of its inputs.

    The first call with a shape runs the function as usual: it compiles kernels and creates the state of an optimizer.
    The second call captures a graph, and all later ones replay it. The results have the same bits as without graphs.
    All graphs share the memory of their intermediate results.

    Args:
        function: Function of the inputs that returns a tensor. It must not synchronise with the device, and must launch
            the same kernels in each call with the same shape.
        new_inputs: Function that returns inputs of a shape, whose tensors the caller fills before each call.
        device: Device of the function. The function runs as usual if this is not a CUDA device.
        enabled: Whether to capture graphs.

    Example:
        >>> import torch
        >>> from supa_learning import CapturedStep
        >>> double = CapturedStep(lambda x: 2 * x, torch.zeros, device=torch.device("cpu"))
        >>> double.inputs(3).copy_(torch.tensor([1.0, 2.0, 3.0]))
        tensor([1., 2., 3.])
        >>> double(3)
        tensor([2., 4., 6.])
    """

    def __init__(
        self,
        function: Callable[[I], Tensor],
        new_inputs: Callable[[K], I],
        *,
        device: torch.device,
        enabled: bool = True,
    ) -> None:
        self.function, self._new_inputs = function, new_inputs
        self._captures = enabled and device.type == "cuda"
        self._shapes: OrderedDict[K, _Shape[I]] = OrderedDict()
        self._pool: Any = None

    def inputs(self, shape: K) -> I:
        """Return the inputs of a shape.

        Args:
            shape: The shape, an argument of ``new_inputs``.

        Returns:
            The inputs that the next call with this shape uses. They are always the same tensors.
        """
        if shape not in self._shapes:
            self._shapes[shape] = _Shape(self._new_inputs(shape))
            if len(self._shapes) > _MOST_SHAPES:
                _, oldest = self._shapes.popitem(last=False)
                _wait_for(oldest)
        self._shapes.move_to_end(shape)
        return self._shapes[shape].inputs

    def __call__(self, shape: K) -> Tensor:
        """Run the function on the inputs of a shape.

        Args:
            shape: The shape.

        Returns:
            Result of the function, which later calls do not change.

        Raises:
            ValueError: If the inputs of this shape were not requested.
        """
        if shape not in self._shapes:
            raise ValueError(
                f"shape: {shape!r} was given, but it has no inputs; call inputs(shape) and fill them first."
            )
        found = self._shapes[shape]
        found.calls += 1
        if not self._captures or found.calls == 1:
            return self.function(found.inputs)
        if found.captured is None:
            found.captured = self._capture(found.inputs)
        graph, result = found.captured
        graph.replay()
        return result.clone()

    def forget(self) -> None:
        """Drop all graphs and inputs. This is necessary if tensors that the function uses were replaced."""
        for shape in self._shapes.values():
            _wait_for(shape)
        self._shapes.clear()
        self._pool = None

    def _capture(self, inputs: I) -> tuple[torch.cuda.CUDAGraph, Tensor]:
        graph = torch.cuda.CUDAGraph()
        # Other threads, such as one that prepares batches, may use the GPU during the capture.
        with (
            _no_garbage_collection(),
            torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"),
        ):
            result = self.function(inputs)
        self._pool = graph.pool()
        return graph, result


def _wait_for(shape: _Shape[Any]) -> None:
    """Wait until a graph is no longer executed, because its memory will be used again."""
    if shape.captured is not None:
        torch.cuda.synchronize()


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Suspend the cyclic garbage collector: CUDA cancels a capture during which another graph is freed."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
