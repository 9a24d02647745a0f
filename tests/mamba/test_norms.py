import math
from functools import partial

import pytest
import torch
from sequences import apart, assert_close, distance, with_gradients
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.functional import rms_norm, silu
from torch.utils._python_dispatch import TorchDispatchMode

from supa_mamba import MambaStack, add_rms_norm, gated_rms_norm
from supa_mamba.ops import row_tiles
from supa_mamba.ops.add_rms_norm.inputs import (
    AddNormGradientOptions,
    AddNormGradients,
    AddNormInputs,
    AddNormOptions,
)
from supa_mamba.ops.add_rms_norm.naive import naive_add_rms_norm
from supa_mamba.ops.add_rms_norm.operator import run_add_rms_norm
from supa_mamba.ops.gated_rms_norm.inputs import GatedNormInputs, GatedNormOptions
from supa_mamba.ops.gated_rms_norm.naive import naive_gated_rms_norm
from supa_mamba.ops.gated_rms_norm.operator import run_gated_rms_norm

interpreter_and_gpu = pytest.mark.parametrize(
    "path", ["interpreter", pytest.param("cuda", marks=pytest.mark.gpu)], indirect=True
)
cpu_and_gpu = pytest.mark.parametrize("path", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)], indirect=True)


@pytest.fixture(autouse=True)
def _few_programs_and_small_tiles(monkeypatch, request):
    """Make programs process several tiles of several rows, also for few rows."""
    monkeypatch.setattr(row_tiles, "PROGRAMS", 2)
    if "whole_tiles" not in request.fixturenames:
        monkeypatch.setattr(row_tiles, "ELEMENTS", 16)
        monkeypatch.setattr(row_tiles, "PREFETCHED_ELEMENTS", 16)


