"""A layer of a stack: norm, mixer, residual."""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from supa.checks import did_you_mean
from supa_mamba.modules.bimamba import BiMamba
from supa_mamba.modules.initialisation import Device
from supa_mamba.modules.mamba import Mamba
from supa_mamba.modules.mamba2 import Mamba2
from supa_mamba.modules.norm import RMSNorm
from supa_mamba.modules.options import check_options
from supa_mamba.modules.states import LayerState
from supa_mamba.ops.dtypes import state_dtype


class Mixer(Protocol):
    """A module that mixes the rows of sequences. A custom class needs only ``forward`` to be trained."""

    def __call__(self, x: Tensor, offset: Tensor | None = None, **options: Any) -> Any:
        """Mix packed or padded rows; with ``return_state=True`` also return a state."""

    def step(self, x: Tensor, state: Any, slots: Tensor | None = None) -> Tensor:
        """Mix one more row of each of M sequences, and change the state in place."""

    def init_state(self, batch: int) -> Any:
        """Return the state of sequences that have not begun."""


MIXERS: dict[str, Callable[..., Any]] = {"mamba": Mamba, "mamba2": Mamba2, "bimamba": BiMamba}
"""The mixers that have a name."""


class MambaBlock(nn.Module):
    """Add what a mixer makes of normalised rows to the rows: x + mixer(norm(x)).

    The rows themselves stay in float32 (or float64), whatever the mixer computes in.

    Args:
        d_model: features of a row.
        mixer: "mamba", "mamba2", "bimamba", or a class that is called as ``mixer(d_model, **options)``.
        norm_epsilon: added to the mean square that the norm divides by.
        device: of the parameters; a custom class gets it only if it is given.
        dtype: of the parameters, likewise.
        options: of the mixer.

    Raises:
        ValueError: There is no such mixer, or it refuses its options.

    Source: Mamba (arXiv 2312.00752), section 3.4; names of parameters as mamba_ssm's ``Block``.
    """

    mixer: Mixer

    def __init__(
        self,
        d_model: int,
        mixer: str | Callable[..., Any] = "mamba",
        *,
        norm_epsilon: float = 1e-5,
        device: Device = None,
        dtype: torch.dtype | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        made = MIXERS.get(mixer) if isinstance(mixer, str) else mixer
        if not callable(made):
            raise ValueError(
                f"mixer: {mixer!r} was given, but it must be one of {', '.join(MIXERS)}, or a class."
                f"{did_you_mean(mixer, MIXERS)}"
            )
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        options |= {name: value for name, value in factory.items() if value is not None}
        check_options(getattr(made, "__name__", repr(made)), made, d_model, **options)
        self.norm = RMSNorm(d_model, eps=norm_epsilon, **factory)
        self.mixer = made(d_model, **options)

    def forward(
        self,
        x: Tensor,
        offset: Tensor | None = None,
        state: LayerState | None = None,
        *,
        return_state: bool = False,
        **options: Any,
    ) -> Tensor | tuple[Tensor, LayerState]:
        """Mix the rows of each sequence, and add them.

        Args:
            x: (T, d_model) packed with an offset, or (B, L, d_model) padded without.
            offset: (S + 1,) int64, where each packed sequence begins, and the number of rows.
            state: the state before the first rows; it is not changed.
            return_state: whether to return the state after the last rows, too.
            options: what else the mixer takes, such as ``reverse``.

        Returns:
            y, of the shape of x, float32 or float64, and with ``return_state`` the state.

        Raises:
            ValueError: Shapes, dtypes or devices do not fit.
        """
        x = x.to(state_dtype(x))
        if state is None and not return_state:
            y: Tensor = x + self.mixer(self.norm(x), offset, **options)
            return y
        mixed, after = self.mixer(self.norm(x), offset, state=state, return_state=True, **options)
        return (x + mixed, after) if return_state else x + mixed

    @torch.no_grad()
    def step(self, x: Tensor, state: LayerState, slots: Tensor | None = None) -> Tensor:
        """Take one more row of each of M sequences, and change their states in place. No gradients flow.

        Args:
            x: (M, d_model).
            state: a table of R slots, of ``init_state`` or ``forward``.
            slots: (M,) integers, which slot of the table belongs to each sequence; see ``Mamba.step``.

        Returns:
            y (M, d_model), float32 or float64.

        Raises:
            ValueError: Shapes, dtypes or devices do not fit, or the mixer takes no steps.
        """
        x = x.to(state_dtype(x))
        return x + self.mixer.step(self.norm(x), state, slots)

    def init_state(self, batch: int, **options: Any) -> LayerState:
        """Return the state of sequences that have not begun.

        Args:
            batch: how many slots the table has, R.
            options: what else the mixer's ``init_state`` takes.

        Returns:
            The mixer's state.

        Raises:
            ValueError: The mixer keeps no state.
        """
        state: LayerState = self.mixer.init_state(batch, **options)
        return state
