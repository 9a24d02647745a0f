"""A layer of a stack: norm, mixer and residual, with or without a gated MLP."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from supa.checks import did_you_mean
from supa_mamba.modules.bimamba import BiMamba
from supa_mamba.modules.initialisation import Device
from supa_mamba.modules.mamba import Mamba
from supa_mamba.modules.mamba2 import Mamba2
from supa_mamba.modules.mlp import GatedMLP
from supa_mamba.modules.norm import ResidualSum, RMSNorm
from supa_mamba.modules.options import check_at_least, check_options
from supa_mamba.modules.states import LayerState


class DeferredSum(NamedTuple):
    """Rows between two blocks of a stack, as a sum that the norm of the next block computes.

    Args:
        residual: (T, d_model) residual, float32 or float64 after the first block.
        update: (T, d_model) rows to add, in the precision of the mixer. None before the first block.
    """

    residual: Tensor
    update: Tensor | None


class Mixer(Protocol):
    """A module that mixes the rows of sequences. For training, a custom class needs only ``forward``."""

    def __call__(self, x: Tensor, offset: Tensor | None = None, **options: Any) -> Any:
        """Mix packed or padded rows. With ``return_state=True`` also return the state."""

    def step(self, x: Tensor, state: Any, slots: Tensor | None = None) -> Tensor:
        """Mix one more row of each of M sequences and update the state in place."""

    def init_state(self, batch: int) -> Any:
        """Return the initial state of empty sequences."""


MIXERS: dict[str, Callable[..., Any]] = {"mamba": Mamba, "mamba2": Mamba2, "bimamba": BiMamba}
"""Mixers that can be selected by name."""


class MambaBlock(nn.Module):
    """Residual block with a mixer: ``x + mixer(norm(x))``.

    With ``d_intermediate``, a gated MLP follows: ``x + mlp(norm2(x))``. It is ``fc2(a * silu(b))``, where a and b are
    the halves of ``fc1(x)``.

    With ``gain``, the block has no norms, and two trained factors: ``x + gain * mixer(x)``, ``x + gain2 * mlp(x)``.

    The residual stays in float32 (or float64), independently of the precision of the mixer. Under autocast, the mixer
    and the MLP receive rows in half precision.

    Args:
        d_model: Number of features per row.
        mixer: ``"mamba"``, ``"mamba2"``, ``"bimamba"``, or a class that is called as ``mixer(d_model, **options)``.
        norm_epsilon: Epsilon of the RMS norms.
        d_intermediate: Number of hidden features of the MLP; 0 for a block without an MLP. It is not rounded up to a
            multiple of 128, as in mamba_ssm.
        gain: Initial value of the factors of a block without norms; None for a block with norms.
        device: Device of the parameters. It is passed to a custom class only if it is given.
        dtype: Dtype of the parameters. It is passed to a custom class only if it is given.
        options: Options of the mixer, such as ``d_state``.

    Raises:
        ValueError: If the mixer is unknown, or does not accept the options, or ``d_intermediate`` is negative.

    Example:
        >>> import torch
        >>> from supa_mamba import MambaBlock
        >>> block = MambaBlock(16, "mamba2", d_state=8, headdim=8)
        >>> block(torch.randn(8, 16), torch.tensor([0, 3, 8])).shape  # packed sequences of 3 and 5 rows
        torch.Size([8, 16])
        >>> block(torch.randn(2, 5, 16)).shape  # a padded batch
        torch.Size([2, 5, 16])

    Source:
        Mamba (arXiv 2312.00752), section 3.4. The parameters have the names of mamba_ssm's ``Block``.
    """

    mixer: Mixer

    def __init__(
        self,
        d_model: int,
        mixer: str | Callable[..., Any] = "mamba",
        *,
        norm_epsilon: float = 1e-5,
        d_intermediate: int = 0,
        gain: float | None = None,
        device: Device = None,
        dtype: torch.dtype | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        mixer_class = MIXERS.get(mixer) if isinstance(mixer, str) else mixer
        if not callable(mixer_class):
            raise ValueError(
                f"mixer: {mixer!r} was given, but it must be one of {', '.join(MIXERS)}, or a class."
                f"{did_you_mean(mixer, MIXERS)}"
            )
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        options |= {name: value for name, value in factory.items() if value is not None}
        check_options(getattr(mixer_class, "__name__", repr(mixer_class)), mixer_class, d_model, **options)
        check_at_least(0, d_intermediate=d_intermediate)

        def norm() -> RMSNorm | ResidualSum:
            return RMSNorm(d_model, eps=norm_epsilon, **factory) if gain is None else ResidualSum()

        def factor() -> nn.Parameter | None:
            return None if gain is None else nn.Parameter(torch.tensor(gain, **factory))

        self.norm = norm()
        self.mixer = mixer_class(d_model, **options)
        self.gain = factor()
        self.norm2 = norm() if d_intermediate else None
        self.mlp = GatedMLP(d_model, d_intermediate, **factory) if d_intermediate else None
        self.gain2 = factor() if d_intermediate else None

    def forward(
        self,
        x: Tensor | DeferredSum,
        offset: Tensor | None = None,
        state: LayerState | None = None,
        *,
        return_state: bool = False,
        **options: Any,
    ) -> Tensor | DeferredSum | tuple[Tensor | DeferredSum, LayerState]:
        """Apply the block to the rows of each sequence.

        Args:
            x: (T, d_model) packed rows if ``offset`` is given, otherwise a (B, L, d_model) padded batch. A stack passes
                packed rows as a ``DeferredSum``.
            offset: (S + 1,) integers. Sequence s consists of the rows ``offset[s]`` to ``offset[s + 1] - 1``.
            state: State before the first rows. It is not modified.
            return_state: Whether to also return the state after the last rows.
            options: Further arguments of the mixer, such as ``reverse``.

        Returns:
            y, of the shape of ``x``, float32 or float64, and with ``return_state`` the state. If ``x`` is a
            ``DeferredSum``, y is one, too.

        Raises:
            ValueError: If shapes, dtypes or devices do not match.
        """
        rows, residual = self.norm(*_deferred(x), autocast=True)
        after: Any = None
        if state is None and not return_state:
            update = self.mixer(rows, offset, **options)
        else:
            update, after = self.mixer(rows, offset, state=state, return_state=True, **options)
        update = scaled(update, self.gain)
        if self.norm2 is not None and self.mlp is not None:
            rows, residual = self.norm2(residual, update, autocast=True)
            update = scaled(self.mlp(rows), self.gain2)
        y = _added(x, residual, update)
        return (y, after) if return_state else y

    @torch.no_grad()
    def step(self, x: Tensor | DeferredSum, state: LayerState, slots: Tensor | None = None) -> Tensor | DeferredSum:
        """Apply the block to one more row of each of M sequences and update their states in place, without gradients.

        Args:
            x: (M, d_model) rows. A stack passes them as a ``DeferredSum``.
            state: State table with R slots, from `init_state` or `forward`.
            slots: (M,) integers, the slot of each sequence; see `Mamba.step`.

        Returns:
            (M, d_model) rows, float32 or float64. If ``x`` is a ``DeferredSum``, they are one, too.

        Raises:
            ValueError: If shapes, dtypes or devices do not match, or the mixer does not support single steps.
        """
        rows, residual = self.norm(*_deferred(x), autocast=True)
        update = scaled(self.mixer.step(rows, state, slots), self.gain)
        if self.norm2 is not None and self.mlp is not None:
            rows, residual = self.norm2(residual, update, autocast=True)
            update = scaled(self.mlp.step(rows), self.gain2)
        return _added(x, residual, update)

    def init_state(self, batch: int, **options: Any) -> LayerState:
        """Return the initial state of empty sequences.

        Args:
            batch: Number of slots, R.
            options: Further arguments of the mixer's ``init_state``.

        Returns:
            State of the mixer.

        Raises:
            ValueError: If the mixer has no state.
        """
        state: LayerState = self.mixer.init_state(batch, **options)
        return state


def scaled(update: Tensor, gain: Tensor | None) -> Tensor:
    """Multiply an update by a factor.

    Args:
        update: (T, d_model) update.
        gain: () factor, or None for 1.

    Returns:
        (T, d_model) update.
    """
    return update if gain is None else update * gain.to(update.dtype)


def _deferred(x: Tensor | DeferredSum) -> DeferredSum:
    return x if isinstance(x, DeferredSum) else DeferredSum(x, None)


def _added(x: Tensor | DeferredSum, residual: Tensor, update: Tensor) -> Tensor | DeferredSum:
    return DeferredSum(residual, update) if isinstance(x, DeferredSum) else residual + update
