"""The operations support CPU and CUDA only. Here the device "meta" represents all others, such as "mps"."""

import pytest
import torch
from sequences import conv_inputs, scan_inputs, ssd_inputs

from supa_mamba import (
    BiMamba,
    CausalAttention,
    EncoderConfig,
    HybridStack,
    Mamba,
    Mamba2,
    MambaStack,
    ShowerEncoder,
    add_rms_norm,
    causal_conv1d,
    causal_conv1d_update,
    gated_rms_norm,
    selective_scan,
    selective_state_update,
    ssd,
)

MESSAGE = "device 'meta' was given, but the operations support 'cpu' and 'cuda' only; move the tensors and the module"


def elsewhere(inputs):
    return {name: x.to("meta") for name, x in inputs.items()}


@pytest.mark.parametrize(
    ("operation", "inputs"),
    [
        (selective_scan, scan_inputs([3], 2, 2)),
        (ssd, ssd_inputs([3], 2, 2, 2)),
        (causal_conv1d, conv_inputs([3], 2, 2)),
    ],
)
def test_operations_name_the_supported_devices(operation, inputs):
    with pytest.raises(ValueError, match=MESSAGE):
        operation(**elsewhere(inputs), offset=torch.tensor([0, 3], device="meta"))


def test_norms_name_the_supported_devices():
    x = torch.zeros(2, 3, device="meta")
    with pytest.raises(ValueError, match=MESSAGE):
        add_rms_norm(x, x, x[0])
    with pytest.raises(ValueError, match=MESSAGE):
        gated_rms_norm(x, x, x[0])


def test_steps_name_the_supported_devices():
    x, state = torch.zeros(2, 3, device="meta"), torch.zeros(2, 3, 2, device="meta")
    with pytest.raises(ValueError, match=MESSAGE):
        causal_conv1d_update(state, x, torch.ones(3, 3, device="meta"))
    with pytest.raises(ValueError, match=MESSAGE):
        selective_state_update(state, x, x, state[0], x[:, :2], x[:, :2])


@pytest.mark.parametrize(
    "module",
    [
        Mamba(4), Mamba2(4, headdim=4), BiMamba(4), CausalAttention(4, 2), MambaStack(4, 1), HybridStack(4, 1, [0], 2),
        ShowerEncoder(EncoderConfig(features=4, outputs=1, level="shower", d_model=4, n_layer=1)),
    ],
)  # fmt: skip
def test_modules_name_the_supported_devices(module):
    x, offset = torch.zeros(3, 4, device="meta"), torch.tensor([0, 3], device="meta")
    if hasattr(module, "step") and not isinstance(module, BiMamba):
        state = module.init_state(3, 2) if isinstance(module, (CausalAttention, HybridStack)) else module.init_state(3)
        with pytest.raises(ValueError, match=MESSAGE):
            module.step(x, state)
    with pytest.raises(ValueError, match=MESSAGE):
        module.to("meta")(x, offset)
