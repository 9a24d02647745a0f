"""Amount of work of the operations on a CPU, counted in tensor elements instead of timed."""

import pytest
import torch
from sequences import conv_inputs, offset_of, scan_inputs, ssd_inputs
from torch.utils._python_dispatch import TorchDispatchMode

from supa_mamba import causal_conv1d, selective_scan, ssd
from supa_mamba.ops.ssd.cpu import CHUNK, cut

OPERATIONS = {
    "ssd": (ssd, lambda lengths: ssd_inputs(lengths, 2, 8, 8)),
    "selective_scan": (selective_scan, lambda lengths: scan_inputs(lengths, 8, 4)),
    "causal_conv1d": (causal_conv1d, lambda lengths: conv_inputs(lengths, 8, 4)),
}
LONG = [100] * 12
MIXTURES = {
    "of three rows": [3] * 400,
    "of one row": [1] * 1200,
    "of few rows or none": [0, 1, 2, 3, 4, 5] * 80,
    "one long and many of three": [600, *[3] * 200],
    "of one whole chunk": [32] * 37,
}


class Elements(TorchDispatchMode):
    """Count the elements of all created tensors, and record the size of the largest."""

    def __init__(self):
        super().__init__()
        self.made = self.largest = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        views = any(argument.alias_info is not None for argument in function._schema.returns)
        for made in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(made, torch.Tensor) and not views:
                self.made += made.numel()
                self.largest = max(self.largest, made.numel())
        return result


def counted(name, lengths):
    operation, draw = OPERATIONS[name]
    inputs = {key: x.requires_grad_() for key, x in draw(lengths).items() if key != "initial_states"}
    offset = offset_of(lengths)
    with Elements() as elements:
        y = operation(**inputs, offset=offset)
        torch.autograd.grad(y.sum(), list(inputs.values()))
    return elements


@pytest.mark.parametrize("mixture", MIXTURES)
@pytest.mark.parametrize("name", OPERATIONS)
def test_short_sequences_need_no_more_work_than_long_ones(name, mixture):
    long, mixed = counted(name, LONG), counted(name, MIXTURES[mixture])
    # The convolution has a state of three rows per sequence, even for a sequence of one row.
    work, memory = (2.5, 4.0) if name == "causal_conv1d" else (1.1, 1.05)
    assert mixed.made <= work * long.made
    assert mixed.largest <= memory * long.largest


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("started", [False, True])
def test_chunks_contain_each_row_once(started, reverse):
    lengths = [0, 1, 31, 32, 33, 0, 64, 65, 200]
    cuts = cut(offset_of(lengths), reverse=reverse, started=started)
    assert torch.equal(cuts.rows.sort().values, torch.arange(sum(lengths)))
    whole, last = len(cuts.whole.rows), sum(chunks.length * len(chunks.sequences) for chunks in cuts.last)
    assert (whole, last) == (10, sum(lengths) - 10 * CHUNK)
    assert sorted(torch.cat([chunks.sequences for chunks in cuts.last]).tolist()) == [1, 2, 3, 4, 6, 7, 8]
    for chunks in cuts.last:
        assert all(chunks.continued == (started or lengths[s] > CHUNK) for s in chunks.sequences.tolist())
