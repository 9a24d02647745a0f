"""Derivatives of operators with a formula for the first derivative only.

Transforms of ``torch.func`` and forward-mode differentiation return correct results or raise an error with a
recommendation. Without this module PyTorch would return zero tangents for a custom operator.
"""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function, forward_ad
from torch.nn import Parameter

EAGER_CPU = "call it on CPU tensors outside torch.compile, where every derivative is supported"


_ANY_ARGUMENTS = inspect.Signature([inspect.Parameter("args", inspect.Parameter.VAR_POSITIONAL)])


class CustomOperator:
    """A custom operator of PyTorch.

    In eager programs its function is called directly, because PyTorch's dispatcher takes longer than a small kernel.

    Args:
        operator: The operator.
        function: Function that it runs.
    """

    def __init__(self, operator: Any, function: Callable[..., Any]) -> None:
        self.operator, self._function = operator, function

    def __call__(self, *args: Any) -> Any:
        """Return the results of the operator."""
        direct = not torch.compiler.is_compiling() and _is_eager(args)
        return (self._function if direct else self.operator)(*args)


def _is_eager(args: tuple[Any, ...]) -> bool:
    """Return whether nothing has to see a call as that of an operator, such as a tracer or a fake tensor."""
    for x in args:  # a generator would take twice as long, in every call of an operator
        if isinstance(x, Tensor) and (type(x) not in (Tensor, Parameter) or _is_batched(x)):
            return False
    return (
        not torch._C._len_torch_dispatch_stack()
        and not torch._C._are_functorch_transforms_active()
        and torch._C._get_tracing_state() is None
    )


