"""The likelihood of a generator without single layers, which measures how much the layers matter."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from supa import Showers
from supa.checks import counted
from supa_mamba.generator.hits import HitBatch
from supa_mamba.generator.model import ShowerGenerator

MOST_SHOWERS = 2_000
"""Number of showers that `supa mamba distil` measures."""
_BATCH = 250  # showers


@torch.no_grad()
def nats_without_layers(
    model: ShowerGenerator, showers: Showers | Sequence[Showers], layers: Collection[int] | None = None
) -> dict[int, float]:
    """Return the nats per hit of a generator without the mixer of each of its layers in turn.

    The mixer is the attention or the Mamba-2 of a layer. Without it, the rows pass unchanged to the MLP of the layer.

    Args:
        model: The generator. The computation runs on its device.
        showers: Showers of configs that the model knows, such as validation showers, or a list of such.
        layers: The layers to skip, by default all.

    Returns:
        Nats per hit by layer. The layer with the largest number matters most.

    Raises:
        ValueError: If a layer does not exist, or there are no hits.

    Example:
        >>> import supa
        >>> from supa_mamba import GeneratorConfig, HitCoding, ShowerGenerator, nats_without_layers
        >>> showers = supa.simulate(20, "critical", seed=1)
        >>> model = ShowerGenerator(GeneratorConfig(d_model=32, n_layer=2), HitCoding.fit(showers))
        >>> sorted(nats_without_layers(model, showers))
        [0, 1]

    Source:
        Replacing the attention layers whose skipping costs least: arXiv 2505.22135.
    """
    parts = [showers] if isinstance(showers, Showers) else list(showers)
    mixers = [block.mixer for block in model.stack.blocks()]
    chosen = range(len(mixers)) if layers is None else sorted(layers)
    for number in chosen:
        if number not in range(len(mixers)):
            raise ValueError(f"layers: {number} was given, but the model has {counted(len(mixers), 'layer')}.")
    hits = sum(len(part.x) for part in parts)
    if not hits:
        raise ValueError("showers: the likelihood per hit needs showers with hits.")
    batches = list(_batches(model, parts))
    found = {}
    for number in chosen:
        mixer = mixers[number]
        assert isinstance(mixer, nn.Module)
        with _skipped(mixer):
            found[number] = -sum(float(model(batch).total()) for batch in batches) / hits
    return found


def _batches(model: ShowerGenerator, parts: Sequence[Showers]) -> Iterator[HitBatch]:
    device = model.inputs.weight.device
    for part in parts:
        for begin in range(0, len(part), _BATCH):
            yield model.coding.encode(part[begin : begin + _BATCH]).to(device)


@contextmanager
def _skipped(mixer: nn.Module) -> Iterator[None]:
    """Replace the result of a mixer by zeros."""

    def zeros(_: nn.Module, __: Any, result: Tensor) -> Tensor:
        return torch.zeros_like(result)

    hook = mixer.register_forward_hook(zeros)
    try:
        yield
    finally:
        hook.remove()
