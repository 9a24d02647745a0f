import copy
import math
import re
from functools import partial

import pytest
import torch
from device_sync import no_device_sync
from mixers import D_MODEL, STACKS, gated_mlp_by_formulas, made, pieces, rows
from sequences import distance, offset_of
from torch import nn
from torch.utils._pytree import tree_leaves

from supa_learning import CapturedStep
from supa_mamba import (
    BiMamba,
    CausalAttention,
    HybridStack,
    InputBuffer,
    Mamba,
    MambaBlock,
    MambaStack,
    optimizer_groups,
)

ENCODER = {"bimamba": lambda: MambaStack(D_MODEL, 2, mixer="bimamba", d_state=3)}
ALL = STACKS | ENCODER
COMPILED = {  # compilation is slow, so that one stack has several blocks, of all kinds
    "mamba2": lambda: MambaStack(D_MODEL, 1, mixer="mamba2", d_state=3, headdim=4),
    "bimamba": lambda: MambaStack(D_MODEL, 1, mixer="bimamba", d_state=3),
    "hybrid with an MLP": lambda: HybridStack(D_MODEL, 2, [1], 2, d_state=3, d_intermediate=6, rotary_emb_dim=2),
}
LENGTHS = [3, 0, 1, 6]
paths = pytest.mark.parametrize("path", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)], indirect=True)
causal = pytest.mark.parametrize("name", STACKS)
every = pytest.mark.parametrize("name", ALL)


def begun(stack, batch, length=10):
    return stack.init_state(batch, length) if isinstance(stack, HybridStack) else stack.init_state(batch)


def with_buffers(stack, batch):
    """Return states in which each layer has a buffer of two inputs."""
    return stack.with_buffers(stack.init_state(batch), 2)


def tensors_of(state):
    return [v for x in tree_leaves(state) for v in (vars(x).values() if isinstance(x, InputBuffer) else [x])]


@every
def test_a_stack_equals_its_blocks_and_a_norm(name):
    stack, x, offset = made(ALL[name]), rows(sum(LENGTHS)), offset_of(LENGTHS)

    def normed(x, weight):
        return x / torch.sqrt(x.square().mean(1, keepdim=True) + 1e-5) * weight

    y = x
    for block in stack.layers:
        y = y + block.mixer(normed(y, block.norm.weight), offset)
        if block.mlp is not None:
            y = y + gated_mlp_by_formulas(block.mlp.state_dict(), normed(y, block.norm2.weight))
    assert distance(stack(x, offset), normed(y, stack.norm_f.weight)) < 1e-13


@every
@paths
def test_packed_sequences_equal_single_sequences(path, device, name):
    stack, x, offset = made(ALL[name], device), rows(sum(LENGTHS), device), offset_of(LENGTHS, device)
    y = stack(x, offset)
    for a, b in pieces(offset):
        assert distance(y[a:b], stack(x[None, a:b])[0]) < 1e-12
    padded = stack(x[:9].unflatten(0, (3, 3)))
    assert distance(padded.flatten(0, 1), stack(x[:9], offset_of([3, 3, 3], device))) < 1e-12


@causal
@paths
def test_repeated_steps_equal_the_forward_pass(path, device, name):
    stack, x = made(STACKS[name], device), rows(15, device).unflatten(0, (3, 5))
    y = stack(x)
    first, state, order = begun(stack, 3, 5), begun(stack, 4, 5), torch.tensor([2, 0, 3], device=device)
    for t in range(5):
        assert distance(stack.step(x[:, t], first), y[:, t]) < 1e-12
        assert distance(stack.step(x[:, t], state, order), y[:, t]) < 1e-12