def first_order(
    name: str, operator: CustomOperator, backward: CustomOperator, remember: Any, gradients: Any
) -> Callable[..., Any]:
    """Make an operator differentiable once, in eager and in compiled programs.

    Args:
        name: Name of the public function, for messages.
        operator: The operator, which returns a tensor or a tuple of tensors.
        backward: The operator of the gradients, which returns a tuple of tensors.
        remember: Function that stores the values for the backward pass on the context, like ``setup_context`` of
            ``torch.autograd.Function``.
        gradients: Function that returns the gradients of the arguments from the context, the gradients of the results
            and a function that calls ``backward``.

    Returns:
        A function with the arguments and results of the operator. In eager programs it supports ``torch.func.grad``,
        ``vjp``, ``jacrev`` and ``vmap``, and raises ``ValueError`` for forward-mode and second derivatives. In compiled
        programs all transforms of ``torch.func`` raise ``ValueError``.
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

    for function in (Forward, Backward):
        # Without it PyTorch inspects the function in every call, which takes 10 microseconds.
        function.forward.__signature__ = _ANY_ARGUMENTS  # type: ignore[attr-defined]

    def compiled_gradients(ctx: Any, *grads: Any) -> Any:
        return gradients(ctx, grads, Backward.apply)

    operator.operator.register_autograd(compiled_gradients, setup_context=remember)

    def call(*args: Any) -> Any:
        if not torch.compiler.is_compiling():
            return Forward.apply(*args)  # type: ignore[no-untyped-call]
        # Dynamo cannot trace a Function with a jvp, and custom operators do not support these transforms.
        if torch._C._are_functorch_transforms_active():
            raise ValueError(
                f"{name}: torch.func and forward-mode derivatives are not supported in compiled programs; "
                "apply the transform outside torch.compile."
            )
        return operator.operator(*args)

    return call


def any_order(
    forward: Callable[..., Any], backward: Callable[..., Any], record: Callable[..., Any], remember: Any, gradients: Any
) -> Callable[..., Any]:
    """Make a function with a formula for the first derivative differentiable any number of times.

    Args:
        forward: The function, which returns a tensor or a tuple of tensors.
        backward: Function that returns the gradients, which are not differentiable.
        record: Function that returns the same results in operations of PyTorch, as a tuple.
        remember: See `first_order`. It also stores on the context how many of the saved tensors are arguments of
            ``record``, as ``inputs``, and its other arguments, as ``arguments``.
        gradients: See `first_order`.

    Returns:
        A function with the arguments and results of ``forward``, for programs without transforms of ``torch.func``.
    """

    class Compiled(Function):
        @staticmethod
        def forward(ctx: Any, *args: Any) -> Any:
            outputs = forward(*args)
            remember(ctx, args, outputs)
            return outputs

        @staticmethod
        def backward(ctx: Any, *grads: Tensor | None) -> Any:
            again = torch.is_grad_enabled()  # create_graph was given
            if not again and not any(x is not None and _is_batched(x) for x in grads):
                return gradients(ctx, grads, backward)
            with torch.enable_grad():
                # Inputs may depend on each other. Gradients must not pass from one to another, as they do later.
                given = [None if x is None else x.view_as(x) for x in ctx.saved_tensors[: ctx.inputs]]
                outputs = record(*given, *ctx.arguments)
            pairs = [(y, grad) for y, grad in zip(outputs, grads, strict=False) if grad is not None]
            wanted = [x for x, needed in zip(given, ctx.needs_input_grad, strict=False) if needed and x is not None]
            found = iter(
                torch.autograd.grad(
                    [y for y, _ in pairs], wanted, [grad for _, grad in pairs], create_graph=again,
                    materialize_grads=True,
                )
            )  # fmt: skip
            return tuple(next(found) if needed else None for needed in ctx.needs_input_grad)

    return Compiled.apply


def _is_batched(x: Tensor) -> bool:
    """Return whether a gradient is batched (``is_grads_batched``), which kernels and compiled loops do not support."""
    return bool(torch._C._functorch.is_legacy_batchedtensor(x))


def _one_by_one(function: Any, count: int, in_dims: tuple[int | None, ...], args: tuple[Any, ...]) -> Any:
    # The kernels have no batch dimension; offsets represent batches.
    results = [
        function.apply(*(x if dim is None else x.select(dim, i) for x, dim in zip(args, in_dims, strict=True)))
        for i in range(count)
    ]
    if isinstance(results[0], Tensor):
        return torch.stack(results), 0
    stacked = tuple(torch.stack(of_one) for of_one in zip(*results, strict=True))
    return stacked, (0,) * len(stacked)


def is_transformed(*args: Tensor | None) -> bool:
    """Return whether a transform of ``torch.func`` is active, or an argument has a forward-mode tangent.

    Args:
        args: Tensors, or None.

    Returns:
        Whether the operation is being transformed.
    """
    if torch._C._are_functorch_transforms_active() or torch.compiler.is_compiling():
        return torch._C._are_functorch_transforms_active()
    if forward_ad._current_level < 0:  # outside of forward_ad.dual_level no tensor has a tangent
        return False
    return any(x is not None and forward_ad.unpack_dual(x).tangent is not None for x in args)  # type: ignore[no-untyped-call]


def needs_plain_code(*args: Tensor | None) -> bool:
    """Return whether an operation on a CPU must consist of operations of PyTorch instead of compiled loops.

    Args:
        args: Tensors, or None.

    Returns:
        Whether the operation is being transformed, or recorded, such as by ``make_fx`` or ``torch.jit.trace``, to which
        the results of compiled loops would be constants.
    """
    return not _is_eager(args) or is_transformed(*args)


def needs_gradients(*args: Tensor | None) -> bool:
    """Return whether an operator must save values for the backward pass.

    Args:
        args: Inputs of the operator.

    Returns:
        Whether gradients may be required.
    """
    # Inside torch.vmap, requires_grad of a tensor is not visible.
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
    """Return a tensor that supports first derivatives only, for PyTorch functions that are differentiable once.

    Args:
        x: Tensor of any shape.
        message: Message of the ``ValueError`` that forward-mode and second derivatives raise.

    Returns:
        The tensor. Compiled programs support first derivatives only, so there the tensor is returned unchanged.
    """
    if torch.compiler.is_compiling():
        return x
    found: Tensor = _Once.apply(x, message)  # type: ignore[no-untyped-call]
    return found
