"""Implementations of the sequence operations in this package and in public packages, with their memory layouts."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn.functional import softplus

import mamba
import supa_mamba


class Layout(Protocol):
    """Order of the rows in memory."""

    def rows_to(self, x: Tensor) -> Tensor:
        """Convert packed rows (T, ...) to this layout."""

    def rows_of(self, y: Tensor) -> Tensor:
        """Convert a result in this layout to packed rows (T, ...)."""


class Packed:
    """Packed rows."""

    def rows_to(self, x: Tensor) -> Tensor:
        """Return (T, ...) rows."""
        return x

    def rows_of(self, y: Tensor) -> Tensor:
        """Return (T, ...) rows."""
        return y


class OneRow:
    """Packed rows as a batch of one sequence."""

    def rows_to(self, x: Tensor) -> Tensor:
        """Return (1, T, ...) rows."""
        return x[None]

    def rows_of(self, y: Tensor) -> Tensor:
        """Return (T, ...) rows."""
        return y[0]


class Padded:
    """Sequences padded to the longest.

    Args:
        lengths: (S,) integers.
        channels_first: Whether the channels come before the rows: (S, D, L) instead of (S, L, ...).
    """

    def __init__(self, lengths: Tensor, *, channels_first: bool = False) -> None:
        self.shape = len(lengths), int(lengths.max())
        self.places = (torch.arange(self.shape[1]) < lengths[:, None]).flatten().nonzero()[:, 0]
        self.channels_first = channels_first

    def rows_to(self, x: Tensor) -> Tensor:
        """Return a padded batch."""
        sequences, longest = self.shape
        padded = x.new_zeros(sequences * longest, *x.shape[1:]).index_copy(0, self.places.to(x.device), x)
        padded = padded.view(sequences, longest, *x.shape[1:])
        return padded.transpose(1, 2).contiguous() if self.channels_first else padded

    def rows_of(self, y: Tensor) -> Tensor:
        """Return the valid rows (T, ...)."""
        y = y.transpose(1, 2) if self.channels_first else y
        return y.flatten(0, 1)[self.places.to(y.device)]


class Implementation(NamedTuple):
    """One implementation of an operation.

    Args:
        package: Package that provides it.
        form: Its form and layout.
        layout: Layout of its inputs and its result.
        load: Function that imports the package and returns the operation.
    """

    package: str
    form: str
    layout: Layout
    load: Callable[[], Callable[..., Tensor]]


def sequence_indices(lengths: Tensor, device: str) -> Tensor:
    """Return the index of the sequence of each row, (1, T) int32."""
    return torch.arange(len(lengths), dtype=torch.int32).repeat_interleave(lengths)[None].to(device)


def scans(lengths: Tensor, device: str) -> list[Implementation]:
    """Return the implementations of the scan."""
    offset = mamba.offset_of(lengths, device)
    ours = partial(supa_mamba.selective_scan, delta_softplus=True)

    def of_mamba_ssm() -> Callable[..., Tensor]:
        from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

        return partial(selective_scan_fn, delta_softplus=True)

    return [
        Implementation("supa_mamba", "packed", Packed(), lambda: partial(ours, offset=offset)),
        Implementation("supa_mamba", "padded", Padded(lengths), lambda: ours),
        Implementation("mamba_ssm", "padded", Padded(lengths, channels_first=True), of_mamba_ssm),
    ]


def convolutions(lengths: Tensor, device: str) -> list[Implementation]:
    """Return the implementations of the convolution."""
    offset, indices = mamba.offset_of(lengths, device), sequence_indices(lengths, device)
    ours = partial(supa_mamba.causal_conv1d, activation="silu")

    def of_causal_conv1d(**options: Any) -> Callable[..., Tensor]:
        from causal_conv1d import causal_conv1d_fn

        # The rows stay in the order of memory, which the package calls channels-last.
        return lambda x, weight, bias: causal_conv1d_fn(x.mT, weight, bias, activation="silu", **options).mT

    def of_fla(**options: Any) -> Callable[..., Tensor]:
        from fla.modules.convolution import causal_conv1d

        return lambda x, weight, bias: causal_conv1d(x, weight, bias, activation="silu", **options)[0]

    return [
        Implementation("supa_mamba", "packed", Packed(), lambda: partial(ours, offset=offset)),
        Implementation("supa_mamba", "padded", Padded(lengths), lambda: ours),
        Implementation("causal_conv1d", "packed", OneRow(), partial(of_causal_conv1d, seq_idx=indices)),
        Implementation("causal_conv1d", "padded", Padded(lengths), of_causal_conv1d),
        Implementation("fla", "packed", OneRow(), partial(of_fla, cu_seqlens=offset)),
        Implementation("fla", "padded", Padded(lengths), of_fla),
    ]


def chunk_scans(lengths: Tensor, device: str) -> list[Implementation]:
    """Return the implementations of ``ssd``."""
    offset, indices = mamba.offset_of(lengths, device), sequence_indices(lengths, device)
    ours = partial(supa_mamba.ssd, dt_softplus=True)

    def of_mamba_ssm(chunk: int, **options: Any) -> Callable[..., Tensor]:
        from mamba_ssm.ops.triton.ssd_combined import mamba_chunk_scan_combined

        return partial(mamba_chunk_scan_combined, chunk_size=chunk, dt_softplus=True, **options)

    def of_fla(**options: Any) -> Callable[..., Tensor]:
        from fla.ops.simple_gla import chunk_simple_gla

        # Gated linear attention with queries C, keys B and values Delta x is the same recurrence.
        def run(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, dt_bias: Tensor) -> Tensor:
            step = softplus(dt.float() + dt_bias)
            q, k = (v.expand(*v.shape[:2], x.shape[2], v.shape[3]) for v in (C, B))
            values = (x * step[..., None]).to(x.dtype)
            y: Tensor = chunk_simple_gla(q, k, values, step * A, scale=1.0, **options)[0]
            return (y + D[:, None] * x).to(x.dtype)

        return run

    return [
        Implementation("supa_mamba", "packed", Packed(), lambda: partial(ours, offset=offset)),
        Implementation("supa_mamba", "padded", Padded(lengths), lambda: ours),
        *[
            implementation
            for chunk in (64, 256)
            for implementation in (
                Implementation(
                    "mamba_ssm", f"chunks of {chunk}, packed", OneRow(), partial(of_mamba_ssm, chunk, seq_idx=indices)
                ),
                Implementation(
                    "mamba_ssm", f"chunks of {chunk}, padded", Padded(lengths), partial(of_mamba_ssm, chunk)
                ),
            )
        ],
        Implementation("fla", "simple_gla, packed", OneRow(), partial(of_fla, cu_seqlens=offset)),
        Implementation("fla", "simple_gla, padded", Padded(lengths), of_fla),
    ]
