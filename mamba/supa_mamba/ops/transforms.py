"""Derivatives of operators that have a formula for the first derivative only.

``torch.func`` and forward-mode differentiation give the right numbers, or raise one error that says what to do. Without
this module PyTorch returns tangents of zero for an operator that it does not know.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function, forward_ad

EAGER_CPU = "call it on CPU tensors outside torch.compile, where every derivative is supported"


def first_order(name: str, operator: Any, backward: Any, remember: Any, gradients: Any) -> Callable[..., Any]:
    """Make an operator differentiable once, in eager and in compiled programs.

    Args:
        name: The name of the public function, for messages.
        operator: The custom operator; it returns a tuple of tensors.
        backward: The custom operator of its gradients; it returns a tuple of tensors.
        remember: Stores on the context what the gradients need, as ``setup_context`` of ``torch.autograd.Function``.
        gradients: Returns the gradients of the arguments, from the context, the gradients of the results and a function
            that calls ``backward``.

    Returns:
        A function with the arguments and results of the operator. In eager programs ``torch.func.grad``, ``vjp``,
        ``jacrev`` and ``vmap`` work; forward-mode and second derivatives raise ``ValueError``. In compiled programs all
        transforms of ``torch.func`` raise ``ValueError``.
    """

    class Backward(Function):
        @staticmethod
        def forward(*args: Any) -> Any:
            return backward(*args)

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
            pass

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            raise ValueError(f"{name}: its second derivative is not supported here; {EAGER_CPU}.")

        @staticmethod
        def jvp(ctx: Any, *tangents: Any) -> Any:
            raise ValueError(f"{name}: its second derivative is not supported here; {EAGER_CPU}.")

        @staticmethod
        def vmap(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> Any:
            return _one_by_one(Backward, info.batch_size, in_dims, args)

    class Forward(Function):
        @staticmethod
        def forward(*args: Any) -> Any:
            return operator(*args)

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
            remember(ctx, inputs, output)

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            return gradients(ctx, grads, Backward.apply)

        @staticmethod
        def jvp(ctx: Any, *tangents: Any) -> Any:
            raise ValueError(f"{name}: forward-mode derivatives are not supported here; {EAGER_CPU}.")

        @staticmethod
        def vmap(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> Any:
            return _one_by_one(Forward, info.batch_size, in_dims, args)

    def compiled_gradients(ctx: Any, *grads: Any) -> Any:
        return gradients(ctx, grads, Backward.apply)

    operator.register_autograd(compiled_gradients, setup_context=remember)

    def call(*args: Any) -> Any:
        if not torch.compiler.is_compiling():
            return Forward.apply(*args)  # type: ignore[no-untyped-call]
        # Dynamo traces no Function with a jvp, and PyTorch's operators take none of these transforms.
        if torch._C._are_functorch_transforms_active():
            raise ValueError(
                f"{name}: torch.func and forward-mode derivatives are not supported in compiled programs; "
                "apply the transform outside torch.compile."
            )
        return operator(*args)

    return call


def _one_by_one(function: Any, count: int, in_dims: tuple[int | None, ...], args: tuple[Any, ...]) -> Any:
    # The kernels have no batch dimension of their own: a batch of sequences is what the offset is for.
    results = [
        function.apply(*(x if dim is None else x.select(dim, i) for x, dim in zip(args, in_dims, strict=True)))
        for i in range(count)
    ]
    stacked = tuple(torch.stack(of_one) for of_one in zip(*results, strict=True))
    return stacked, (0,) * len(stacked)


def is_transformed(*args: Tensor | None) -> bool:
    """Return whether a transform of ``torch.func`` is active, or an argument has a tangent of forward mode.

    Args:
        args: Tensors, or None.
    """
    if torch._C._are_functorch_transforms_active() or torch.compiler.is_compiling():
        return torch._C._are_functorch_transforms_active()
    return any(x is not None and forward_ad.unpack_dual(x).tangent is not None for x in args)  # type: ignore[no-untyped-call]


def needs_gradients(*args: Tensor | None) -> bool:
    """Return whether an operator must store what its gradients need.

    Args:
        args: The inputs of the operator.
    """
    # Inside torch.vmap a tensor hides that it requires gradients.
    if torch._C._are_functorch_transforms_active():
        return True
    return torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in args)


class _Once(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, message: str) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.message = inputs[1]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return _NotAgain.apply(grad, ctx.message), None  # type: ignore[no-untyped-call]

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        raise ValueError(ctx.message)


class _NotAgain(_Once):
    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        raise ValueError(ctx.message)


def first_derivative_only(x: Tensor, message: str) -> Tensor:
    """Return a tensor through which first derivatives flow, for what PyTorch differentiates only once.

    Args:
        x: Any shape.
        message: The message of the ``ValueError`` that forward-mode and second derivatives raise.

    Returns:
        The tensor; in compiled programs unchanged, as these take first derivatives only.
    """
    if torch.compiler.is_compiling():
        return x
    found: Tensor = _Once.apply(x, message)  # type: ignore[no-untyped-call]
    return found
