"""Stacks of blocks."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn

from supa_mamba.modules.attention import CausalAttention
from supa_mamba.modules.block import MambaBlock
from supa_mamba.modules.initialisation import Device
from supa_mamba.modules.inputs import check_step_rows, packed_rows
from supa_mamba.modules.norm import RMSNorm
from supa_mamba.modules.options import check_at_least
from supa_mamba.modules.states import LayerState, StackState


class BlockStack(nn.Module):
    """Blocks and a last norm; how rows and states go through them.

    Args:
        blocks: in their order, at least one.
        d_model: features of a row.
        norm_epsilon: added to the mean square that the last norm divides by.
        device: of the last norm.
        dtype: of the last norm.
    """

    def __init__(
        self,
        blocks: Iterable[MambaBlock],
        d_model: int,
        norm_epsilon: float,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.d_model = d_model
        self.layers = nn.ModuleList(blocks)
        self.norm_f = RMSNorm(d_model, eps=norm_epsilon, device=device, dtype=dtype)
        # The sum of all outputs should not grow with their number.
        for name, parameter in self.layers.named_parameters():
            if name.endswith(("out_proj.weight", "out_proj_b.weight")):
                with torch.no_grad():
                    parameter.div_(len(self.layers) ** 0.5)

    @torch.no_grad()
    def step(self, x: Tensor, state: StackState, slots: Tensor | None = None) -> Tensor:
        """Apply all blocks to one more row of each of M sequences, and change their states in place.

        Args:
            x: (M, d_model).
            state: tables of R slots, of ``init_state`` or ``forward``.
            slots: (M,) integers, the slot of each sequence in the tables, or None; see ``Mamba.step``.

        Returns:
            y (M, d_model). No gradients flow.

        Raises:
            ValueError: Shapes, dtypes or devices do not fit, or the mixer takes no steps.
        """
        check_step_rows(x, self.d_model)
        self._check_layers(state)
        for layer, of_layer in zip(self.blocks(), state, strict=True):
            x = layer.step(x, of_layer, slots)
        y: Tensor = self.norm_f(x)
        return y

    def blocks(self) -> Iterator[MambaBlock]:
        """Return the blocks in their order.

        Yields:
            Each block.
        """
        for block in self.layers:
            yield cast(MambaBlock, block)

    def apply_blocks(
        self,
        x: Tensor,
        offset: Tensor | None,
        state: StackState | None,
        *,
        return_state: bool,
        max_length: int | None = None,
    ) -> Tensor | tuple[Tensor, StackState]:
        """Apply all blocks.

        Args:
            x: (T, d_model) or (B, L, d_model).
            offset: (S + 1,) int64, or None.
            state: the state before the first rows.
            return_state: whether to return the state after the last rows, too.
            max_length: a bound of the lengths, for attention.

        Returns:
            As ``MambaStack.forward``.
        """
        rows, begins = packed_rows(x, offset, self.d_model)
        if state is not None:
            self._check_layers(state)
        after: list[LayerState] = []
        for number, block in enumerate(self.blocks()):
            options: dict[str, Any] = {}
            if isinstance(block.mixer, CausalAttention):
                options["max_length"] = max_length
            before = None if state is None else state[number]
            if return_state:
                rows, of_block = block(rows, begins, before, return_state=True, **options)
                after.append(of_block)
            else:
                rows = block(rows, begins, before, **options)
        y: Tensor = self.norm_f(rows).reshape(x.shape)
        return (y, tuple(after)) if return_state else y

    def _check_layers(self, state: StackState) -> None:
        if len(state) != len(self.layers):
            raise ValueError(f"state: of {len(state)} layers was given, but this stack has {len(self.layers)}.")


class MambaStack(BlockStack):
    """Apply several blocks and a last norm, as the body of an encoder or a generator.

    Names of parameters are those of mamba_ssm's ``MixerModel`` without its embedding: ``layers.0.norm.weight``,
    ``layers.0.mixer.*``, ..., ``norm_f.weight``.

    Args:
        d_model: features of a row.
        n_layer: number of blocks.
        mixer: "mamba", "mamba2", "bimamba", or a class that is called as ``mixer(d_model, **options)``.
        norm_epsilon: added to the mean squares that norms divide by.
        device: of the parameters.
        dtype: of the parameters; rates, skips and Mamba-2's ``dt_bias`` stay in float32 where it is half precision.
        options: of the mixer, such as ``d_state``.

    Raises:
        ValueError: There is no such mixer, or a number is out of range.

    Example:
        An encoder of showers, and a generator::

            encoder = MambaStack(64, 4, mixer="bimamba", d_state=8)
            y = encoder(torch.randn(8, 64), torch.tensor([0, 3, 8]))
            generator = MambaStack(64, 4)
            state = generator.init_state(100)
            y = generator.step(torch.randn(100, 64), state)

    Source: Mamba (arXiv 2312.00752), section 3.4; the first values of ``out_proj`` are divided by the square root of
    the number of layers, as in GPT-2.
    """

    def __init__(
        self,
        d_model: int,
        n_layer: int,
        mixer: str | Callable[..., Any] = "mamba",
        *,
        norm_epsilon: float = 1e-5,
        device: Device = None,
        dtype: torch.dtype | None = None,
        **options: Any,
    ) -> None:
        check_at_least(1, d_model=d_model, n_layer=n_layer)
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        options |= {"norm_epsilon": norm_epsilon, **factory}
        blocks = [MambaBlock(d_model, mixer, **options) for _ in range(n_layer)]
        super().__init__(blocks, d_model, norm_epsilon, **factory)

    def forward(
        self,
        x: Tensor,
        offset: Tensor | None = None,
        state: StackState | None = None,
        *,
        return_state: bool = False,
    ) -> Tensor | tuple[Tensor, StackState]:
        """Apply all blocks.

        Args:
            x: (T, d_model) packed with an offset, or (B, L, d_model) padded without.
            offset: (S + 1,) int64, where each packed sequence begins, and the number of rows.
            state: the state before the first rows, as returned by an earlier call; it is not changed.
            return_state: whether to return the state after the last rows, too.

        Returns:
            y, of the shape of x, normalised, in the precision of the parameters, and with ``return_state`` the states
            of all layers.

        Raises:
            ValueError: Shapes, dtypes or devices do not fit.
        """
        return self.apply_blocks(x, offset, state, return_state=return_state)

    def init_state(self, batch: int, *, dtype: torch.dtype | None = None) -> StackState:
        """Return the states of sequences that have not begun.

        Args:
            batch: how many slots the tables have, R.
            dtype: of the states; that of the mixer's ``init_state`` if not given.

        Returns:
            The state of each layer, on the device of the parameters.

        Raises:
            ValueError: The mixer keeps no state.
        """
        options = {} if dtype is None else {"dtype": dtype}
        return tuple(layer.init_state(batch, **options) for layer in self.blocks())