def inputs_of(rows, width, *names, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = {"weight": (width,)}
    return {
        name: torch.randn(shapes.get(name, (rows, width)), generator=generator, dtype=torch.float64) for name in names
    }


def added(rows, width):
    return inputs_of(rows, width, "residual", "update", "weight")


def gated(rows, width):
    return inputs_of(rows, width, "x", "gate", "weight")


def alone(function, **options):
    """Return a function with an empty second result, as ``with_gradients`` expects two."""

    def run(**given):
        y = function(**given, **options)
        return y, y.new_zeros(0)

    return run


def without_update(function):
    return lambda **given: function(update=None, **given)


def test_the_naive_norms_equal_pytorchs():
    given = added(4, 6)
    y, total = naive_add_rms_norm(**given)
    assert torch.equal(total, given["residual"] + given["update"])
    torch.testing.assert_close(y, rms_norm(total, (6,), given["weight"], 1e-5))
    given = gated(4, 6)
    x, gate, weight = given.values()
    after = rms_norm((x * silu(gate)).unflatten(1, (3, 2)), (2,), None, 1e-5).flatten(1) * weight
    torch.testing.assert_close(naive_gated_rms_norm(**given, groups=3), after)
    before = rms_norm(x.unflatten(1, (3, 2)), (2,), None, 1e-5).flatten(1) * weight * silu(gate)
    torch.testing.assert_close(naive_gated_rms_norm(**given, groups=3, norm_before_gate=True), before)


@pytest.mark.parametrize(("rows", "width"), [(40, 1), (9, 3), (11, 8), (5, 100), (3, 4096)])
def test_sums_of_any_width_in_double_precision(path, device, rows, width):
    given = added(rows, width)
    assert_close(
        with_gradients(add_rms_norm, given, device=device), with_gradients(naive_add_rms_norm, given), 1e-13, 1e-13
    )
    del given["update"]
    ours, naive = without_update(add_rms_norm), without_update(naive_add_rms_norm)
    assert_close(with_gradients(ours, given, device=device), with_gradients(naive, given), 1e-13, 1e-13)


@pytest.mark.parametrize("norm_before_gate", [False, True])
@pytest.mark.parametrize(
    ("rows", "width", "groups"), [(40, 1, 1), (9, 3, 1), (11, 8, 4), (9, 15, 3), (5, 100, 1), (3, 4096, 1), (3, 200, 2)]
)
def test_gates_of_any_width_in_double_precision(path, device, rows, width, groups, norm_before_gate):
    given, options = gated(rows, width), {"groups": groups, "norm_before_gate": norm_before_gate}
    assert_close(
        with_gradients(alone(gated_rms_norm, **options), given, device=device),
        with_gradients(alone(naive_gated_rms_norm, **options), given),
        1e-13,
        1e-13,
    )


def test_single_precision_with_whole_tiles(path, device, whole_tiles):
    given = added(70, 60)
    assert_close(
        with_gradients(add_rms_norm, given, torch.float32, device),
        with_gradients(naive_add_rms_norm, given),
        1e-6,
        1e-5,
    )
    given = gated(70, 60)
    found = with_gradients(alone(gated_rms_norm, groups=2), given, torch.float32, device)
    assert_close(found, with_gradients(alone(naive_gated_rms_norm, groups=2), given), 1e-6, 1e-5)


def test_half_precision_updates(path, device):
    given = added(9, 12)
    given["update"] = given["update"].bfloat16().double()
    run = lambda **given: add_rms_norm(**given, dtype=torch.bfloat16)  # noqa: E731
    found = with_gradients(run, given, torch.bfloat16, device, half=("update",))
    expected = with_gradients(naive_add_rms_norm, given)
    assert found["y"].dtype == found["gradient of update"].dtype == torch.bfloat16
    assert found["final_state"].dtype == found["gradient of residual"].dtype == torch.float32
    assert distance(found["final_state"], expected["final_state"]) < 1e-6
    assert_close(found, expected, 1e-2, 1e-2)
    if path != "interpreter":  # which truncates numbers to bfloat16 instead of rounding them
        assert torch.equal(found["gradient of update"], found["gradient of residual"].bfloat16())


def test_half_precision_rows_with_a_gate(path, device):
    given = gated(9, 12)
    given |= {name: given[name].bfloat16().double() for name in ("x", "gate")}
    found = with_gradients(alone(gated_rms_norm), given, torch.bfloat16, device, half=("x", "gate"))
    assert_close(found, with_gradients(alone(naive_gated_rms_norm), given), 1e-2, 1e-2)
    assert {found[name].dtype for name in ("y", "gradient of x", "gradient of gate")} == {torch.bfloat16}
    assert found["gradient of weight"].dtype == torch.float32


def test_half_precision_throughout(path, device):
    residual, update, weight = (x.to(device, torch.bfloat16) for x in added(3, 8).values())
    y, total = add_rms_norm(residual, update, weight)
    assert (y.dtype, total.dtype) == (torch.bfloat16, torch.float32)
    assert torch.equal(total, residual.float() + update.float())
    y, same = add_rms_norm(total, None, weight, dtype=torch.float32)
    assert same is total
    assert y.dtype == torch.float32


@pytest.mark.parametrize("used", [0, 1])
def test_gradients_through_a_single_output(path, device, used):
    given = {name: x.to(device).requires_grad_() for name, x in added(5, 3).items()}

    def gradients(function):
        loss = function(**given)[used].square().sum()
        return torch.autograd.grad(loss, list(given.values()), allow_unused=True, materialize_grads=True)

    for mine, naive in zip(gradients(add_rms_norm), gradients(naive_add_rms_norm), strict=True):
        assert distance(mine, naive) < 1e-13


def test_rows_of_zeros_have_finite_gradients(path, device):
    zeros, ones = (
        torch.zeros(3, 4, dtype=torch.float64, device=device),
        torch.ones(4, dtype=torch.float64, device=device),
    )
    silu_of_one = 1 / (1 + math.exp(-1))
    for slope, run in (
        (1, lambda x: add_rms_norm(x, zeros, ones)[0]),
        (silu_of_one, lambda x: gated_rms_norm(x, zeros + 1, ones)),
        (silu_of_one, lambda x: gated_rms_norm(x, zeros + 1, ones, norm_before_gate=True)),
    ):
        x = zeros.clone().requires_grad_()
        y = run(x)
        assert not y.any()
        torch.testing.assert_close(torch.autograd.grad(y.sum(), x)[0], zeros + slope / math.sqrt(1e-5))


def test_no_rows(path, device):
    for function, given in ((add_rms_norm, added(0, 3)), (alone(gated_rms_norm), gated(0, 3))):
        found = with_gradients(function, given, torch.float32, device)
        assert found["y"].shape == (0, 3)
        assert not found["gradient of weight"].any()


def test_the_gate_may_be_a_view_of_a_projection(path, device):
    given = gated(6, 5)
    x, gate, weight = (v.to(device) for v in given.values())
    projection = torch.cat([weight.expand(6, 5), gate, x], 1).requires_grad_()
    y = gated_rms_norm(apart(x), projection[:, 5:10], apart(weight))
    assert distance(y, naive_gated_rms_norm(**given)) < 1e-13
    found = torch.autograd.grad(y.sin().sum(), projection)[0]
    gate = given["gate"].requires_grad_()
    expected = torch.autograd.grad(naive_gated_rms_norm(given["x"], gate, given["weight"]).sin().sum(), gate)[0]
    assert distance(found[:, 5:10], expected) < 1e-13
    assert not found[:, :5].any()


def test_strided_rows_and_gradients(path, device):
    """Inputs and gradients of results are columns of wider tensors, or have no neighbouring values."""

    def of_columns(function):
        def run(a, b, weight):
            wide = torch.cat([a, b], 1)
            y, total = function(wide[:, :5], wide[:, 5:], weight)
            both = torch.cat([y, total], 1)
            return both, both.new_zeros(0)

        return run

    def run_gate(x, gate, weight, function=gated_rms_norm):
        return function(x, gate, weight), x

    (a, b, weight), (y, total) = added(6, 5).values(), naive_add_rms_norm(**added(6, 5))
    given = {"a": a, "b": b, "weight": weight}
    for ours, naive in (
        (add_rms_norm, naive_add_rms_norm), (run_gate, partial(run_gate, function=naive_gated_rms_norm)),
    ):  # fmt: skip
        found, expected = (
            with_gradients(of_columns(ours), given, device=device),
            with_gradients(of_columns(naive), given),
        )
        assert_close(found, expected, 1e-13, 1e-13)
    for found, expected in zip(add_rms_norm(*(apart(x.to(device)) for x in (a, b, weight))), (y, total), strict=True):
        assert distance(found, expected) < 1e-13


def test_further_dimensions(path, device):
    residual, update, weight = (x.to(device) for x in added(6, 5).values())
    y, total = add_rms_norm(residual, update, weight)
    padded = add_rms_norm(residual.unflatten(0, (2, 3)), update.unflatten(0, (2, 3)), weight)
    assert all(torch.equal(a.flatten(0, 1), b) for a, b in zip(padded, (y, total), strict=True))


# Triton's interpreter runs one program after the other.
@pytest.mark.parametrize("path", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)], indirect=True)
def test_gradients_are_bitwise_reproducible(path, device):
    for function, given in ((add_rms_norm, added(40, 9)), (alone(gated_rms_norm, groups=3), gated(40, 9))):
        first, second = (with_gradients(function, given, torch.float32, device) for _ in range(2))
        assert all(torch.equal(first[name], second[name]) for name in first)


