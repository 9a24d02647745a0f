"""Sum and norm on a CPU, with PyTorch's norm."""

from torch import Tensor
from torch.nn import functional

from supa_mamba.ops.add_rms_norm.inputs import AddNormGradientOptions, AddNormGradients, AddNormInputs, AddNormOptions
from supa_mamba.ops.dtypes import cast
from supa_mamba.ops.vjp import vjp


def forward(inputs: AddNormInputs, options: AddNormOptions) -> tuple[Tensor, Tensor]:
    """Add and normalise rows. The sum is empty without an update."""
    residual, update, weight = inputs
    if update is None:
        return cast(_norm(residual, weight, options.eps), options.dtype), inputs.new_sum()
    total = residual + update
    return cast(_norm(total, weight, options.eps), options.dtype), total


def backward(given: AddNormGradients, options: AddNormGradientOptions) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the gradients of residual, update and weight for the custom operator."""
    y_grad, sum_grad, total, weight = given
    norm = lambda x, weight: (_norm(x, weight, options.eps),)  # noqa: E731
    found, weight_grad = vjp(norm, (total, weight), (cast(y_grad, total.dtype),))
    assert found is not None
    assert weight_grad is not None
    grad = found if sum_grad is None else found + sum_grad
    alike = options.update_dtype == grad.dtype
    return grad, options.new_update_grad(grad) if alike else grad.to(options.update_dtype), weight_grad


def _norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return functional.rms_norm(x, weight.shape, weight, eps)
