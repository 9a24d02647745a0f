"""Random numbers of a training, separate from the global random state of PyTorch and NumPy."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from supa.arrays import IntArray


class RandomState:
    """The random generators of one training.

    Dropout and the constructors of modules always use the global generators of PyTorch. `as_global` therefore swaps
    the states of the global generators with those of this training, and swaps them back at the end.

    Args:
        seed: Random seed, as for ``torch.manual_seed``.
        device: Device of the training. The generators of the CPU and of this device are swapped.

    Example:
        >>> import torch
        >>> from supa_learning import RandomState
        >>> before = torch.get_rng_state()
        >>> with RandomState(1).as_global():
        ...     layer = torch.nn.Linear(2, 2)
        >>> torch.equal(torch.get_rng_state(), before)
        True
    """

    def __init__(self, seed: int, *, device: torch.device | str = "cpu") -> None:
        device = torch.device(device)
        self._cpu = torch.Generator().manual_seed(seed)
        self._cuda = torch.Generator(device).manual_seed(seed) if device.type == "cuda" else None

    @contextmanager
    def as_global(self) -> Iterator[None]:
        """Swap the states with those of the global generators, and swap them back at the end.

        Inside a nested block, the global generators have the state of the program again.

        Returns:
            Context manager.
        """
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def state_dict(self) -> dict[str, Any]:
        """Return the states of the generators. Call it outside of `as_global`.

        Returns:
            Dictionary with ``cpu`` and ``cuda`` (None without a GPU).
        """
        return {"cpu": self._cpu.get_state(), "cuda": None if self._cuda is None else self._cuda.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the states of the generators. Call it outside of `as_global`.

        Args:
            state: Dictionary from `state_dict`. Without a GPU, the state of a GPU is ignored.
        """
        self._cpu.set_state(state["cpu"].cpu())
        if self._cuda is not None and state["cuda"] is not None:
            self._cuda.set_state(state["cuda"].cpu())

    def _exchange(self) -> None:
        program = torch.get_rng_state()
        torch.set_rng_state(self._cpu.get_state())
        self._cpu.set_state(program)
        if self._cuda is not None:
            program = torch.cuda.get_rng_state(self._cuda.device)
            torch.cuda.set_rng_state(self._cuda.get_state(), self._cuda.device)
            self._cuda.set_state(program)


def epoch_order(count: int, *key: int) -> IntArray:
    """Return a random order of the items of an epoch.

    Args:
        count: Number of items.
        *key: Non-negative integers that identify the order, such as seed, stage and epoch.

    Returns:
        (count,) int64 permutation, which depends only on ``count`` and the key.

    Example:
        >>> from supa_learning import epoch_order
        >>> bool((epoch_order(100, 0, 1) == epoch_order(100, 0, 1)).all())
        True
        >>> sorted(epoch_order(4, 0, 1).tolist())
        [0, 1, 2, 3]
    """
    return np.random.default_rng(key).permutation(count)