@interpreter_and_gpu
@pytest.mark.parametrize("rows", [3, 11, 40])
def test_further_rows_without_a_gradient_change_no_bit(path, device, rows):
    for function, given in ((add_rms_norm, added(60, 9)), (alone(gated_rms_norm, groups=3), gated(60, 9))):
        results = []
        for count in (rows, 60):
            leaves = {
                name: (x if name == "weight" else x[:count]).to(device, torch.float32).requires_grad_()
                for name, x in given.items()
            }
            loss = sum(x[:rows].sin().sum() for x in function(**leaves))
            results.append(torch.autograd.grad(loss, list(leaves.values())))
        for name, short, long in zip(given, *results, strict=True):
            assert torch.equal(short, long if name == "weight" else long[:rows]), name
            assert name == "weight" or not long[rows:].any()


class Created(TorchDispatchMode):
    """List the shape and dtype of every created tensor with several elements."""

    def __init__(self):
        super().__init__()
        self.tensors = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if function.namespace == "aten" and not any(x.alias_info is not None for x in function._schema.returns):
            of_all = result if isinstance(result, (tuple, list)) else [result]
            self.tensors += [(tuple(x.shape), x.dtype) for x in of_all if isinstance(x, torch.Tensor) and x.numel() > 1]
        return result


