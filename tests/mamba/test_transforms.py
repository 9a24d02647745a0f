import pytest
import torch
from sequences import conv_inputs, distance, offset_of, scan_inputs, ssd_inputs
from torch.autograd import forward_ad
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from supa_mamba import (
    BiMamba,
    CausalAttention,
    EncoderConfig,
    HybridStack,
    Mamba,
    Mamba2,
    MambaBlock,
    MambaStack,
    ShowerEncoder,
    add_rms_norm,
    causal_conv1d,
    causal_conv1d_update,
    gated_rms_norm,
    selective_scan,
    selective_state_update,
    ssd,
)
from supa_mamba.ops.add_rms_norm.naive import naive_add_rms_norm
from supa_mamba.ops.causal_conv1d.naive import naive_causal_conv1d
from supa_mamba.ops.gated_rms_norm.naive import naive_gated_rms_norm
from supa_mamba.ops.selective_scan.naive import naive_selective_scan
from supa_mamba.ops.ssd.naive import naive_ssd

LENGTHS = [2, 0, 1]


def norm_inputs(*names):
    generator = torch.Generator().manual_seed(0)
    shapes = {"weight": (4,)}
    return {name: torch.randn(shapes.get(name, (3, 4)), generator=generator, dtype=torch.float64) for name in names}


def without_offset(norm):
    """Return a norm with the arguments and results of an operation over sequences."""

    def run(offset, return_final_states=True, **given):
        found = norm(**given)
        return found if isinstance(found, tuple) else (found, found.new_zeros(0))

    return run


OPERATIONS = {
    "selective_scan": (selective_scan, naive_selective_scan, scan_inputs(LENGTHS, 2, 2)),
    "ssd": (ssd, naive_ssd, ssd_inputs(LENGTHS, 2, 2, 2)),
    "causal_conv1d": (causal_conv1d, naive_causal_conv1d, conv_inputs(LENGTHS, 2, 3)),
    "add_rms_norm": (
        without_offset(add_rms_norm), without_offset(naive_add_rms_norm), norm_inputs("residual", "update", "weight"),
    ),
    "add_rms_norm, update": (
        without_offset(add_rms_norm), without_offset(naive_add_rms_norm), norm_inputs("update", "residual", "weight"),
    ),
    "gated_rms_norm": (
        without_offset(gated_rms_norm), without_offset(naive_gated_rms_norm), norm_inputs("gate", "x", "weight"),
    ),
}  # fmt: skip


@pytest.fixture(params=list(OPERATIONS))
def operation(request, device):
    """Our function and the naive one as functions of the first input, this input, and a tangent."""
    ours, naive, inputs = OPERATIONS[request.param]
    first, *others = inputs
    given, offset = {name: inputs[name].to(device) for name in others}, offset_of(LENGTHS, device)

    def run(x):
        y, final_state = ours(**{first: x}, **given, offset=offset, return_final_states=True)
        return torch.cat([y.flatten(), final_state.flatten()])

    def truth(x):
        y, final_state = naive(**{first: x}, **given, offset=offset)
        return torch.cat([y.flatten(), final_state.flatten()])

    x = inputs[first].to(device)
    return run, truth, x, torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(3)).to(device)


def squared(function):
    return lambda x: function(x).square().sum()


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_first_derivatives_of_torch_func(operation, path):
    run, truth, x, _ = operation
    batch = torch.stack([x, 2 * x])
    assert distance(vmap(run)(batch), torch.stack([truth(x) for x in batch])) < 1e-12
    assert distance(vmap(grad(squared(run)))(batch), torch.stack([grad(squared(truth))(x) for x in batch])) < 1e-12
    few = slice(-2 if path == "interpreter" else None, None)
    expected = jacrev(lambda x: truth(x)[few])(x)
    assert distance(jacrev(lambda x: run(x)[few])(x), expected) < 1e-12
    vectorised = torch.autograd.functional.jacobian(lambda x: run(x)[few], x, vectorize=True)
    assert distance(vectorised, expected) < 1e-12


def test_forward_mode_is_correct_or_raises_an_error(operation, path):
    run, truth, x, tangent = operation

    def dual_numbers():
        with forward_ad.dual_level():
            return forward_ad.unpack_dual(run(forward_ad.make_dual(x, tangent))).tangent

    ways = (dual_numbers, lambda: jvp(run, (x,), (tangent,))[1], lambda: jacfwd(run)(x).flatten(1) @ tangent.flatten())
    for way in ways:
        if path == "cpu":
            assert distance(way(), jvp(truth, (x,), (tangent,))[1]) < 1e-12
        else:
            with pytest.raises(ValueError, match="forward-mode derivatives are not supported here; call it on CPU"):
                way()


