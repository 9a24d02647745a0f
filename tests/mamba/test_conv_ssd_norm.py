"""The operator of Mamba-2 against the separate operations, which have naive twins of their own."""

import math
from itertools import product

import pytest
import torch
from sequences import distance, offset_of
from torch._subclasses.fake_tensor import FakeTensorMode

from supa_mamba import Mamba2
from supa_mamba.ops.conv_ssd_norm import separate
from supa_mamba.ops.conv_ssd_norm.function import conv_ssd_norm
from supa_mamba.ops.conv_ssd_norm.inputs import MixerInputs, MixerOptions
from supa_mamba.ops.conv_ssd_norm.operator import run_conv_ssd_norm

LENGTHS = (3, 0, 9, 1)
PLAIN = MixerOptions(1, False, 0.0, math.inf, 1e-5, False)

interpreter_and_gpu = pytest.mark.parametrize(
    "path", ["interpreter", pytest.param("cuda", marks=pytest.mark.gpu)], indirect=True
)
cpu_and_gpu = pytest.mark.parametrize("path", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)], indirect=True)


def draw(lengths=LENGTHS, heads=3, width=2, groups=1, states=2, *, bias=True, dtype=torch.float64, device="cpu"):
    """Draw inputs of the mixer. The rows of the projection are views of wider rows."""
    generator = torch.Generator().manual_seed(1)

    def normal(*shape, dtype=dtype):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(device, dtype)

    inner, parameters = heads * width, torch.float32 if dtype == torch.bfloat16 else dtype
    mixed = inner + 2 * groups * states
    projected = normal(sum(lengths), inner + mixed + heads + 5)[:, 2:-3]
    weights = (
        normal(mixed, 3, dtype=parameters), normal(mixed, dtype=parameters) if bias else None,
        -normal(heads, dtype=parameters).exp(),
        *(normal(size, dtype=parameters) for size in (heads, heads, inner)),
    )  # fmt: skip
    return MixerInputs(projected, *weights, offset_of(lengths).to(device))


def results(function, inputs, options):
    """Return the rows and the gradients of all inputs."""
    leaves = [x if x is None or x.dtype == torch.int64 else x.detach().requires_grad_() for x in inputs]
    y, states = function(MixerInputs(*leaves), options)
    assert states is None
    wanted = [x for x in leaves if x is not None and x.requires_grad]
    return [y, *torch.autograd.grad((y.double() * torch.linspace(-1, 2, y.numel()).view(y.shape).to(y)).sum(), wanted)]


OPTIONS = {
    "plain": ({}, PLAIN),
    "reversed": ({}, PLAIN._replace(reverse=True)),
    "groups": ({"heads": 4, "groups": 2}, PLAIN._replace(groups=2)),
    "limits": ({}, PLAIN._replace(dt_min=0.3, dt_max=0.9)),
    "norm before gate": ({"bias": False}, PLAIN._replace(norm_before_gate=True)),
    "together": ({"heads": 4, "groups": 2, "bias": False}, MixerOptions(2, True, 0.3, 0.9, 1e-5, True)),
    "many heads": ({"heads": 9, "width": 1}, PLAIN),
    "half precision": ({"dtype": torch.bfloat16}, PLAIN),
    "no rows": ({"lengths": (0, 0)}, PLAIN),
    "no sequences": ({"lengths": ()}, PLAIN),
}


# "together" fails where one of its options does; on a GPU each of them is tested alone, too.
TOGETHER = ("reversed", "groups", "limits", "norm before gate")


