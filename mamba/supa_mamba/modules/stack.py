"""Stacks of residual blocks."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn

from supa.checks import counted
from supa_mamba.modules.attention import CausalAttention
from supa_mamba.modules.block import MIXERS, DeferredSum, MambaBlock
from supa_mamba.modules.initialisation import Device
from supa_mamba.modules.inputs import check_step_rows, packed_rows
from supa_mamba.modules.mamba import Mamba
from supa_mamba.modules.mamba2 import Mamba2
from supa_mamba.modules.norm import RMSNorm
from supa_mamba.modules.options import BlockKind, check_at_least
from supa_mamba.modules.states import LayerState, MambaState, StackState

PROTECTED: dict[Any, dict[str, bool]] = {
    CausalAttention: {"qk_norm": True}, Mamba: {"b_c_dt_norm": True}, Mamba2: {"b_c_dt_norm": True},
}  # fmt: skip
"""Options of the mixers of blocks without norms."""


def block_options(
    block: BlockKind, mixer: str | Callable[..., Any], layers: int, d_intermediate: int
) -> dict[str, Any]:
    """Return the options of `MambaBlock` for a kind of block.

    Args:
        block: The kind.
        mixer: The mixer of the block.
        layers: Number of blocks of the stack.
        d_intermediate: Number of hidden features of the MLPs; 0 for none.

    Returns:
        Options of the block and of its mixer.

    Raises:
        ValueError: If the kind is unknown, or the mixer has no such block.
    """
    if block == "pre-norm":
        return {}
    if block != "outlier-protected":
        raise ValueError(f"block: {block!r} was given, but it must be 'pre-norm' or 'outlier-protected'.")
    found = PROTECTED.get(MIXERS.get(mixer, mixer) if isinstance(mixer, str) else mixer)
    if found is None:
        raise ValueError(
            f"block: {block!r} was given, but the mixer {mixer!r} has none; use CausalAttention, Mamba or Mamba2."
        )
    return {"gain": (layers * (2 if d_intermediate else 1)) ** -0.5, **found}


class BlockStack(nn.Module):
    """Base class of stacks: a sequence of blocks and a final norm.

    Args:
        blocks: The blocks, at least one.
        d_model: Number of features per row.
        norm_epsilon: Epsilon of the final RMS norm, and of the first one.
        block: Kind of the blocks, see `HybridStack`. With ``"outlier-protected"`` there is a norm before the blocks.
        device: Device of the final norm.
        dtype: Dtype of the final norm.
    """

    def __init__(
        self,
        blocks: Iterable[MambaBlock],
        d_model: int,
        norm_epsilon: float,
        *,
        block: BlockKind = "pre-norm",
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.d_model = d_model
        self.layers = nn.ModuleList(blocks)
        self.norm_f = RMSNorm(d_model, eps=norm_epsilon, device=device, dtype=dtype)
        protected = block == "outlier-protected"
        self.norm_in = RMSNorm(d_model, eps=norm_epsilon, device=device, dtype=dtype) if protected else None
        if protected:  # the factors of the blocks have this effect
            return
        # As in GPT-2, so that the residual does not grow with the number of its updates.
        updates = sum(1 if block.mlp is None else 2 for block in self.blocks())
        for name, parameter in self.layers.named_parameters():
            if name.endswith(("out_proj.weight", "out_proj_b.weight", "mlp.fc2.weight")):
                with torch.no_grad():
                    parameter.div_(updates**0.5)

    @torch.no_grad()
    def step(self, x: Tensor, state: StackState, slots: Tensor | None = None) -> Tensor:
        """Apply all blocks to one more row of each of M sequences and update their states in place, without gradients.

        Args:
            x: (M, d_model) rows.
            state: States of all layers, tables with R slots, from ``init_state``, ``forward`` or `with_buffers`.
            slots: (M,) integers, the slot of each sequence, or None; see `Mamba.step`.

        Returns:
            (M, d_model) rows.

        Raises:
            ValueError: If shapes, dtypes or devices do not match, or the mixer does not support single steps.
        """
        check_step_rows(x, self.d_model)
        self._check_layers(state)
        rows = self.first_sum(x)
        for layer, of_layer in zip(self.blocks(), state, strict=True):
            rows = cast(DeferredSum, layer.step(rows, of_layer, slots))
        y: Tensor = self.norm_f(*rows)[0]
        return y

    def with_buffers(self, state: StackState, length: int) -> StackState:
        """Add a buffer of inputs to the state of each layer of Mamba-2, so that `step` writes these states less often.

        Args:
            state: States of all layers, from ``init_state`` or ``forward``. The returned states share their memory.
            length: Maximum number of inputs in a buffer, from 1 to 32.

        Returns:
            The states for `step`; see `Mamba2.with_buffer`. Those of other layers are unchanged.

        Raises:
            ValueError: If no layer is of Mamba-2, or the length is out of range.

        Example:
            >>> import torch
            >>> from supa_mamba import MambaStack
            >>> generator = MambaStack(32, 2, mixer="mamba2", d_state=16, headdim=16)
            >>> state = generator.with_buffers(generator.init_state(100), 16)
            >>> generator.step(torch.randn(100, 32), state).shape
            torch.Size([100, 32])
        """
        self._check_layers(state)
        mixers = [block.mixer for block in self.blocks()]
        if not any(isinstance(mixer, Mamba2) for mixer in mixers):
            raise ValueError("with_buffers: only layers of Mamba2 have a buffer of inputs, but this stack has none.")
        return tuple(
            mixer.with_buffer(cast(MambaState, before), length) if isinstance(mixer, Mamba2) else before
            for mixer, before in zip(mixers, state, strict=True)
        )

    def first_sum(self, x: Tensor) -> DeferredSum:
        """Return the rows before the first block.

        Args:
            x: (T, d_model) rows.

        Returns:
            The rows, normalised if the blocks have no norms.
        """
        return DeferredSum(x if self.norm_in is None else self.norm_in(x)[0], None)

    def blocks(self) -> Iterator[MambaBlock]:
        """Iterate over the blocks.

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
        """Apply all blocks and the final norm.

        Args:
            x: (T, d_model) or (B, L, d_model) rows.
            offset: (S + 1,) int64 offsets, or None.
            state: State before the first rows.
            return_state: Whether to also return the state after the last rows.
            max_length: Upper bound of the lengths, for attention.

        Returns:
            The same as `MambaStack.forward`.
        """
        first, begins = packed_rows(x, offset, self.d_model)
        rows = self.first_sum(first)
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
        y: Tensor = self.norm_f(*rows)[0].reshape(x.shape)
        return (y, tuple(after)) if return_state else y

    def _check_layers(self, state: StackState) -> None:
        if len(state) != len(self.layers):
            raise ValueError(f"state: it has {counted(len(state), 'layer')}, but this stack has {len(self.layers)}.")


