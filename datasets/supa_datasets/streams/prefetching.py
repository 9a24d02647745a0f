"""Batches that a thread makes ahead of their use and copies to a device."""

import dataclasses
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from torch import Tensor

from supa.checks import format_value

T = TypeVar("T")

_AHEAD = 4  # batches; a few, because one of them may wait for a simulation that is enough for the others
_END = object()


def prefetched(batches: Generator[T, None, None], device: torch.device) -> Generator[T, None, None]:
    """Make batches ahead in a thread, and copy them to a device.

    On a GPU, the copies come from page-locked memory and run on a CUDA stream of their own, beside the kernels of the
    training. The current stream of the caller waits for the copy of a batch before it uses the batch. The thread ends
    when the iteration ends, is closed or raises an exception.

    Args:
        batches: Batches in the memory of the host: tensors, or dictionaries, dataclasses, sequences or PyTorch
            Geometric objects of tensors.
        device: Device to which their tensors are copied.

    Yields:
        The same batches on the device.
    """
    on_gpu = device.type == "cuda"
    if on_gpu and device.index is None:  # a new thread would use GPU 0
        device = torch.device("cuda", torch.cuda.current_device())
    side = torch.cuda.Stream(device) if on_gpu else None  # type: ignore[no-untyped-call]

    def copied(tensor: Tensor) -> Tensor:
        return (tensor if tensor.is_cuda else tensor.pin_memory()).to(device, non_blocking=True)

    def make() -> tuple[Any, torch.cuda.Event | None]:
        if side is None:
            return next(batches, _END), None
        with torch.cuda.stream(side):
            batch = next(batches, _END)  # may run kernels
            return (batch, None) if batch is _END else (map_tensors(copied, batch), side.record_event())

    with ThreadPoolExecutor(1, thread_name_prefix="supa-prefetch") as thread:
        pending = deque(thread.submit(make) for _ in range(_AHEAD))
        try:
            while True:
                batch, event = pending.popleft().result()
                if batch is _END:
                    return
                pending.append(thread.submit(make))
                if event is not None:
                    _wait(event, batch)
                yield batch
                del batch
        finally:
            for future in pending:
                future.cancel()
            thread.submit(batches.close)


def _wait(event: torch.cuda.Event, batch: Any) -> None:
    """Let the current stream wait for a batch, whose memory is not used again before this stream is done with it."""
    stream = torch.cuda.current_stream(event.device)
    stream.wait_event(event)

    def record(tensor: Tensor) -> Tensor:
        tensor.record_stream(stream)
        return tensor

    map_tensors(record, batch)


def map_tensors(function: Callable[[Tensor], Tensor], batch: Any) -> Any:
    """Apply a function to all tensors of a batch.

    Args:
        function: The function.
        batch: A tensor, or a dictionary, dataclass, sequence or PyTorch Geometric object of tensors. Other values
            remain as they are.

    Returns:
        The batch with the results.
    """
    if isinstance(batch, Tensor):
        return function(batch)
    if isinstance(batch, dict):
        return {name: map_tensors(function, value) for name, value in batch.items()}
    if isinstance(batch, list | tuple):
        values = [map_tensors(function, value) for value in batch]
        return type(batch)(*values) if hasattr(batch, "_fields") else type(batch)(values)
    if dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        names = [field.name for field in dataclasses.fields(batch)]
        return dataclasses.replace(batch, **{name: map_tensors(function, getattr(batch, name)) for name in names})
    # PyTorch Geometric's Data; it is not imported, because only graphs need it.
    return batch.apply(function) if hasattr(batch, "apply") else batch


def checked_device(device: object) -> torch.device:
    """Check the device of a stream.

    Args:
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or a ``torch.device``.

    Returns:
        The device.

    Raises:
        ValueError: If it is not such a device, or there is no such GPU.
    """
    try:
        chosen = torch.device(device)  # type: ignore[call-overload]
    except (RuntimeError, TypeError):
        chosen = None
    if chosen is None or chosen.type not in ("cpu", "cuda"):
        raise ValueError(
            f"device: {format_value(device)} was given, but it must be 'cpu', 'cuda' or a torch.device of these."
        )
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device: {str(chosen)!r} was given, but PyTorch finds no such CUDA device; use 'cpu' or None."
        )
    return chosen  # type: ignore[no-any-return]
