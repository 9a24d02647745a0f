"""Gradients of plain PyTorch functions inside custom operators, in which autograd is off."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor


def gradients(
    function: Callable[..., Sequence[Tensor]], inputs: Sequence[Tensor | None], output_grads: Sequence[Tensor | None]
) -> tuple[Tensor, ...]:
    """Run a function again and return the gradients of its inputs.

    Args:
        function: Takes tensors and returns tensors.
        inputs: Its arguments, None for a missing one.
        output_grads: The gradient of each output, None for zeros.

    Returns:
        The gradient of each input, an empty tensor for a missing one.
    """

    def run() -> tuple[Tensor, ...]:
        leaves = [None if x is None else x.detach().requires_grad_() for x in inputs]
        given = [(y, grad) for y, grad in zip(function(*leaves), output_grads, strict=True) if grad is not None]
        wanted = [x for x in leaves if x is not None]
        return torch.autograd.grad(
            [y for y, _ in given], wanted, [grad for _, grad in given], allow_unused=True, materialize_grads=True
        )

    # PyTorch's dispatcher has switched autograd off in this thread, which enable_grad cannot undo; a new thread has it.
    with ThreadPoolExecutor(1) as executor:
        found = iter(executor.submit(run).result())
    return tuple(
        torch.empty(0) if x is None else next(found).clone(memory_format=torch.contiguous_format) for x in inputs
    )
