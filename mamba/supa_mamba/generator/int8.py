"""Generators with integers of 8 bits, for sampling."""

import copy
from typing import get_args

import torch
from torch import nn

from supa.checks import did_you_mean
from supa_mamba.generator.model import ShowerGenerator
from supa_mamba.generator.sampling.sampler import check_model
from supa_mamba.modules.int8 import Int8, Int8Linear, int8_weights

_IN_FLOAT32 = "dt_proj"
"""The few inputs of this layer become step sizes, whose exponential function is the decay of the states."""


@torch.no_grad()
def int8_generator(model: ShowerGenerator, int8: Int8) -> ShowerGenerator:
    """Return a generator whose stack multiplies by integers of 8 bits, for sampling.

    The input and output projections and the MLPs of the layers are rounded, with a scale for each output. Norms,
    convolutions, recurrences, attention, states, the inputs of the stack and the heads stay in float32.

    - ``"weights"``: the weights are rounded, and multiplied as float32.
    - ``"weights-and-activations"``: inputs are rounded, too, with a scale for each row, to 127 values (7 bits, so that
      no processor overflows), and integers are multiplied.

    A shower of the result is still a function of the model, the seed and the index.

    Args:
        model: The generator, on the CPU or on a GPU, which is not modified.
        int8: What is rounded.

    Returns:
        The generator in float32 on the same device. It cannot be trained, exported or evaluated in pairs of layers.

    Raises:
        ValueError: If ``int8`` is unknown, the generator has integers already, or its weights are not finite.

    Example:
        >>> import supa
        >>> from supa_mamba import GeneratorConfig, HitCoding, ShowerGenerator, int8_generator, sample_showers
        >>> showers = supa.simulate(20, "critical", seed=1)
        >>> model = ShowerGenerator(GeneratorConfig(d_model=32, n_layer=1), HitCoding.fit(showers))  # untrained
        >>> sample = sample_showers(int8_generator(model, "weights"), "critical", 10, seed=1)
        >>> sample.run.model.endswith("int8 weights")
        True
    """
    kinds = get_args(Int8)
    if int8 not in kinds:
        raise ValueError(
            f"int8: {int8!r} was given, but it must be one of {', '.join(kinds)}.{did_you_mean(int8, kinds)}"
        )
    if model.int8 is not None:
        raise ValueError(f"model: it has int8 {model.int8} already; pass the generator in float32.")
    check_model(model)
    rounded = copy.deepcopy(model).float()
    rounded.int8 = int8
    for block in rounded.stack.blocks():
        for module in list(block.modules()):
            for name, layer in list(module.named_children()):
                if not isinstance(layer, nn.Linear) or name == _IN_FLOAT32:
                    continue
                if int8 == "weights":
                    layer.weight.copy_(int8_weights(layer.weight))
                else:
                    setattr(module, name, Int8Linear(layer))
    return rounded
