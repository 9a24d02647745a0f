"""Registration of custom operators, so that ``torch.compile`` treats each operation as a single operator.

The inputs of an operator are a named tuple. Its fields are the arguments of the operator. The backends of an operation,
its modules ``cpu`` and ``launch``, take the tuple.
"""

from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar, get_type_hints

import torch
from torch import Tensor

from supa_mamba.ops import backend
from supa_mamba.ops.transforms import CustomOperator, any_order, first_order, needs_gradients, needs_plain_code

_SCHEMA_TYPES: dict[Any, str] = {
    Tensor: "Tensor", Tensor | None: "Tensor?", bool: "bool", int: "int", float: "float", torch.dtype: "ScalarType",
}  # fmt: skip


class SequenceInputs(Protocol):
    """Inputs of an operation over packed sequences: a named tuple whose first field has the shape of the result."""

    @property
    def offset(self) -> Tensor:
        """(S + 1,) int64 offsets, the only input without a gradient."""

    def new_final_states(self, sequences: int) -> Tensor:
        """Return an uninitialised tensor for the final states of this number of sequences."""

    def new_checkpoints(self, *, save: bool) -> Tensor:
        """Return an uninitialised tensor for the states that ``launch.backward`` needs, empty without ``save``."""


Inputs = TypeVar("Inputs", bound=SequenceInputs)
Options = TypeVar("Options")