def test_second_derivatives_are_correct_or_raise_an_error(operation, path):
    run, truth, x, tangent = operation
    x.requires_grad_()
    first = torch.autograd.grad(squared(run)(x), x, create_graph=True)[0]
    if path != "cpu":
        with pytest.raises(ValueError, match="second derivative is not supported here; call it on CPU"):
            torch.autograd.grad(first.sum(), x)
        with pytest.raises(ValueError, match="derivative"):
            hessian(squared(run))(x.detach())
        return
    expected = torch.autograd.functional.vhp(squared(truth), x, tangent)[1]
    assert distance(torch.autograd.grad(first, x, tangent)[0], expected) < 1e-12
    assert (
        distance((hessian(squared(run))(x.detach()).flatten(x.ndim) @ tangent.flatten()).view_as(x), expected) < 1e-12
    )


@pytest.mark.parametrize("name", ["selective_scan", "causal_conv1d"])
def test_gradients_of_inputs_that_depend_on_each_other(name):
    """Gradients with ``create_graph``, and batches of gradients, do not pass from one input to another twice."""
    ours, naive, inputs = OPERATIONS[name]
    first, second = list(inputs)[:2]
    inputs, offset = dict(inputs), offset_of(LENGTHS)
    x, factor = inputs.pop(first).requires_grad_(), inputs.pop(second)

    def result(function, **options):
        other = factor * x.sin() if factor.shape == x.shape else factor * x.sum()
        y = function(**{first: x, second: other}, **inputs, offset=offset, **options)
        return y[0] if isinstance(y, tuple) else y

    expected = torch.autograd.grad(result(naive).square().sum(), x)[0]
    for create_graph in (False, True):
        found = torch.autograd.grad(result(ours).square().sum(), x, create_graph=create_graph)[0]
        assert distance(found, expected) < 1e-12
    y = result(ours)
    batch = torch.stack([2 * y, y]).detach()
    assert distance(torch.autograd.grad(y, x, batch, is_grads_batched=True)[0][0], expected) < 1e-12


@pytest.mark.parametrize("name", ["selective_scan", "ssd"])
def test_gradients_through_vmap_have_stored_states(path, device, name):
    ours, naive, _ = OPERATIONS[name]
    lengths = [6 if name == "selective_scan" else 40]  # longer than a tile, so that the kernels store states
    inputs = {"selective_scan": scan_inputs(lengths, 1, 1), "ssd": ssd_inputs(lengths, 1, 1, 1)}[name]
    inputs = {name: x.to(device) for name, x in inputs.items()}
    first = next(iter(inputs))
    x, offset = inputs.pop(first), offset_of(lengths, device)
    batch = torch.stack([x, 2 * x])
    total = lambda batch: vmap(lambda x: ours(**{first: x}, **inputs, offset=offset))(batch).square().sum()  # noqa: E731
    expected = torch.stack(
        [grad(lambda x: naive(**{first: x}, **inputs, offset=offset)[0].square().sum())(x) for x in batch]
    )
    assert distance(grad(total)(batch), expected) < 1e-12
    batch.requires_grad_()
    assert distance(torch.autograd.grad(total(batch), batch)[0], expected) < 1e-12


def test_per_sample_gradients(path, device):
    mixer = Mamba(2, d_state=2).double().to(device)
    parameters = {name: p.detach() for name, p in mixer.named_parameters()}
    batch = torch.randn(2, 3, 2, dtype=torch.float64, device=device)

    def loss(parameters, x):
        return functional_call(mixer, parameters, (x[None],)).square().sum()

    found = vmap(grad(loss), in_dims=(None, 0))(parameters, batch)
    for i, x in enumerate(batch):
        alone = torch.autograd.grad(mixer(x[None]).square().sum(), list(mixer.parameters()))
        assert all(distance(found[name][i], g) < 1e-12 for name, g in zip(parameters, alone, strict=True))