class MambaStack(BlockStack):
    """Stack of residual blocks with a final norm: the body of an encoder or a generator.

    The parameters have the names of mamba_ssm's ``MixerModel`` without its embedding: ``layers.0.norm.weight``,
    ``layers.0.mixer.*``, ..., ``norm_f.weight``. The initial weights of ``out_proj`` and ``fc2`` are divided by the
    square root of their number, as in GPT-2.

    Args:
        d_model: Number of features per row.
        n_layer: Number of blocks.
        mixer: ``"mamba"``, ``"mamba2"``, ``"bimamba"``, or a class that is called as ``mixer(d_model, **options)``.
        norm_epsilon: Epsilon of the RMS norms.
        d_intermediate: Number of hidden features of the MLP of each block, as in `MambaBlock`; 0 for none.
        block: ``"pre-norm"`` or ``"outlier-protected"``; see `HybridStack`.
        device: Device of the parameters.
        dtype: Dtype of the parameters. With half precision, ``A_log``, ``D`` and the ``dt_bias`` of Mamba-2 stay in
            float32.
        options: Options of the mixer, such as ``d_state``.

    Raises:
        ValueError: If the mixer is unknown, or an argument is out of range.

    Example:
        An encoder that processes packed showers in both directions:

        >>> import torch
        >>> from supa_mamba import MambaStack
        >>> encoder = MambaStack(32, 2, mixer="bimamba", d_state=8)
        >>> encoder(torch.randn(8, 32), torch.tensor([0, 3, 8])).shape  # two showers of 3 and 5 hits
        torch.Size([8, 32])

        A generator that adds one row to each of 100 sequences:

        >>> generator = MambaStack(32, 2)
        >>> state = generator.init_state(100)
        >>> generator.step(torch.randn(100, 32), state).shape
        torch.Size([100, 32])

    Source:
        Mamba (arXiv 2312.00752), section 3.4.
    """

    def __init__(
        self,
        d_model: int,
        n_layer: int,
        mixer: str | Callable[..., Any] = "mamba",
        *,
        norm_epsilon: float = 1e-5,
        d_intermediate: int = 0,
        block: BlockKind = "pre-norm",
        device: Device = None,
        dtype: torch.dtype | None = None,
        **options: Any,
    ) -> None:
        check_at_least(1, d_model=d_model, n_layer=n_layer)
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        options |= {"norm_epsilon": norm_epsilon, "d_intermediate": d_intermediate, **factory}
        options |= block_options(block, mixer, n_layer, d_intermediate)
        blocks = [MambaBlock(d_model, mixer, **options) for _ in range(n_layer)]
        super().__init__(blocks, d_model, norm_epsilon, block=block, **factory)

    def forward(
        self,
        x: Tensor,
        offset: Tensor | None = None,
        state: StackState | None = None,
        *,
        return_state: bool = False,
    ) -> Tensor | tuple[Tensor, StackState]:
        """Apply all blocks and the final norm.

        Args:
            x: (T, d_model) packed rows if ``offset`` is given, otherwise a (B, L, d_model) padded batch.
            offset: (S + 1,) integers. Sequence s consists of the rows ``offset[s]`` to ``offset[s + 1] - 1``.
            state: State before the first rows, as returned by an earlier call. It is not modified.
            return_state: Whether to also return the state after the last rows.

        Returns:
            y, of the shape of ``x``, normalised, in the precision of the parameters, and with ``return_state`` the
            states of all layers.

        Raises:
            ValueError: If shapes, dtypes or devices do not match.
        """
        return self.apply_blocks(x, offset, state, return_state=return_state)

    def init_state(self, batch: int, *, dtype: torch.dtype | None = None) -> StackState:
        """Return the initial states of empty sequences.

        Args:
            batch: Number of slots, R.
            dtype: Dtype of the states; by default that of the mixer's ``init_state``.

        Returns:
            The state of each layer, on the device of the parameters.

        Raises:
            ValueError: If the mixer has no state.
        """
        options = {} if dtype is None else {"dtype": dtype}
        return tuple(layer.init_state(batch, **options) for layer in self.blocks())
