import io

import pytest
import torch
from sequences import offset_of
from torch.export import Dim, export, load, save
from torch.utils._pytree import tree_leaves

from supa_mamba import (
    BiMamba,
    CausalAttention,
    EncoderConfig,
    HybridStack,
    Mamba,
    Mamba2,
    MambaBlock,
    MambaStack,
    ShowerEncoder,
)

WIDTH = 4
ANY, ANY_PADDED = {0: Dim.DYNAMIC}, {0: Dim.DYNAMIC, 1: Dim.DYNAMIC}


def encoder(level):
    return ShowerEncoder(EncoderConfig(features=WIDTH, outputs=2, level=level, d_model=WIDTH, n_layer=1))


MIXERS = {
    "Mamba": lambda: Mamba(WIDTH, d_state=2),
    "Mamba2": lambda: Mamba2(WIDTH, d_state=2, headdim=4),
    "BiMamba": lambda: BiMamba(WIDTH, d_state=2),
    "CausalAttention": lambda: CausalAttention(WIDTH, 2),
    "MambaBlock": lambda: MambaBlock(WIDTH, d_state=2),
    "MambaStack": lambda: MambaStack(WIDTH, 2, d_state=2),
    "HybridStack": lambda: HybridStack(WIDTH, 2, [1], 2, mixer="mamba2", d_state=2, headdim=4),
}


class With(torch.nn.Module):
    """A module with fixed keyword arguments of its call."""

    def __init__(self, module, **options):
        super().__init__()
        self.module, self.options = module, options

    def forward(self, *args):
        return tuple(tree_leaves(self.module(*args, **self.options)))  # torch.export.save does not support named tuples


def packed(*lengths):
    return torch.randn(sum(lengths), WIDTH), offset_of(lengths)


def check_program(module, example, dims, others, *, strict):
    """Export, save and load a module, and check that its results are bitwise equal to those of the eager module."""
    written = io.BytesIO()
    save(export(With(module).eval(), example, dynamic_shapes=(dims,), strict=strict), written)
    written.seek(0)
    program = load(written).module()
    for given in [example, *others]:
        for found, expected in zip(tree_leaves(program(*given)), tree_leaves(module(*given)), strict=True):
            assert torch.equal(found, expected)


@pytest.mark.parametrize("mixer", list(MIXERS))
def test_packed_rows_of_any_lengths(mixer):
    if mixer == "CausalAttention" and torch.__version__ < "2.7":  # TorchVersion compares releases
        pytest.skip("PyTorch 2.6 exports attention over packed rows for one number of rows only")
    module = MIXERS[mixer]()
    attends = mixer in ("CausalAttention", "HybridStack")
    fewer = [] if attends else [packed(4), packed(1), packed()]  # attention supports two or more sequences here
    check_program(
        With(module, max_length=9) if attends else module, packed(3, 2), (ANY, ANY),
        [packed(1, 0, 7, 2), *fewer], strict=mixer in ("Mamba", "CausalAttention"),
    )  # fmt: skip


# The slow tests export the modules whose parts are exported here.
COMPOSED = ("BiMamba", "MambaBlock", "MambaStack")


@pytest.mark.parametrize(
    "mixer", [pytest.param(name, marks=[pytest.mark.slow] * (name in COMPOSED)) for name in MIXERS]
)
def test_padded_batches_of_any_size(mixer):
    others = [(torch.randn(shape),) for shape in [(1, 4, WIDTH), (4, 1, WIDTH), (3, 9, WIDTH)]]
    check_program(MIXERS[mixer](), (torch.randn(2, 3, WIDTH),), (ANY_PADDED,), others, strict=mixer == "Mamba2")


@pytest.mark.parametrize("mixer", ["Mamba", "Mamba2"])
def test_states_are_exported(mixer):
    module = With(MIXERS[mixer](), return_state=True)
    check_program(module, packed(3, 2), (ANY, ANY), [packed(1, 0, 7, 2)], strict=False)


def test_encoders_are_exported():
    check_program(encoder("hit"), packed(3, 2), (ANY, ANY), [packed(4), packed(1, 0, 7)], strict=False)
    check_program(encoder("shower"), packed(3, 2), (ANY, ANY), [packed(1, 0, 7)], strict=False)