MIXERS = {
    "Mamba": lambda: Mamba(4, d_state=2),
    "Mamba2": lambda: Mamba2(4, d_state=2, headdim=4),
    "BiMamba": lambda: BiMamba(4, d_state=2),
    "CausalAttention": lambda: CausalAttention(4, 2),
    "MambaBlock": lambda: MambaBlock(4, d_state=2),
    "MambaStack": lambda: MambaStack(4, 1, d_state=2),
    "HybridStack": lambda: HybridStack(4, 2, [1], 2, d_state=2),
    "ShowerEncoder": lambda: ShowerEncoder(EncoderConfig(features=4, outputs=2, level="hit", d_model=4, n_layer=1)),
}


@pytest.mark.parametrize("mixer", list(MIXERS))
def test_modules_have_forward_mode_and_second_derivatives_on_a_cpu(mixer):
    torch.manual_seed(0)
    module, offset = MIXERS[mixer]().double(), offset_of(LENGTHS)
    x, tangent = torch.randn(2, 3, 4, dtype=torch.float64)
    size, bound = (1e-3, 1e-3) if mixer == "ShowerEncoder" else (1e-5, 1e-7)  # outputs of the encoder are float32

    def run(x):
        return module(x, offset).double()

    def gradient(x):
        return grad(lambda x: run(x).sin().sum())(x)

    with sdpa_kernel(SDPBackend.MATH):
        for function in (run, gradient):
            differences = (function(x + size * tangent) - function(x - size * tangent)) / (2 * size)
            assert distance(jvp(function, (x,), (tangent,))[1], differences) < bound


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (CausalAttention(4, 2), r"sdpa_kernel\(torch.nn.attention.SDPBackend.MATH\)"),
        (ShowerEncoder(EncoderConfig(features=4, outputs=1, level="shower", d_model=4, n_layer=1)), "level='hit'"),
    ],
)
def test_unsupported_derivatives_raise_an_error(module, message):
    x, offset = torch.randn(3, 4), offset_of([2, 1])

    def run(x):
        return module(x, offset)

    with pytest.raises(ValueError, match=message):
        jvp(run, (x,), (x,))
    x.requires_grad_()
    first = torch.autograd.grad(run(x).square().sum(), x, create_graph=True)[0]
    # With create_graph, PyTorch computes some gradients by other formulas that differ in the last bits.
    torch.testing.assert_close(first, torch.autograd.grad(run(x).square().sum(), x)[0])
    with pytest.raises(ValueError, match=message):
        torch.autograd.grad(first.sum(), x)


def test_steps_do_not_support_transforms():
    x, state = torch.randn(2, 3), torch.zeros(2, 3, 2)
    inputs = (-torch.rand(3, 2), torch.randn(2, 2), torch.randn(2, 2))
    attention, mixer = CausalAttention(3, 1), Mamba(3)
    cache = attention.init_state(2, max_length=4)
    steps = [
        lambda x: selective_state_update(state, x, x, *inputs),
        lambda x: causal_conv1d_update(x, torch.zeros(2, 3, 2), torch.ones(3, 3)),
        lambda x: mixer.step(x, mixer.init_state(2)),
        lambda x: attention.step(x, cache),
    ]
    for step in steps:
        for transformed in (lambda: jvp(step, (x,), (x,)), lambda: vmap(step)(x[None]), lambda: jacrev(step)(x)):  # noqa: B023
            with pytest.raises(ValueError, match="modifies its state in place"):
                transformed()
    assert not state.any()
    assert not cache.keys.any()


def test_offsets_cannot_be_batched():
    x, offsets = torch.randn(2, 3, 4), torch.tensor([[0, 1, 3], [0, 2, 3]])
    with pytest.raises(ValueError, match=r"offset: torch\.vmap over offsets is not supported"):
        vmap(Mamba(4))(x, offsets)


def test_transforms_inside_compiled_programs_raise_an_error():
    inputs, offset = scan_inputs([2, 1], 2, 2), offset_of([2, 1])
    u = inputs.pop("u")

    def run(u):
        return selective_scan(u, **inputs, offset=offset)

    def tangent(u, v):
        return jvp(run, (u,), (v,))[1]

    compiled = torch.compile(tangent, backend="aot_eager", fullgraph=True)
    # Older compilers replace the message of the error.
    own_text = tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 13)
    with pytest.raises(Exception, match=r"apply the transform outside torch\.compile" if own_text else None):
        compiled(u, u)
    assert distance(tangent(u, u), torch.autograd.functional.jvp(run, u, u)[1]) < 1e-12
