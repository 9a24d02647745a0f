"""Random numbers of a training, apart from the global random state of PyTorch and NumPy."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from supa.arrays import IntArray


class RandomState:
    """Random generators of one training.

    Dropout and the constructors of modules draw from PyTorch's global generators and accept no other. `as_global`
    therefore exchanges the states of the global generators for those of this training, and back.

    Args:
        seed: the seed, as for ``torch.manual_seed``.
        device: the generators of the CPU and of this device are exchanged.

    Example:
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
        """Exchange the states with those of the global generators, and exchange them again at the end.

        Within another such block, the global generators have the state of the program again.

        Returns:
            A context.
        """
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def state_dict(self) -> dict[str, Any]:
        """Return the states of the generators, outside `as_global`.

        Returns:
            ``cpu`` and ``cuda`` (None without a GPU).
        """
        return {"cpu": self._cpu.get_state(), "cuda": None if self._cuda is None else self._cuda.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the states of the generators, outside `as_global`.

        Args:
            state: what `state_dict` returned; the state of a GPU is ignored without a GPU.
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
        count: number of items.
        *key: non-negative integers that name the order, such as seed, stage and epoch.

    Returns:
        (count,) int64 permutation, a function of the key only.

    Example:
        >>> sorted(epoch_order(4, 0, 1).tolist())
        [0, 1, 2, 3]
    """
    return np.random.default_rng(key).permutation(count)