def sequence_operator(
    name: str, package: str, inputs: type[Inputs], options: type[Options]
) -> Callable[[Inputs, Options, bool], tuple[Tensor, Tensor]]:
    """Register an operation over packed sequences, and its gradients.

    The package of the operation provides these functions:

    - ``cpu.forward(inputs, options, return_final_states)`` returns y and the final states, and has derivatives of every
      order. The states are those of zero sequences if they are not requested.
    - ``launch.forward(inputs, options, return_final_states, save_checkpoints)`` also returns checkpoints.
    - ``launch.backward(y_grad, final_grad, inputs, checkpoints, options)`` returns the gradient of each input except
      the offset, and None for a missing input.
    - ``compiled.forward`` and ``compiled.backward`` do the same as those of ``launch`` on a CPU.

    Args:
        name: Name of the public function.
        package: Package of the operation.
        inputs: Type of the inputs, a named tuple of tensors.
        options: Type of the options, a named tuple of booleans and floats.

    Returns:
        A function of the inputs, the options and ``return_final_states`` that returns y and the final states. It calls
        the custom operator on a GPU and in compiled programs. Otherwise it calls ``compiled.forward``, or, under
        transforms of ``torch.func``, in forward mode and while a tracer records operations, ``cpu.forward``.
    """
    tensors, settings = schema_arguments(inputs), schema_arguments(options)
    fields = list(get_type_hints(inputs))
    first, last = len(tensors), len(tensors) + len(settings)

    def split(arguments: tuple[Any, ...]) -> tuple[Any, Any, tuple[Any, ...]]:
        return inputs(*arguments[:first]), options(*arguments[first:last]), arguments[last:]

    def forward(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
        given, chosen, (return_final_states, save_checkpoints) = split(arguments)
        result: tuple[Tensor, Tensor, Tensor] = run_backend(
            package, "forward", given[0], given, chosen, return_final_states, save_checkpoints, compiled=True
        )
        return result

    def backward(y_grad: Tensor, final_grad: Tensor | None, *arguments: Any) -> tuple[Tensor, ...]:
        given, chosen, (checkpoints,) = split(arguments)
        found = run_backend(
            package, "backward", given[0], y_grad, final_grad, given, checkpoints, chosen, compiled=True
        )
        return tuple(y_grad.new_empty(0) if x is None else x for x in found)

    def fake_forward(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
        given, _, (return_final_states, save_checkpoints) = split(arguments)
        x = given[0]
        sequences = given.offset.shape[0] - 1 if return_final_states else 0
        return x.new_empty(x.shape), given.new_final_states(sequences), given.new_checkpoints(save=save_checkpoints)

    def fake_backward(y_grad: Tensor, final_grad: Tensor | None, *arguments: Any) -> tuple[Tensor, ...]:
        with_gradients = [x for name, x in zip(fields, arguments, strict=False) if name != "offset"]
        return tuple(y_grad.new_empty(0) if x is None else x.new_empty(x.shape) for x in with_gradients)

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.save_for_backward(*inputs[:first], output[2])
        ctx.inputs, ctx.arguments = first, inputs[first:-1]
        ctx.set_materialize_grads(False)

    def gradients(ctx: Any, grads: tuple[Tensor | None, ...], of_backward: Callable[..., Any]) -> tuple[Any, ...]:
        *given, checkpoints = ctx.saved_tensors
        y_grad = torch.zeros_like(given[0]) if grads[0] is None else grads[0]
        *chosen, return_final_states = ctx.arguments
        final_grad = grads[1] if return_final_states else None
        found = iter(of_backward(y_grad, final_grad, *given, *chosen, checkpoints))
        of_inputs = [None if name == "offset" else next(found) for name in fields]
        of_inputs = [None if x is None else gradient for x, gradient in zip(given, of_inputs, strict=True)]
        return (*of_inputs, *[None] * (len(settings) + 2))

    forward_operator = custom_operator(
        name, forward, fake_forward,
        [*tensors, *settings, "bool return_final_states", "bool save_checkpoints"], outputs=3,
    )  # fmt: skip
    backward_operator = custom_operator(
        f"{name}_backward", backward, fake_backward,
        ["Tensor y_grad", "Tensor? final_grad", *tensors, *settings, "Tensor checkpoints"], outputs=first - 1,
    )  # fmt: skip
    run = first_order(name, forward_operator, backward_operator, setup_context, gradients)

    def record(*arguments: Any) -> tuple[Tensor, Tensor]:
        given, chosen, (return_final_states,) = split(arguments)
        found: tuple[Tensor, Tensor] = backend.load_backend(given[0], package).forward(
            given, chosen, return_final_states
        )
        return found

    run_compiled = any_order(forward, backward, record, setup_context, gradients)

    def call(given: Inputs, chosen: Options, return_final_states: bool) -> tuple[Tensor, Tensor]:
        arguments: Any = given
        flat: Any = (*arguments, *chosen, return_final_states)  # type: ignore[misc]
        if not backend.use_custom_op(arguments[0]) and needs_plain_code(*arguments):
            return record(*flat)
        of_device = run if backend.use_custom_op(arguments[0]) else run_compiled
        y, final_states, _ = of_device(*flat, needs_gradients(*arguments))
        return y, final_states

    return call


def step_operator(name: str, package: str, inputs: type, mutated: Iterable[str]) -> CustomOperator:
    """Register an operation that updates state tables in place and has no gradients.

    Args:
        name: Name of the operator.
        package: Package of the operation. ``step(inputs)`` of its backends returns y, of the shape of ``x``.
        inputs: Type of the inputs, a named tuple of tensors and booleans. The first field is the state table.
        mutated: Names of the fields that the operation modifies.

    Returns:
        The custom operator, whose arguments are the fields. In eager programs it calls the backend directly.
    """

    def step(*arguments: Any) -> Tensor:
        y: Tensor = run_backend(package, "step", arguments[0], inputs(*arguments))
        return y

    def fake(*arguments: Any) -> Tensor:
        x: Tensor = inputs(*arguments).x
        return x.new_empty(x.shape)

    places = [place for place, field in enumerate(get_type_hints(inputs)) if field in mutated]

    def direct(*arguments: Any) -> Tensor:
        y = step(*arguments)
        # The operator marks the tables as modified. Autograd then refuses to use values from before the step.
        for table in [arguments[place] for place in places]:
            if table is not None and not table.is_inference():
                torch.autograd.graph.increment_version(table)
        return y

    schema = schema_arguments(inputs, mutated=mutated)
    operator = custom_operator(name, step, fake, schema, outputs=1, mutated=mutated).operator
    return CustomOperator(operator, direct)


def schema_arguments(*kinds: type, mutated: Iterable[str] = ()) -> list[str]:
    """Return the arguments of an operator in the syntax of PyTorch schemas.

    Args:
        kinds: Named tuples, whose fields are the arguments.
        mutated: Names of the fields that the operator modifies.

    Returns:
        Type and name of each argument.
    """
    fields = [field for kind in kinds for field in get_type_hints(kind).items()]
    described = []
    for number, (name, kind) in enumerate(fields):
        schema_type = _SCHEMA_TYPES[kind]
        if name in mutated:
            schema_type = schema_type.replace("Tensor", f"Tensor(a{number}!)")
        described.append(f"{schema_type} {name}")
    return described


def custom_operator(
    name: str, run: Any, fake: Any, schema: Iterable[str], *, outputs: int, mutated: Iterable[str] = ()
) -> CustomOperator:
    """Register a custom operator.

    Args:
        name: Name of the operator.
        run: Function that computes the results.
        fake: Function that returns uninitialised results.
        schema: Type and name of each argument; see `schema_arguments`.
        outputs: Number of results. A single result is a tensor, several are a tuple of tensors.
        mutated: Names of the arguments that the operator modifies.

    Returns:
        The custom operator.
    """
    returned = "Tensor" if outputs == 1 else f"({', '.join(['Tensor'] * outputs)})"
    operator = torch.library.custom_op(
        f"supa_mamba::{name}", run, mutates_args=tuple(mutated), schema=f"({', '.join(schema)}) -> {returned}"
    )
    operator.register_fake(fake)
    return CustomOperator(operator, run)


def run_backend(package: str, function: str, x: Tensor, *given: Any, compiled: bool = False) -> Any:
    """Call a function of the backend of an operation, on the device of a tensor.

    Args:
        package: Package of the operation; see `backend.load_backend`.
        function: Name of the function of the backend.
        x: An input of the operation.
        given: Arguments of the function.
        compiled: Whether the package has a module ``compiled``.

    Returns:
        The results of the function.
    """
    with backend.device_guard(x):
        return getattr(backend.load_backend(x, package, compiled=compiled), function)(*given)