@causal
@paths
def test_steps_continue_a_prompt(path, device, name):
    stack, x, lengths = made(STACKS[name], device), rows(9, device), [4, 0, 5]
    whole, begin = stack(x, offset_of(lengths, device)), begun(stack, 3, 5)
    prompt = torch.cat([x[:2], x[4:8]])
    y, state = stack(prompt, offset_of([2, 0, 4], device), begin, return_state=True)
    assert distance(y, torch.cat([whole[:2], whole[4:8]])) < 1e-12
    assert not any(v.any() for layer in begin for v in layer)
    stepped = stack.step(x[[2, 8]], state, torch.tensor([0, 2], device=device))
    assert distance(stepped, whole[[2, 8]]) < 1e-12
    stepped = stack.step(x[[8, 3, 8]], state, torch.tensor([-1, 0, -1], device=device))
    assert distance(stepped[1], whole[3]) < 1e-12


@causal
def test_processing_in_pieces_equals_a_single_call(name):
    stack, x = made(STACKS[name]), rows(8).requires_grad_()
    parameters = [x, *stack.parameters()]
    whole = stack(x, offset_of([5, 3]))
    gradients = torch.autograd.grad(whole.sin().sum(), parameters)
    first, second = [0, 1, 5], [2, 3, 4, 6, 7]
    y, state = stack(x[first], offset_of([2, 1]), begun(stack, 2), return_state=True)
    y_next = stack(x[second], offset_of([3, 2]), state)
    assert distance(torch.cat([y, y_next]), whole[first + second]) < 1e-12
    found = torch.autograd.grad(y.sin().sum() + y_next.sin().sum(), parameters)
    for mine, other in zip(found, gradients, strict=True):
        assert distance(mine, other) < 1e-12


