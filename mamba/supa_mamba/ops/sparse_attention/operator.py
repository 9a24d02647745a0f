"""Custom operators of sparse attention: the order of queries and keys, and the attention."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from supa_mamba.ops import backend
from supa_mamba.ops.operators import custom_operator, run_backend, schema_arguments
from supa_mamba.ops.sparse_attention import cpu
from supa_mamba.ops.sparse_attention.inputs import BucketInputs, SparseGradients, SparseInputs
from supa_mamba.ops.transforms import any_order, first_order, needs_plain_code

_TENSORS = len(SparseInputs._fields)


def _order(*flat: Any) -> tuple[Tensor, Tensor]:
    inputs = BucketInputs(*flat)
    found: tuple[Tensor, Tensor] = run_backend(__package__, "order", inputs.query_buckets, inputs)
    return found


def _fake_order(*flat: Any) -> tuple[Tensor, Tensor]:
    return BucketInputs(*flat).new_order()


run_order = custom_operator(
    "sparse_attention_order", _order, _fake_order, schema_arguments(BucketInputs), outputs=2
)  # fmt: skip


def _forward(*flat: Any) -> tuple[Tensor, Tensor]:
    inputs = SparseInputs(*flat)
    found: tuple[Tensor, Tensor] = run_backend(__package__, "forward", inputs.q, inputs)
    return found


def _fake_forward(*flat: Any) -> tuple[Tensor, Tensor]:
    inputs = SparseInputs(*flat)
    return inputs.q.new_empty(inputs.q.shape), inputs.new_log_sums()


def _backward(*flat: Any) -> tuple[Tensor, ...]:
    inputs, given = SparseInputs(*flat[:_TENSORS]), SparseGradients(*flat[_TENSORS:])
    found: tuple[Tensor, ...] = run_backend(__package__, "backward", inputs.q, inputs, given)
    return found


def _fake_backward(*flat: Any) -> tuple[Tensor, ...]:
    return tuple(x.new_empty(x.shape) for x in flat[:3])


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs, *output)
    ctx.inputs, ctx.arguments = _TENSORS, ()
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


def _gradients(ctx: Any, grads: tuple[Tensor | None, ...], of_backward: Callable[..., Any]) -> tuple[Any, ...]:
    saved = ctx.saved_tensors
    y_grad = torch.zeros_like(saved[_TENSORS]) if grads[0] is None else grads[0]
    found = of_backward(*saved[:_TENSORS], y_grad, *saved[_TENSORS:])
    return (*found, *[None] * (_TENSORS - 3))


_ARGUMENTS = schema_arguments(SparseInputs)

_run = first_order(
    "sparse_attention",
    custom_operator("sparse_attention", _forward, _fake_forward, _ARGUMENTS, outputs=2),
    custom_operator(
        "sparse_attention_backward", _backward, _fake_backward, schema_arguments(SparseInputs, SparseGradients),
        outputs=3,
    ),
    _remember,
    _gradients,
)  # fmt: skip


def _record(*flat: Any) -> tuple[Tensor, Tensor]:
    return cpu.forward(SparseInputs(*flat))


_run_cpu = any_order(_forward, _backward, _record, _remember, _gradients)


def run_sparse_attention(inputs: SparseInputs) -> Tensor:
    """Run sparse attention on the device of its inputs.

    Args:
        inputs: The inputs.

    Returns:
        (T, H, D) result.
    """
    if backend.use_custom_op(inputs.q):
        run: Callable[..., tuple[Tensor, Tensor]] = _run
    else:
        run = _record if needs_plain_code(*inputs) else _run_cpu
    y, _ = run(*inputs)
    return y