def created(run):
    with Created() as mode:
        run()
    return sorted(mode.tensors, key=str)


@interpreter_and_gpu
def test_kernels_write_each_result_once(path, device):
    from supa_mamba.ops.add_rms_norm import launch as sums
    from supa_mamba.ops.gated_rms_norm import launch as gates

    rows, half = torch.randn(8, 4, device=device), torch.randn(8, 4, device=device, dtype=torch.bfloat16)
    gate, weight = torch.randn(8, 12, device=device, dtype=torch.bfloat16)[:, 4:8], torch.ones(4, device=device)
    float_rows, half_rows = ((8, 4), torch.float32), ((8, 4), torch.bfloat16)
    of_weight = [((2, 4), torch.float32), ((4,), torch.float32)]  # for each of two programs, and their sum
    given, options = AddNormInputs(rows, half, weight), AddNormOptions(1e-5, torch.bfloat16)
    assert created(lambda: sums.forward(given, options)) == [half_rows, float_rows]
    given, options = AddNormGradients(half, rows, rows, weight), AddNormGradientOptions(1e-5, torch.bfloat16)
    assert created(lambda: sums.backward(given, options)) == sorted([half_rows, float_rows, *of_weight], key=str)
    given, options = GatedNormInputs(half, gate, weight), GatedNormOptions(2, 1e-5, norm_before_gate=False)
    assert created(lambda: gates.forward(given, options)) == [half_rows]
    of_weight[0] = ((1, 4), torch.float32)  # one program for each of the two groups
    assert created(lambda: gates.backward(half, given, options)) == sorted([half_rows] * 2 + of_weight, key=str)


