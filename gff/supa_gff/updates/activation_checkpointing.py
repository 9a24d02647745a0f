"""Activations that backpropagation recomputes instead of keeping them."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from supa_gff.networks.hypotheses import Streams
from supa_gff.networks.layer import Layer


def recomputed(layer: Layer, streams: Streams) -> Tensor:
    """Give the activations of a layer; its inner ones are computed again for the gradient.

    Args:
        layer: the layer.
        streams: what it sees.

    Returns:
        (streams, nodes, width) float32.
    """
    kept: Tensor = checkpoint(
        layer,
        streams.x,
        streams.topology,
        streams.labels,
        use_reentrant=False,
        context_fn=lambda: (nullcontext(), _without_statistics(layer)),
    )
    return kept


@contextmanager
def _without_statistics(module: nn.Module) -> Iterator[None]:
    """Keep batch normalisation from counting a batch again when its activations are recomputed."""
    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm1d)]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        # Autograd wants the same tensors saved as the first time, so the statistics stay, but nothing is added to them.
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, counted) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, counted
