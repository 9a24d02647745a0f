"""Linear layers with integers of 8 bits, for inference.

The weights are quantised by PyTorch's observer: one scale for each output. Products of integers are those of FBGEMM,
which is part of PyTorch, on a CPU, and of ``torch._int_mm`` elsewhere. Sums of integers are exact, so the bits of a row
do not depend on the other rows, on the number of threads or on the device.
"""

import warnings
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.ao.quantization import PerChannelMinMaxObserver
from torch.nn import functional

from supa.arrays import Array

Int8 = Literal["weights", "weights-and-activations"]
"""What is rounded to integers of 8 bits."""

LARGEST = 63
"""Largest absolute value of a rounded activation. Processors without VNNI add two products in 16 bits: with 7 bits, as
with ``reduce_range`` of PyTorch, they cannot overflow."""
_ZERO_POINT = 64  # FBGEMM adds it before it rounds, because its activations are not negative
_STEP = float(np.float32(1 / LARGEST))
_SMALLEST = 1e-30
"""Largest absolute value of a row of zeros, so that nothing is divided by zero."""
_MULTIPLE = 8
_FEWEST_ROWS = 32
"""The product of a GPU needs multiples of 8 features and outputs, and more than 16 rows."""


class Int8Linear(nn.Linear):
    """A linear layer whose weights and inputs are rounded to integers of 8 bits, without gradients.

    Each output has a scale for its weights, and each row has a scale for its features: the largest absolute value
    becomes 63. Results are float32. The parameter ``weight`` has the rounded weights as float32.

    Args:
        layer: The layer, which is not modified.
    """

    integers: Tensor
    scale: Tensor

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__(layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta")
        quantised = _quantised(layer.weight)
        device = layer.weight.device
        self.weight = nn.Parameter(quantised.dequantize().to(device), requires_grad=False)
        if layer.bias is not None:
            self.bias = nn.Parameter(layer.bias.detach().float().clone(), requires_grad=False)
        borders = (0, -layer.in_features % _MULTIPLE, 0, -layer.out_features % _MULTIPLE)
        # The checkpoint of a generator has the weights only.
        self.register_buffer("integers", functional.pad(quantised.int_repr(), borders).to(device), persistent=False)
        self.register_buffer("scale", quantised.q_per_channel_scales().float().to(device), persistent=False)
        self._packed = _packed(quantised)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer.

        Args:
            x: (..., K) rows.

        Returns:
            (..., N) float32 rows.
        """
        rows = x.detach().reshape(-1, self.in_features).float()
        if rows.device.type == "cpu":
            y = torch.from_numpy(self.multiply_rows(rows.contiguous().numpy()))
        else:
            y = self.multiply_integers(rows)
        return y.reshape(*x.shape[:-1], self.out_features)

    def multiply_rows(self, x: Array) -> Array:
        """Apply the layer on a CPU. Several threads may call at the same time.

        Args:
            x: (M, K) contiguous float32 rows.

        Returns:
            (M, N) float32 rows.
        """
        if self._packed is None or not len(x):
            return self.multiply_integers(torch.from_numpy(x)).numpy()
        scale = np.maximum(np.abs(x).max(1, keepdims=True), _SMALLEST) * _STEP
        y: Any = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32(
            torch.from_numpy(x / scale), 1.0, _ZERO_POINT, self._packed
        ).numpy()
        y *= scale
        if self.bias is not None:
            y += self.bias.numpy()
        rows: Array = y
        return rows

    def multiply_integers(self, x: Tensor) -> Tensor:
        """Apply the layer by ``torch._int_mm``, on any device. It does not synchronise with a GPU.

        Args:
            x: (M, K) float32 rows.

        Returns:
            (M, N) float32 rows.
        """
        scale = x.abs().amax(1, keepdim=True).clamp(min=_SMALLEST) * _STEP
        rounded = (x / scale + _ZERO_POINT).round() - _ZERO_POINT
        borders = (0, -self.in_features % _MULTIPLE, 0, max(0, _FEWEST_ROWS - len(x)))
        sums = torch._int_mm(functional.pad(rounded.to(torch.int8), borders), self.integers.t())
        y = sums[: len(x), : self.out_features].float() * self.scale * scale
        return y if self.bias is None else y + self.bias


def int8_weights(weight: Tensor) -> Tensor:
    """Return weights that are integers of 8 bits times a scale for each output.

    Args:
        weight: (N, K) weights.

    Returns:
        (N, K) float32 weights.
    """
    return _quantised(weight).dequantize().to(weight.device)


def _quantised(weight: Tensor) -> Tensor:
    """Return weights as a quantised tensor on the CPU."""
    on_cpu = weight.detach().float().cpu()
    observer = PerChannelMinMaxObserver(dtype=torch.qint8, qscheme=torch.per_channel_symmetric)
    observer(on_cpu)
    scale, zero_point = observer.calculate_qparams()
    with warnings.catch_warnings():
        # PyTorch 2.13 warns that such tensors will be removed, but has no other weights for FBGEMM.
        warnings.simplefilter("ignore", UserWarning)
        return torch.quantize_per_channel(on_cpu, scale, zero_point, 0, torch.qint8)


def _packed(quantised: Tensor) -> Any:
    """Return weights in the order of FBGEMM, or None on processors without it."""
    if "fbgemm" not in torch.backends.quantized.supported_engines:
        return None
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = "fbgemm"
    try:
        return torch.ops.quantized.linear_prepack(quantised, None)
    finally:
        torch.backends.quantized.engine = before