@pytest.mark.parametrize("name", ["mamba2", "bimamba", "hybrid with an MLP"])
def test_compiled_programs(name):
    stack, x, offset = made(COMPILED[name]), rows(sum(LENGTHS)), offset_of(LENGTHS)
    options = {"max_length": 7} if isinstance(stack, HybridStack) else {}
    compiled = torch.compile(stack, backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        assert distance(compiled(x[None]), stack(x[None])) < 1e-13
    assert distance(compiled(x, offset, **options), stack(x, offset)) < 1e-13
    for mine, other in zip(
        torch.autograd.grad(compiled(x, offset, **options).square().sum(), list(stack.parameters())),
        torch.autograd.grad(stack(x, offset).square().sum(), list(stack.parameters())),
        strict=True,
    ):
        assert distance(mine, other) < 1e-12


@pytest.mark.parametrize("name", ["mamba2", "hybrid with an MLP"])
def test_compiled_steps(name):
    stack, x = made(COMPILED[name]), rows(2)
    compiled, eager, order = begun(stack, 3), begun(stack, 3), torch.tensor([2, -1])
    step = torch.compile(stack.step, backend="aot_eager", fullgraph=True)
    for _ in range(2):
        assert distance(step(x, compiled, order)[0], stack.step(x, eager, order)[0]) < 1e-13


def test_steps_with_buffers_equal_those_without():
    stack, x = made(STACKS["mamba2"]), rows(20).unflatten(0, (5, 4))
    plain, state, slots = begun(stack, 6), with_buffers(stack, 6), torch.tensor([5, 0, 3, 1])
    for now in x:
        assert distance(stack.step(now, state, slots), stack.step(now, plain, slots)) < 1e-12
    with pytest.raises(ValueError, match="only layers of Mamba2 have a buffer of inputs, but this stack has none"):
        with_buffers(made(STACKS["mamba"]), 6)


@pytest.mark.parametrize(("name", "begin"), [*((name, begun) for name in STACKS), ("mamba2", with_buffers)])
@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is available; run with -m gpu")
def test_captured_steps_have_the_bits_of_eager_ones(name, begin):
    stack = made(STACKS[name], "cuda", torch.float32)
    states, steps = [], []
    for enabled in (True, False):
        state = begin(stack, 3)
        states.append(state)
        run = partial(_step, stack, state)
        steps.append(CapturedStep(run, _new_inputs, device=torch.device("cuda"), enabled=enabled))
    for k in range(6):
        x, slots = rows(2, "cuda", torch.float32) + k, torch.tensor([k % 3, -1], device="cuda")
        results = []
        for step in steps:
            for mine, given in zip(step.inputs(2), (x, slots), strict=True):
                mine.copy_(given)
            results.append(step(2)[0])
        assert torch.equal(*results)
    for mine, other in zip(*(tensors_of(state) for state in states), strict=True):
        assert torch.equal(mine.nan_to_num(), other.nan_to_num())  # the rest of a buffer is uninitialised


def _step(stack, state, inputs):
    return stack.step(inputs[0], state, inputs[1])


def _new_inputs(count):
    return torch.empty(count, D_MODEL, device="cuda"), torch.empty(count, dtype=torch.int64, device="cuda")


@every
@paths
def test_rows_stay_in_single_precision_under_autocast(path, device, name):
    stack = made(ALL[name], device, torch.float32)
    x, offset = rows(sum(LENGTHS), device, torch.bfloat16), offset_of(LENGTHS, device)
    seen = []
    for block in stack.layers:
        block.register_forward_hook(lambda _, __, y: seen.append(y.residual.dtype))
        block.mixer.register_forward_hook(lambda _, __, y: seen.append(y.dtype))
    with torch.autocast(device, torch.bfloat16):
        y = stack(x, offset)
    assert seen == [torch.bfloat16, torch.float32] * len(stack.layers)
    assert y.dtype == torch.float32
    y.square().sum().backward()
    assert {p.grad.dtype for p in stack.parameters()} == {torch.float32}
    assert distance(y, stack(x, offset)) < 0.05
    if name in STACKS:
        with torch.autocast(device, torch.bfloat16):
            state = begun(stack, 4)
            first = torch.tensor([0, 3, 4], device=device)
            stepped = stack.step(x[first], state, torch.tensor([0, 2, 3], device=device))
        assert distance(stepped, y[first]) < 0.05
        if isinstance(stack, HybridStack):
            assert state[1].keys.dtype == torch.bfloat16


def test_half_precision_throughout():
    stack = made(STACKS["hybrid"], dtype=torch.bfloat16)
    x, offset = rows(sum(LENGTHS), dtype=torch.bfloat16), offset_of(LENGTHS)
    assert distance(stack(x, offset), stack.double()(x.double(), offset)) < 0.05


@every
def test_empty_inputs(name):
    stack = made(ALL[name])
    assert stack(rows(0), offset_of([0, 0])).shape == (0, D_MODEL)
    assert stack(rows(0), offset_of([])).shape == (0, D_MODEL)
    if name in STACKS:
        y, state = stack(rows(0), offset_of([0, 0]), begun(stack, 2), return_state=True)
        assert y.shape == (0, D_MODEL)
        assert not any(v.any() for layer in state for v in layer)
        assert stack.step(rows(0), state).shape == (0, D_MODEL)


def test_weights_of_mamba_ssm_can_be_loaded_and_saved():
    stack = HybridStack(D_MODEL, 2, [1], 4, d_state=3)
    layout = {"norm_f.weight": (8,)} | {f"layers.{i}.norm.weight": (8,) for i in range(2)}
    layout |= {"layers.1.mixer.in_proj.weight": (24, 8), "layers.1.mixer.out_proj.weight": (8, 8)}
    layout |= {f"layers.0.mixer.{key}": value.shape for key, value in Mamba(D_MODEL, d_state=3).state_dict().items()}
    weights = {key: torch.randn(shape) for key, shape in layout.items()}
    stack.load_state_dict(weights, strict=True)
    assert stack.state_dict().keys() == weights.keys()
    assert all(torch.equal(value, weights[key]) for key, value in stack.state_dict().items())


def test_output_projections_are_scaled_by_the_number_of_layers():
    torch.manual_seed(0)
    stack = HybridStack(64, 4, [2], 2, mixer="bimamba", tied=False)
    bound = {64: 1 / math.sqrt(64) / 2, 128: 1 / math.sqrt(128) / 2}
    for block in stack.layers:
        for projection in (block.mixer.out_proj, getattr(block.mixer, "out_proj_b", block.mixer.out_proj)):
            most = bound[projection.in_features]
            assert 0.98 * most < projection.weight.abs().max() <= most
    assert all(torch.equal(m.weight, torch.ones(64)) for m in stack.modules() if isinstance(m, nn.RMSNorm))


def test_output_projections_of_blocks_with_mlps_are_scaled_by_the_number_of_updates():
    torch.manual_seed(0)
    stack = HybridStack(64, 2, [0], 2, d_intermediate=100)
    for block in stack.layers:
        for projection in (block.mixer.out_proj, block.mlp.fc2):
            most = 1 / math.sqrt(projection.in_features) / 2  # the square root of two mixers and two MLPs
            assert 0.98 * most < projection.weight.abs().max() <= most


def test_copies_keep_the_exclusions_from_weight_decay():
    stack = ENCODER["bimamba"]()
    names = {p: key for key, p in stack.named_parameters()}
    _, no_weight_decay = optimizer_groups(stack, 0.1)
    kept = {names[p].rsplit(".", 1)[-1] for p in no_weight_decay["params"]}
    assert kept == {"A_log", "A_b_log", "D", "D_b", "bias", "weight"}
    assert {names[p] for p in no_weight_decay["params"] if names[p].endswith("weight")} == {
        "norm_f.weight", "layers.0.norm.weight", "layers.1.norm.weight",
    }  # fmt: skip
    _, of_copy = optimizer_groups(copy.deepcopy(stack), 0.1)
    assert len(of_copy["params"]) == len(no_weight_decay["params"])


@pytest.mark.parametrize("name", ALL)
def test_replaced_parameters_keep_the_exclusions_from_weight_decay(name):
    stack = ALL[name]()
    _, no_weight_decay = optimizer_groups(stack, 0.1)
    names = {id(p): key for key, p in stack.named_parameters()}
    expected = {names[id(p)] for p in no_weight_decay["params"]}
    stack.load_state_dict(stack.state_dict(), assign=True)
    _, no_weight_decay = optimizer_groups(stack, 0.1)
    names = {id(p): key for key, p in stack.named_parameters()}
    assert {names[id(p)] for p in no_weight_decay["params"]} == expected


@every
def test_parameters_have_the_requested_device_and_dtype(name):
    options = {"device": "meta", "dtype": torch.bfloat16}
    stack = {
        "mamba": lambda: MambaStack(8, 2, **options),
        "mamba2": lambda: MambaStack(8, 2, "mamba2", headdim=4, **options),
        "bimamba": lambda: MambaStack(8, 2, "bimamba", **options),
        "hybrid": lambda: HybridStack(8, 3, [1], 2, **options),
        "transformer": lambda: HybridStack(8, 2, [0, 1], 2, d_intermediate=4, rotary_emb_dim=2, **options),
    }[name]()
    assert {p.device.type for p in stack.parameters()} == {"meta"}
    assert {p.dtype for key, p in stack.named_parameters() if key.endswith("weight")} == {torch.bfloat16}
    if name in STACKS:
        lengths = (3,) if isinstance(stack, HybridStack) else ()
        state = stack.init_state(2, *lengths, dtype=torch.float16)
        assert {v.dtype for layer in state for v in layer if v.is_floating_point()} == {torch.float16}


def test_a_custom_mixer():
    class Mean(nn.Module):
        def __init__(self, d_model, scale):
            super().__init__()
            self.scale = nn.Parameter(torch.full((d_model,), scale))

        def forward(self, x, offset):
            return torch.cat([x[a:b].mean(0, keepdim=True).expand(b - a, -1) for a, b in pieces(offset)]) * self.scale

    stack = MambaStack(D_MODEL, 2, Mean, scale=0.5)
    assert stack(rows(4, dtype=torch.float32), offset_of([1, 3])).shape == (4, D_MODEL)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MambaStack(8, 0), "n_layer: 0"),
        (lambda: MambaStack(8, 1, "mamba3"), "mixer: 'mamba3' was given, but it must be one of mamba, mamba2, bimamba"),
        (lambda: MambaStack(8, 1, None), "mixer: None was given"),
        (
            lambda: MambaStack(8, 1, d_stat=4),
            "Mamba: got an .* 'd_stat'; besides d_model it accepts d_state",
        ),
        (lambda: MambaStack(8, 1, "mamba2", headdim=4, D_has_hdim=True), "Mamba2: got an unexpected .* 'D_has_hdim'"),
        (lambda: MambaStack(8, 1, d_intermediate=-1), "d_intermediate: -1 was given"),
        (
            lambda: HybridStack(8, 1, [0], 2, rotary_emb_dim=3),
            "rotary_emb_dim: 3 .* even number up to the 4 features",
        ),
        (lambda: HybridStack(8, 1, [0], 2, rotary_emb_dim=6), "rotary_emb_dim: 6 was given"),
        (lambda: MambaStack(8, 1).init_state(-1), "batch: -1 was given"),
        (lambda: HybridStack(8, 1, [0], 2).init_state(2.0, 5), "batch: 2.0 was given"),
        (lambda: HybridStack(8, 1, [0], 2, d_state=4), "d_state: given for the mixer, but all layers use attention"),
        (lambda: HybridStack(8, 2, [2], 2), "attn_layer_idx: 2 was given, but the layers are 0 to 1"),
        (lambda: HybridStack(8, 2, [1], 3), "num_heads: 3 was given, but it must divide d_model, 8"),
        (lambda: MambaStack(8, 2, "bimamba").init_state(2), "has no state"),
        (lambda: MambaStack(8, 2)(torch.zeros(2, 8), offset_of([2]), return_state=True, state=()), "it has 0 layers"),
        (lambda: MambaStack(8, 2).step(torch.zeros(2, 8), ()), "it has 0 layers, but this stack has 2"),
        (lambda: MambaStack(8, 2)(torch.zeros(2, 7), offset_of([2])), "rows of 7 features"),
        (lambda: MambaBlock(8)(torch.zeros(2, 8)), "without an offset"),
        (
            lambda: HybridStack(8, 1, [0], 2)(torch.zeros(2, 8), offset_of([2]), return_state=True),
            "a fixed number of rows",
        ),
    ],
)
def test_invalid_input_raises_a_clear_error(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_repr_shows_the_options():
    said = repr(HybridStack(8, 3, {1}, 2, mixer=BiMamba))
    assert said.count("BiMamba(") == 2
    assert said.count("CausalAttention(\n        d_model=8, num_heads=2\n") == 1
    assert isinstance(MambaBlock(8, CausalAttention, num_heads=2).mixer, CausalAttention)


def test_the_modules_example_of_the_docs_runs(root):
    section = (root / "docs" / "how_to" / "sequence_models.md").read_text().partition("## Stacks")[2]
    code = re.search(r"```python\n(.*?)```", section, re.DOTALL)[1]
    names = {}
    exec(compile(code, "sequence_models.md", "exec"), names)
    assert names["y"].shape == (2, 32)
    assert names["state"][2].lengths.tolist() == [4, 0, 6]


@pytest.mark.parametrize("path", [pytest.param("cuda", marks=pytest.mark.gpu)], indirect=True)
@every
def test_no_synchronisation_with_the_device(path, device, name):
    stack, x, offset = (
        made(ALL[name], device, torch.float32),
        rows(40, device, torch.float32),
        offset_of([30, 10], device),
    )
    options = {"max_length": 30} if isinstance(stack, HybridStack) else {}
    order = torch.tensor([1, -1], device=device)

    def run():
        stack(x, offset, **options).square().sum().backward()
        if name in STACKS:
            _, state = stack(x, offset, begun(stack, 2, 40), return_state=True, **options)
            stack.step(x[:2], state, order)

    run()
    with no_device_sync():
        run()


def test_the_residual_of_a_block_is_single_precision():
    block, x = made(lambda: MambaBlock(D_MODEL, d_state=3), dtype=torch.float32), rows(2, dtype=torch.bfloat16)
    y, state = block(x, offset_of([1, 1]), return_state=True)
    assert y.dtype == torch.float32
    assert distance(y, block.double()(x.double(), offset_of([1, 1]))) < 1e-5
    assert block.float().step(x, state).dtype == torch.float32
