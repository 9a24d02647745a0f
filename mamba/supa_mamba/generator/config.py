"""Configuration of a generator of showers."""

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

from supa.checks import check_int
from supa.serialise import Config
from supa_mamba.modules.options import BlockKind, ConvertedMixer

Mixing = Literal["mamba", "mamba2", "hybrid", "transformer"]


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig(Config):
    """Sizes of a `ShowerGenerator`.

    Args:
        model: ``"mamba"``, ``"mamba2"``, ``"hybrid"``: Mamba-2 with attention in every fourth layer, or
            ``"transformer"``: causal attention with rotary embeddings and gated MLPs, which have as many hidden
            features as make the number of parameters that of ``"mamba2"``.
        d_model: Number of features of each hit inside the model, a multiple of 32.
        n_layer: Number of layers.
        d_state: Number of states per channel of Mamba.
        energy_components: Number of normal distributions in the mixture for the energy of a hit, and of a slice.
        position_components: Number of normal distributions in the mixture for the position of a hit.
        ring_components: Number of rings around the previous hit in this mixture.
        block: ``"pre-norm"``, or ``"outlier-protected"`` for layers without norms; see `HybridStack`.
        mamba_layers: Indices, from 0, of the layers of a Transformer that have Mamba-2 or Mamba in place of attention,
            with the sizes of `convert_attention`. Their MLPs remain, and ``d_state`` is not that of these layers.
        mamba_mixer: The mixer of these layers, ``"mamba2"`` or ``"mamba"``.
        paired_layers: Indices, from 0, of layers that form a pair with the next layer: one layer of twice the width in
            place of both; see `parallel_pairs`. ``n_layer`` and all indices count the layers of pairs, too.

    Raises:
        ValueError: If a size is out of range, a hybrid model has fewer than four layers, so none with attention, or
            ``mamba_layers`` or ``paired_layers`` do not fit the model or its block.

    Example:
        >>> from supa_mamba import GeneratorConfig
        >>> GeneratorConfig(model="mamba", d_model=32).to_dict()
        {'model': 'mamba', 'd_model': 32, 'n_layer': 3, 'd_state': 16, 'energy_components': 8, \
'position_components': 16, 'ring_components': 6, 'block': 'pre-norm', 'mamba_layers': [], \
'mamba_mixer': 'mamba2', 'paired_layers': []}
    """

    model: Mixing = "mamba2"
    d_model: Annotated[int, partial(check_int, 32, 65536)] = 64
    n_layer: Annotated[int, partial(check_int, 1, 1000)] = 3
    d_state: Annotated[int, partial(check_int, 1, 256)] = 16
    energy_components: Annotated[int, partial(check_int, 1, 1000)] = 8
    position_components: Annotated[int, partial(check_int, 1, 1000)] = 16
    ring_components: Annotated[int, partial(check_int, 1, 1000)] = 6
    block: BlockKind = "pre-norm"
    mamba_layers: tuple[int, ...] = ()
    mamba_mixer: ConvertedMixer = "mamba2"
    paired_layers: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.d_model % 32:
            raise ValueError(f"d_model: {self.d_model} was given, but it must be a multiple of 32.")
        if self.model == "hybrid" and self.n_layer < 4:
            raise ValueError(f"n_layer: {self.n_layer} was given, but a hybrid model needs at least 4 layers.")
        if self.mamba_layers and self.model != "transformer":
            raise ValueError(
                f'mamba_layers: they replace attention of a Transformer, but model is "{self.model}"; leave them out.'
            )
        if self.mamba_mixer != "mamba2" and not self.mamba_layers:
            raise ValueError(
                f'mamba_mixer: "{self.mamba_mixer}" was given, but there are no mamba_layers; leave it out.'
            )
        if self.block != "pre-norm":
            for name in ("mamba_layers", "paired_layers"):
                if getattr(self, name):
                    raise ValueError(f'{name}: they need the block "pre-norm", but it is "{self.block}".')
        for number in self.mamba_layers:
            if number not in range(self.n_layer):
                raise ValueError(f"mamba_layers: {number} was given, but the layers are 0 to {self.n_layer - 1}.")
        if len(set(self.mamba_layers)) < len(self.mamba_layers):
            raise ValueError(f"mamba_layers: {list(self.mamba_layers)} was given, but a layer can only appear once.")
        for number in self.paired_layers:
            if number not in range(self.n_layer - 1):
                raise ValueError(
                    f"paired_layers: {number} was given, but the layers are 0 to {self.n_layer - 1}, and the last one "
                    "has no next layer."
                )
        both = [layer for number in self.paired_layers for layer in (number, number + 1)]
        if len(set(both)) < len(both):
            raise ValueError(
                f"paired_layers: {list(self.paired_layers)} was given, but a layer can only be in one pair."
            )
