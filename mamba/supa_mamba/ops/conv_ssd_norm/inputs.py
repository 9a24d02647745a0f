"""Inputs of the mixer of Mamba-2 between its projections."""

from typing import NamedTuple

from torch import Tensor

from supa_mamba.ops.causal_conv1d.inputs import ConvInputs, ConvOptions
from supa_mamba.ops.conv_ssd_norm.columns import Columns, Selected
from supa_mamba.ops.gated_rms_norm.inputs import GatedNormInputs, GatedNormOptions
from supa_mamba.ops.ssd.inputs import SsdInputs, SsdOptions

ROW_ALIGNMENT = 16
"""The rows of the gradient of the input projection begin at multiples of this number of values, so that kernels load
and store several values at once, and matrix products need no copy."""


class MixerInputs(NamedTuple):
    """Tensors of the mixer. All parameters are in the precision of states.

    With E = H P inner channels, a row of the input projection consists of E values of the gate, M = E + 2 G N inputs of
    the convolution, and H step sizes.

    Args:
        projected: (T, E + M + H) rows after the input projection.
        conv_weight: (M, W) kernel of the convolution.
        conv_bias: (M,) bias of the convolution.
        A: (H,) decay rates.
        D: (H,) skip weights.
        dt_bias: (H,) bias of the step sizes.
        norm_weight: (E,) weight of the norm.
        offset: (S + 1,) int64 offsets.
    """

    projected: Tensor
    conv_weight: Tensor
    conv_bias: Tensor | None
    A: Tensor
    D: Tensor
    dt_bias: Tensor
    norm_weight: Tensor
    offset: Tensor

    def columns(self, projected: Tensor) -> Columns:
        """Split the columns of the input projection, or of its gradient."""
        return Columns.of(projected, len(self.norm_weight), len(self.conv_weight))

    def selected(self, mixed: Tensor, groups: int) -> Selected:
        """Split the columns of the result of the convolution, or of its gradient."""
        return Selected.of(mixed, len(self.norm_weight), len(self.A), groups)

    def new_result(self) -> Tensor:
        """Return an uninitialised tensor for the normalised rows, (T, E)."""
        return self.projected.new_empty(self.projected.shape[0], len(self.norm_weight))

    def new_projected_grad(self) -> Tensor:
        """Return an uninitialised tensor for the gradient of the input projection on a GPU, with aligned rows."""
        rows, width = self.projected.shape
        return self.projected.new_empty(rows, -(-width // ROW_ALIGNMENT) * ROW_ALIGNMENT)[:, :width]


class MixerOptions(NamedTuple):
    """Options of the mixer.

    Args:
        groups: Number of groups of heads, of B and C, and of channels of the norm.
        reverse: Whether to process each sequence from its last row to its first.
        dt_min: Smallest step size.
        dt_max: Largest step size.
        eps: Value added to the mean square of the norm.
        norm_before_gate: Whether to apply the norm before the gate instead of after it.
    """

    groups: int
    reverse: bool
    dt_min: float
    dt_max: float
    eps: float
    norm_before_gate: bool

    def of_conv(self) -> ConvOptions:
        """Return the options of the convolution."""
        return ConvOptions(self.reverse, use_silu=True)

    def of_ssd(self) -> SsdOptions:
        """Return the options of the recurrence."""
        return SsdOptions(self.reverse, True, self.dt_min, self.dt_max)

    def of_norm(self) -> GatedNormOptions:
        """Return the options of the norm."""
        return GatedNormOptions(self.groups, self.eps, self.norm_before_gate)


class Saved(NamedTuple):
    """Intermediate results for the backward pass.

    Args:
        mixed: (T, M) result of the convolution.
        y: (T, H, P) result of the recurrence.
        checkpoints: States at the starts of chunks.
    """

    mixed: Tensor
    y: Tensor
    checkpoints: Tensor

    @classmethod
    def nothing(cls, like: Tensor) -> "Saved":
        """Return empty tensors.

        Args:
            like: Tensor with the dtype and the device of the result.

        Returns:
            Three empty tensors.
        """
        return cls(like.new_empty(0), like.new_empty(0), like.new_empty(0))


def conv_inputs(mixed: Tensor, inputs: MixerInputs) -> ConvInputs:
    """Return the inputs of the convolution.

    Args:
        mixed: (T, M) rows.
        inputs: Inputs of the mixer.

    Returns:
        The inputs, without initial states.
    """
    return ConvInputs(mixed, inputs.conv_weight, inputs.conv_bias, inputs.offset, None)


def ssd_inputs(selected: Selected, dt: Tensor, inputs: MixerInputs) -> SsdInputs:
    """Return the inputs of the recurrence.

    Args:
        selected: Result of the convolution.
        dt: (T, H) step sizes before bias and softplus.
        inputs: Inputs of the mixer.

    Returns:
        The inputs, without initial states.
    """
    x, B, C = selected
    return SsdInputs(x, dt, inputs.A, B, C, inputs.D, inputs.dt_bias, inputs.offset, None)


def norm_inputs(y: Tensor, gate: Tensor, inputs: MixerInputs) -> GatedNormInputs:
    """Return the inputs of the norm.

    Args:
        y: (T, H, P) result of the recurrence.
        gate: (T, E) gate before SiLU.
        inputs: Inputs of the mixer.

    Returns:
        The inputs.
    """
    return GatedNormInputs(y.flatten(1), gate, inputs.norm_weight)
