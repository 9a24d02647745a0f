"""Random numbers of PyTorch that belong to one training, apart from those of the rest of the program."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


class OwnRandomness:
    """A state of PyTorch's global generators, which is exchanged for the program's own state where it is used.

    Dropout and the first weights of modules draw from the global generators and take no others.

    Args:
        seed: as of ``torch.manual_seed``, whose numbers these are.
        device: the generators of the CPU and of this device are exchanged.
    """

    def __init__(self, seed: int, device: torch.device | str = "cpu") -> None:
        device = torch.device(device)
        self._device = device if device.type == "cuda" else None
        self._aside = (_seeded(seed, "cpu"), None if self._device is None else _seeded(seed, self._device))

    @contextmanager
    def exchanged(self) -> Iterator[None]:
        """Exchange the state for that of the global generators, and exchange both again at the end.

        Inside another such block, the global generators have the program's own state.

        Returns:
            A context.
        """
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def state(self) -> tuple[Tensor, Tensor | None]:
        """Return the state that is kept aside.

        Returns:
            Those of the CPU's generator and of the GPU's; None without a GPU.
        """
        return self._aside

    def load_state(self, cpu: Tensor, cuda: Tensor | None) -> None:
        """Replace the state that is kept aside.

        Args:
            cpu: of the CPU's generator.
            cuda: of the GPU's; None: it stays.
        """
        kept = self._aside[1]
        self._aside = (cpu.cpu(), kept if cuda is None or self._device is None else cuda.cpu())

    def _exchange(self) -> None:
        now = (torch.get_rng_state(), None if self._device is None else torch.cuda.get_rng_state(self._device))
        cpu, cuda = self._aside
        torch.set_rng_state(cpu)
        if cuda is not None and self._device is not None:
            torch.cuda.set_rng_state(cuda, self._device)
        self._aside = now


def _seeded(seed: int, device: torch.device | str) -> Tensor:
    return torch.Generator(device).manual_seed(seed).get_state()