@interpreter_and_gpu
def test_autocast_casts_no_rows(path, device):
    stack = MambaStack(4, 2, "mamba2", d_state=2, headdim=4).to(device)
    rows, offset = torch.randn(7, 4, device=device), torch.tensor([0, 7], device=device)
    casts = []

    class Casts(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            if function is torch.ops.aten._to_copy.default and args[0].shape[0] == 7:
                casts.append((args[0].shape, args[0].dtype, kwargs["dtype"]))
            return function(*args, **(kwargs or {}))

    with torch.autocast(device, torch.bfloat16):
        y = stack(rows, offset)
        with Casts():
            assert torch.equal(stack(rows, offset), y)
    assert casts == []


@cpu_and_gpu
def test_autocast_does_not_convert_double_precision(path, device):
    stack = MambaStack(4, 2, d_state=2).double().to(device)
    rows = torch.randn(1, 7, 4, dtype=torch.float64, device=device)
    with torch.autocast(device, torch.bfloat16):
        y = stack(rows)
    assert torch.equal(y, stack(rows))


@cpu_and_gpu
def test_compiled_programs_under_autocast(path, device):
    stack = MambaStack(4, 2, d_state=2).to(device)
    rows = torch.randn(1, 7, 4, device=device)
    with torch.no_grad(), torch.autocast(device, torch.bfloat16):
        found = torch.compile(stack, backend="aot_eager", fullgraph=True)(rows)
        assert distance(found, stack(rows)) < 1e-2


@cpu_and_gpu
def test_compiled_programs(path, device):
    for function, given in ((add_rms_norm, added(5, 3)), (alone(gated_rms_norm), gated(5, 3))):
        compiled = torch.compile(function, backend="aot_eager", fullgraph=True)
        found, expected = (with_gradients(run, given, torch.float64, device) for run in (compiled, function))
        assert_close(found, expected, 1e-14, 1e-13)


@cpu_and_gpu
def test_the_operators_satisfy_the_rules_of_pytorch(path, device):
    residual, update, weight = (x.to(device).requires_grad_() for x in added(5, 3).values())
    update = update.detach().float().requires_grad_()
    for given in (
        (residual, update, weight, 1e-5, torch.float32),
        (residual, None, weight, 1e-5, torch.float64),
    ):
        torch.library.opcheck(torch.ops.supa_mamba.add_rms_norm, given)
    wide = torch.randn(5, 10, dtype=torch.float64, device=device)
    x, gate = (wide[:, columns].requires_grad_() for columns in (slice(3), slice(5, 8)))
    for options in ((3, 1e-5, False), (1, 1e-5, True)):
        torch.library.opcheck(torch.ops.supa_mamba.gated_rms_norm, (x, gate, weight, *options))


def test_operators_in_programs_that_were_exported_on_a_gpu_run_on_a_cpu():
    given = added(5, 3)
    expected = with_gradients(naive_add_rms_norm, given)
    run = lambda **given: run_add_rms_norm(*given.values(), 1e-5, torch.float64)  # noqa: E731
    assert_close(with_gradients(run, given), expected, 1e-13, 1e-13)
    given = gated(5, 3)
    run = lambda **given: (run_gated_rms_norm(*given.values(), 1, 1e-5, False), torch.zeros(0))  # noqa: E731
    assert_close(with_gradients(run, given), with_gradients(alone(naive_gated_rms_norm), given), 1e-13, 1e-13)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": torch.zeros(1, 3)}, r"weight: shape \(1, 3\) was given, but it must be \(D,\)"),
        ({"weight": torch.zeros(4)}, r"residual: shape \(5, 3\) was given, but it must be \(..., D\) = \(5, 4\)"),
        ({"weight": torch.ones(3, dtype=torch.int64)}, "weight: torch.int64 was given"),
        ({"update": torch.zeros(5, 2)}, r"update: shape \(5, 2\) was given, but it must be the shape of residual"),
        ({"update": torch.zeros(5, 3, device="meta")}, "update: it is on meta, but the other tensors are on cpu"),
        ({"residual": torch.zeros(5, 3, device="meta")}, "residual: device 'meta' was given"),
        ({"dtype": torch.int64}, "dtype: torch.int64 was given, but it must be a floating-point dtype"),
        ({"dtype": "bfloat16"}, "dtype: 'bfloat16' was given"),
    ],
)
def test_invalid_sums_raise_a_clear_error(change, message):
    with pytest.raises(ValueError, match=message):
        add_rms_norm(**({name: x.float() for name, x in added(5, 3).items()} | change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": torch.zeros(0)}, r"weight: shape \(0,\) was given, but it must be \(C,\)"),
        ({"x": torch.zeros(5, 1, 3)}, r"x: shape \(5, 1, 3\) was given, but it must be \(T, C\)"),
        ({"gate": torch.zeros(5, 4)}, r"gate: shape \(5, 4\) was given, but it must be the shape of x"),
        ({"groups": 2}, "groups: 2 was given, but it must be a whole number that divides 3 channels"),
        ({"groups": 1.0}, "groups: 1.0 was given"),
        ({"groups": 0}, "groups: 0 was given"),
        ({"x": torch.zeros(5, 3, device="meta")}, "x: device 'meta' was given"),
    ],
)
def test_invalid_gates_raise_a_clear_error(change, message):
    with pytest.raises(ValueError, match=message):
        gated_rms_norm(**({name: x.float() for name, x in gated(5, 3).items()} | change))


def test_recorded_programs_compute_the_norm_with_a_gate_again():
    gate, weight = torch.randn(5, 12), torch.randn(12)
    run = lambda x: gated_rms_norm(x, gate, weight, 3)  # noqa: E731
    recorded, x = make_fx(run)(torch.randn(5, 12)), torch.randn(5, 12)
    torch.testing.assert_close(recorded(x), run(x))
