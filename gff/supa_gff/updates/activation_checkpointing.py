"""Activation checkpointing for backpropagation."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from supa_gff.networks.hypotheses import HypothesisBatch
from supa_gff.networks.layer import Layer


def checkpointed(layer: Layer, inputs: HypothesisBatch) -> Tensor:
    """Compute the activations of a layer without storing its intermediate activations.

    The backward pass recomputes the intermediate activations.

    Args:
        layer: Layer to compute.
        inputs: Input of the layer.

    Returns:
        (hypotheses, nodes, hidden_channels) float32 activations.
    """
    h: Tensor = checkpoint(
        layer,
        inputs.x,
        inputs.topology,
        inputs.labels,
        use_reentrant=False,
        preserve_rng_state=layer.is_random,  # a CUDA graph cannot contain the copy of this state
        context_fn=lambda: (nullcontext(), _without_statistics(layer)),
    )
    return h


@contextmanager
def _without_statistics(module: nn.Module) -> Iterator[None]:
    """Prevent batch normalisation from counting a batch twice when its activations are recomputed."""
    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm1d)]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        # Autograd expects the same saved tensors as in the forward pass, so the statistics are kept but not updated.
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, counted) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, counted
