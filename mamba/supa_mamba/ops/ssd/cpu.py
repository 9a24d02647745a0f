"""Recurrence of Mamba-2 on a CPU: matrix products over many chunks at once. Autograd computes the gradients.

Each sequence is divided into full chunks of ``CHUNK`` rows and one last chunk of 1 to ``CHUNK`` rows. Chunks of equal
length are computed together, so that no row is padded. The full chunks are ordered by time: all first chunks, all
second chunks, and so on, with the longest sequence first, so that the states of all sequences advance together. A state
is computed only if a later chunk or the caller needs it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from supa_datasets.offsets import counts_to_offsets
from supa_mamba.ops.packing import TimeMajor, check_offsets, int_list, inverse, time_major
from supa_mamba.ops.ssd.inputs import SsdInputs, SsdOptions

CHUNK = 32


@dataclass(frozen=True)
class Last:
    """Last chunks of equal length.

    Args:
        length: Number of rows per chunk, from 1 to ``CHUNK``.
        sequences: (n,) int64 indices of the sequences of these chunks.
        continued: Whether these chunks start from the states of earlier chunks or of the caller.
    """

    length: int
    sequences: Tensor
    continued: bool


@dataclass(frozen=True)
class Cuts:
    """Division of packed sequences into chunks.

    Args:
        whole: Order of the full chunks.
        last: Last chunks, grouped by length.
        rows: (T,) int64 packed rows of the full chunks, followed by those of the last chunks.
    """

    whole: TimeMajor
    last: list[Last]
    rows: Tensor


def cut(offset: Tensor, *, reverse: bool, started: bool) -> Cuts:
    """Divide packed sequences into chunks.

    Args:
        offset: (S + 1,) int64 offsets on the CPU.
        reverse: Whether to process each sequence from its last row to its first.
        started: Whether the sequences have initial states.

    Returns:
        The chunks.
    """
    lengths = offset.diff()
    count = (lengths - 1).clamp(min=0) // CHUNK
    rest = lengths - count * CHUNK
    whole = time_major(counts_to_offsets(count), reverse=False)

    def rows(sequence: Tensor, first: Tensor, length: int) -> Tensor:
        steps = first[:, None] + torch.arange(length)
        walked = offset[1:][sequence][:, None] - 1 - steps if reverse else offset[:-1][sequence][:, None] + steps
        return walked.flatten()

    sequence = torch.arange(lengths.shape[0]).repeat_interleave(count).index_select(0, whole.rows)
    parts, last = [rows(sequence, whole.steps * CHUNK, CHUNK)], []
    kind = rest * 2 + (count > 0)
    for key in sorted(set(int_list(kind[rest > 0]))):
        chosen = (kind == key).nonzero()[:, 0]
        last.append(Last(key // 2, chosen, started or key % 2 == 1))
        parts.append(rows(chosen, count[chosen] * CHUNK, key // 2))
    return Cuts(whole, last, torch.cat(parts))


@dataclass(frozen=True)
class Chunks:
    """Inputs of n chunks of equal length: L rows, G groups, K heads per group, P channels per head, N states.

    Args:
        elapsed: (n, G, K, L) cumulative sums of Delta A from the start of the chunk.
        changes: (n, G, L, K, P) products Delta x.
        enter: (n, G, L, N) input matrix B.
        leave: (n, G, L, N) output matrix C.
    """

    elapsed: Tensor
    changes: Tensor
    enter: Tensor
    leave: Tensor

    def within(self) -> Tensor:
        """Return the contributions of the rows of a chunk to its outputs, (n, L, G, K, P)."""
        length = self.elapsed.shape[-1]
        later = torch.ones(length, length, dtype=torch.bool).triu(1)
        decay = (self.elapsed[..., :, None] - self.elapsed[..., None, :]).masked_fill(later, -torch.inf).exp()
        paired = (self.leave @ self.enter.mT).unsqueeze(2) * decay
        return (paired @ self.changes.transpose(2, 3)).permute(0, 3, 1, 2, 4)

    def from_state(self, state: Tensor) -> Tensor:
        """Return the contributions of the states (n, G, K P, N) before the chunks to the outputs, (n, L, G, K, P)."""
        left = (self.leave @ state.mT).reshape(self.changes.shape)
        return (left * self.elapsed.exp().transpose(2, 3).unsqueeze(-1)).transpose(1, 2)

    def entered(self) -> Tensor:
        """Return the contributions of the rows of a chunk to the state after it, (n, G, K P, N)."""
        remaining = (self.elapsed[..., -1:] - self.elapsed).exp().transpose(2, 3).unsqueeze(-1)
        return (remaining * self.changes).flatten(3).mT @ self.enter

    def kept(self) -> Tensor:
        """Return the decay of the state over the chunk, (n, G, K P, 1)."""
        width = self.changes.shape[-1]
        return self.elapsed[..., -1].exp().repeat_interleave(width, -1).unsqueeze(-1)


def forward(inputs: SsdInputs, options: SsdOptions, return_final_states: bool) -> tuple[Tensor, Tensor]:
    """Apply the recurrence to packed sequences; see ``operators.sequence_operator``.

    Raises:
        ValueError: If the offset does not match the rows.
    """
    x, dt, A, B, C, D, dt_bias, offset, initial_states = inputs
    check_offsets(offset, x.shape[0])
    (rows, heads, width), (groups, states), sequences = x.shape, B.shape[1:], offset.shape[0] - 1
    cuts = cut(offset, reverse=options.reverse, started=initial_states is not None)
    with torch.autocast("cpu", enabled=False):
        values, step, enter, leave = (v.index_select(0, cuts.rows).to(A.dtype) for v in (x, dt, B, C))
        step = step if dt_bias is None else step + dt_bias
        step = (softplus(step) if options.dt_softplus else step).clamp(options.dt_min, options.dt_max)
        pieces = _pieces(cuts, (step * A, step[..., None] * values, enter, leave), groups)

        start = (
            None
            if initial_states is None
            else initial_states.reshape(sequences, groups, heads // groups * width, states)
        )
        mixed, state = _whole_chunks(next(pieces), cuts.whole, start)
        outputs, final = [mixed.flatten(0, 1)], []
        place = inverse(cuts.whole.longest_first)
        for chunks, last in zip(pieces, cuts.last, strict=True):
            mixed = chunks.within()
            before = state.index_select(0, place.index_select(0, last.sequences)) if last.continued else None
            if before is not None:
                mixed = mixed + chunks.from_state(before)
            outputs.append(mixed.flatten(0, 1))
            if return_final_states:
                entered = chunks.entered()
                final.append(entered if before is None else torch.addcmul(entered, chunks.kept(), before))
        y = torch.cat(outputs).reshape(rows, heads, width)
        y = y if D is None else y + D[:, None] * values
        y = y.index_select(0, inverse(cuts.rows))
        if not return_final_states:
            return y.to(x.dtype), inputs.new_final_states(0)
        empty = (offset.diff() == 0).nonzero()[:, 0]
        final.append(A.new_zeros(empty.shape[0], *state.shape[1:]) if start is None else start.index_select(0, empty))
        order = torch.cat([*(last.sequences for last in cuts.last), empty])
        final_states = torch.cat(final).index_select(0, inverse(order)).reshape(sequences, heads, width, states)
    return y.to(x.dtype), final_states


def _pieces(cuts: Cuts, along: tuple[Tensor, ...], groups: int) -> Iterator[Chunks]:
    """Divide the rows into chunks in the order of ``cuts``: the full chunks, then the last chunks of each length."""
    counts = [cuts.whole.rows.shape[0], *(last.sequences.shape[0] for last in cuts.last)]
    lengths = [CHUNK, *(last.length for last in cuts.last)]
    sizes = [count * length for count, length in zip(counts, lengths, strict=True)]
    split = (torch.split(v, sizes) for v in along)
    for count, length, decay, changes, enter, leave in zip(counts, lengths, *split, strict=True):
        grouped, together = (count, length, groups), decay.shape[1] // groups
        elapsed = decay.reshape(*grouped, together).cumsum(1).permute(0, 2, 3, 1)
        changes = changes.reshape(*grouped, together, changes.shape[2]).transpose(1, 2)
        enter, leave = (v.reshape(*grouped, v.shape[2]).transpose(1, 2) for v in (enter, leave))
        yield Chunks(elapsed, changes, enter, leave)


def _whole_chunks(chunks: Chunks, order: TimeMajor, start: Tensor | None) -> tuple[Tensor, Tensor]:
    """Process the full chunks.

    Args:
        chunks: The full chunks in the given order.
        order: Order of the chunks by time.
        start: (S, G, K P, N) initial states, or None.

    Returns:
        The outputs (n, CHUNK, G, K, P), and the states after the full chunks. The states are those of all sequences,
        from the longest to the shortest; without initial states, those of the sequences with a full chunk.
    """
    mixed, entered = chunks.within(), chunks.entered()
    steps = zip(torch.split(chunks.kept(), order.counts), torch.split(entered, order.counts), strict=True)
    before, finished = [], []
    if start is not None:
        state = start.index_select(0, order.longest_first)
    else:
        _, state = next(steps, (entered, entered))
    for kept, added in steps:
        running = added.shape[0]
        if running < state.shape[0]:
            state, done = torch.split(state, [running, state.shape[0] - running])
            finished.append(done)
        before.append(state)
        state = torch.addcmul(added, kept, state)
    finished.append(state)
    if before:
        fresh = order.counts[0] if start is None else 0
        later = Chunks(*(v[fresh:] for v in (chunks.elapsed, chunks.changes, chunks.enter, chunks.leave)))
        mixed = torch.cat([mixed[:fresh], mixed[fresh:] + later.from_state(torch.cat(before))])
    return mixed, torch.cat(finished[::-1])
