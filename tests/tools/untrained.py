"""Untrained generators whose heads have an effect, and comparison of their showers."""

import numpy as np
import torch
from scipy.stats import poisson

import supa
from supa_mamba import GeneratorConfig, HitCoding, ShowerGenerator

LEAKY = supa.ShowerConfig(num_slices=9, readout_layers=((6, 8),), incident_energy="log:1:100")
COLUMNS = ("offset", "x", "y", "energy", "slice", "layer", "incident_energy", "leaked_energy", "index")


def sizes_of(kind, layers):
    """Return the config of a small model: a kind of model, a student of a distillation, or a model with pairs."""
    kinds = {
        "student": {"model": "transformer", "mamba_layers": tuple(range(layers - 1))},
        "mamba student": {"model": "transformer", "mamba_layers": (0,), "mamba_mixer": "mamba"},
        "paired": {"model": "mamba", "paired_layers": (1,)},
    }
    return GeneratorConfig(**kinds.get(kind, {"model": kind}), d_model=32, n_layer=layers, d_state=4)


def model_of(config, kind="mamba2", *, hits=3.0, ends=-3.0, layers=4, scale=0.1):
    """Return an untrained model whose heads have an effect, with about as many hits in a slice as given."""
    showers = supa.simulate(60, config, seed=1)
    torch.manual_seed(0)
    sizes = sizes_of(kind, layers)
    model = ShowerGenerator(sizes, HitCoding.fit(showers)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(scale * torch.randn_like(parameter))
        numbers = model.profile.number_head
        numbers.weight.mul_(0.3)
        numbers.bias.copy_(torch.from_numpy(poisson(hits).logpmf(np.arange(len(numbers.bias)))).clamp(min=-60))
        model.profile.energy_head[2].bias[0] = ends
        # A slice takes a small share of the energy, which is therefore never exhausted.
        model.profile.energy_head[2].weight.mul_(0.1)
        model.profile.energy_head[2].bias[1 + sizes.energy_components : 1 + 2 * sizes.energy_components] -= 2
        model.energy_head[2].weight.mul_(0.1)
        # Positions are inputs of the next ones, and must not grow from hit to hit.
        model.position_head[2].weight.mul_(0.1)
    return model


def assert_equal(one, other):
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), name)