@pytest.mark.parametrize(
    ("path", "case"),
    [
        *(("interpreter", case) for case in OPTIONS if case not in TOGETHER),
        *(pytest.param("cuda", case, marks=pytest.mark.gpu) for case in OPTIONS),
    ],
    indirect=["path"],
)
def test_results_have_the_bits_of_the_separate_operations(path, device, case):
    sizes, options = OPTIONS[case]
    inputs = draw(**sizes, device=device)
    found, expected = (results(function, inputs, options) for function in (conv_ssd_norm, separate.run_separately))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_single_precision_stays_close_to_double_precision(path, device):
    inputs = draw((40, 3), heads=2, width=16, states=16, dtype=torch.float32, device=device)
    exact = MixerInputs(*(x.double().cpu() if x.is_floating_point() else x.cpu() for x in inputs))
    found, expected = results(conv_ssd_norm, inputs, PLAIN), results(separate.run_separately, exact, PLAIN)
    for a, b in zip(found, expected, strict=True):
        assert distance(a, b) < 1e-5


@interpreter_and_gpu
def test_the_mixer_calls_the_operator_unless_states_are_needed(path, device, monkeypatch):
    calls = []
    monkeypatch.setattr(
        "supa_mamba.ops.conv_ssd_norm.function.run_conv_ssd_norm",
        lambda *flat: calls.append(flat[-1]) or run_conv_ssd_norm(*flat),
    )
    mixer = Mamba2(4, d_state=2, headdim=2, device=device)
    x, offset = torch.randn(5, 4, device=device), torch.tensor([0, 2, 5], device=device)
    y = mixer(x, offset)
    with torch.no_grad():
        torch.testing.assert_close(mixer(x, offset), y, rtol=0, atol=0)
    assert calls == [True, False]  # nothing is saved without gradients
    stateful, _ = mixer(x, offset, return_state=True)
    torch.testing.assert_close(stateful, y, rtol=0, atol=0)
    assert len(calls) == 2


@interpreter_and_gpu
def test_the_gradient_of_the_projection_is_written_in_place(path, device):
    inputs = draw(device=device)
    projected = inputs.projected.detach().requires_grad_()
    y, _ = conv_ssd_norm(inputs._replace(projected=projected), PLAIN)
    (grad,) = torch.autograd.grad(y.sum(), projected)
    assert grad.stride() == (32, 1), "one row of 19 values, aligned to 16"


@cpu_and_gpu
@pytest.mark.parametrize(("save", "bias"), product((False, True), repeat=2))
def test_the_operator_satisfies_the_rules_of_pytorch(path, device, save, bias):
    inputs = [x if x is None or x.dtype == torch.int64 else x.requires_grad_(save) for x in draw(bias=bias)]
    inputs = [None if x is None else x.to(device).detach().requires_grad_(x.requires_grad) for x in inputs]
    torch.library.opcheck(torch.ops.supa_mamba.conv_ssd_norm, (*inputs, *PLAIN, save))


@cpu_and_gpu
def test_compiled_programs(path, device):
    mixer = Mamba2(4, d_state=2, headdim=2, device=device)
    x = torch.randn(1, 6, 4, device=device)
    compiled = torch.compile(mixer, backend="aot_eager", fullgraph=True)
    found, expected = (torch.autograd.grad(run(x).sum(), list(mixer.parameters())) for run in (compiled, mixer))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_programs_that_were_exported_on_a_gpu_run_on_a_cpu():
    inputs = draw()
    exported = lambda given, options: (run_conv_ssd_norm(*given, *options, True)[0], None)  # noqa: E731
    for a, b in zip(*(results(run, inputs, PLAIN) for run in (exported, conv_ssd_norm)), strict=True):
        torch.testing.assert_close(a, b)


@interpreter_and_gpu
def test_compilers_receive_the_strides_of_the_gradients(path, device):
    inputs = draw(device=device)
    y, *saved = run_conv_ssd_norm(*inputs, *PLAIN, True)
    run = torch.ops.supa_mamba.conv_ssd_norm_backward
    expected = run(torch.ones_like(y), *inputs, *PLAIN, *saved)
    with FakeTensorMode() as mode:
        given = [None if x is None else mode.from_tensor(x) for x in (y, *inputs, *saved)]
        found = run(*given[: -len(saved)], *PLAIN, *given[-len(saved) :])
    assert [x.stride() for x in found] == [x.stride() for x in expected]
