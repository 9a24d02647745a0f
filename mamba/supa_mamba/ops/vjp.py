"""Vector-Jacobian products of PyTorch functions inside custom operators, where autograd is disabled."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor


def vjp(
    function: Callable[..., Sequence[Tensor]], inputs: Sequence[Tensor | None], output_grads: Sequence[Tensor | None]
) -> tuple[Tensor | None, ...]:
    """Run a function again and return the gradients of its inputs.

    Args:
        function: Function of tensors that returns tensors.
        inputs: Arguments of the function; None for a missing argument. Integer tensors have no gradient.
        output_grads: Gradient of each output; None for zeros.

    Returns:
        Contiguous gradient of each input that is not an integer tensor; None for a missing input.
    """
    constant = [x is not None and not x.is_floating_point() for x in inputs]

    def run() -> tuple[Tensor, ...]:
        leaves = [
            x if x is None or fixed else x.detach().requires_grad_() for x, fixed in zip(inputs, constant, strict=True)
        ]
        outputs = [(y, grad) for y, grad in zip(function(*leaves), output_grads, strict=True) if grad is not None]
        wanted = [x for x in leaves if x is not None and x.requires_grad]
        return torch.autograd.grad(
            [y for y, _ in outputs], wanted, [grad for _, grad in outputs], allow_unused=True, materialize_grads=True
        )

    # PyTorch's dispatcher disables autograd in this thread, and enable_grad cannot undo that. A new thread can use it.
    with ThreadPoolExecutor(1) as executor:
        found = iter(executor.submit(run).result())
    return tuple(
        None if x is None else next(found).clone(memory_format=torch.contiguous_format)
        for x, fixed in zip(inputs, constant, strict=True)
        if not fixed
    )
