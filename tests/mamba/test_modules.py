import copy
import io
import math
import pickle
from functools import partial

import pytest
import torch
from kernel_paths import on_all_paths
from mixers import (
    BOTH_WAYS,
    CAUSAL,
    D_MODEL,
    flipped,
    made,
    mamba2_by_formulas,
    mamba_by_formulas,
    pieces,
    rows,
)
from sequences import distance, offset_of

from supa_mamba import BiMamba, CausalAttention, Mamba, Mamba2, MambaState, optimizer_groups

ALL = CAUSAL | BOTH_WAYS
LENGTHS = [3, 0, 1, 6]
causal = pytest.mark.parametrize("name", CAUSAL)
every = pytest.mark.parametrize("name", ALL)
# The mixers pass their tensors to operations that are tested with many sizes; these call the operations differently.
INTERPRETED = ["mamba", "mamba without", "mamba2 in groups"]
causal_on_all_paths = on_all_paths(["name"], CAUSAL, INTERPRETED)
every_on_all_paths = on_all_paths(["name"], ALL, [*INTERPRETED, "bimamba untied"])

MAMBA_LAYOUT = {
    "A_log": (16, 3), "D": (16,), "in_proj.weight": (32, 8), "conv1d.weight": (16, 1, 4), "conv1d.bias": (16,),
    "x_proj.weight": (7, 16), "dt_proj.weight": (16, 1), "dt_proj.bias": (16,), "out_proj.weight": (8, 16),
}  # fmt: skip
MAMBA2_LAYOUT = {
    "dt_bias": (4,), "A_log": (4,), "D": (4,), "in_proj.weight": (42, 8), "conv1d.weight": (22, 1, 4),
    "conv1d.bias": (22,), "norm.weight": (16,), "out_proj.weight": (8, 16),
}  # fmt: skip


@pytest.mark.parametrize(("name", "layout"), [("mamba", MAMBA_LAYOUT), ("mamba2", MAMBA2_LAYOUT)])
def test_weights_of_mamba_ssm_can_be_loaded_and_saved(name, layout):
    torch.manual_seed(0)
    weights = {key: torch.randn(shape, dtype=torch.float64) for key, shape in layout.items()}
    mixer = CAUSAL[name]().double()
    mixer.load_state_dict(weights, strict=True)
    saved = mixer.state_dict()
    assert saved.keys() == weights.keys()
    assert all(torch.equal(saved[key], value) for key, value in weights.items())
    x = rows(5)
    y = mamba_by_formulas(weights, x) if name == "mamba" else mamba2_by_formulas(weights, x, 4, 3)
    assert distance(mixer(x[None])[0], y @ weights["out_proj.weight"].T) < 1e-12


@causal_on_all_paths
def test_mixers_match_their_formulas(path, device, name):
    mixer = made(CAUSAL[name])
    weights, x = mixer.state_dict(), rows(sum(LENGTHS))
    offset = offset_of(LENGTHS, device)
    found = mixer.to(device)(x.to(device), offset)
    for a, b in pieces(offset):
        if isinstance(mixer, Mamba):
            y = mamba_by_formulas(weights, x[a:b])
        else:
            y = mamba2_by_formulas(weights, x[a:b], mixer.headdim, mixer.d_state)
        y = y @ weights["out_proj.weight"].T + weights.get("out_proj.bias", 0)
        assert distance(found[a:b], y) < 1e-12


@pytest.mark.parametrize(
    "options", [{"norm_before_gate": True}, {"dt_limit": (0.02, 0.05)}, {"rmsnorm_eps": 0.5}], ids=lambda x: str(*x)
)
def test_the_options_of_mamba2(path, device, options):
    mixer = made(lambda: Mamba2(D_MODEL, d_state=2, headdim=4, ngroups=2, **options), device)
    weights, x = {key: v.cpu() for key, v in mixer.state_dict().items()}, rows(7)
    options = {name.removeprefix("rmsnorm_"): value for name, value in options.items()}
    y = mamba2_by_formulas(weights, x, 4, 2, **options) @ weights["out_proj.weight"].T
    assert distance(mixer(x.to(device), offset_of([7], device)), y) < 1e-12
    state = mixer.init_state(1)
    for t in range(7):
        assert distance(mixer.step(x[t : t + 1].to(device), state), y[t : t + 1]) < 1e-12


@pytest.mark.parametrize("mixer", [Mamba, BiMamba, partial(Mamba2, headdim=4), partial(CausalAttention, num_heads=2)])
def test_parameters_have_the_requested_device_and_dtype(mixer):
    on_meta = mixer(8, device="meta", dtype=torch.bfloat16)
    assert {p.device.type for p in on_meta.parameters()} == {"meta"}
    single = {name.rpartition(".")[2] for name, p in on_meta.named_parameters() if p.dtype == torch.float32}
    assert single <= {"A_log", "A_b_log", "D", "D_b", "dt_bias"}
    assert {p.dtype for p in on_meta.parameters()} <= {torch.bfloat16, torch.float32}
    assert {p.dtype for p in mixer(8, dtype=torch.float64).parameters()} == {torch.float64}
    torch.manual_seed(0)
    expected = mixer(8).state_dict()
    on_meta.to_empty(device="cpu").load_state_dict(expected)
    torch.manual_seed(0)
    halved = mixer(8, device="cpu", dtype=torch.bfloat16)
    assert len(optimizer_groups(on_meta, 0.1)[1]["params"]) == len(optimizer_groups(halved, 0.1)[1]["params"])
    x = torch.randn(5, 8, dtype=torch.bfloat16)
    assert halved(x, offset_of([2, 3])).dtype == torch.bfloat16


def test_states_of_another_dtype():
    for mixer in (Mamba(8), Mamba2(8, headdim=4)):
        assert {v.dtype for v in mixer.init_state(2, dtype=torch.bfloat16)} == {torch.bfloat16}


@every_on_all_paths
def test_packed_sequences_equal_single_sequences(path, device, name):
    mixer, x, offset = made(ALL[name], device), rows(sum(LENGTHS), device), offset_of(LENGTHS, device)
    y = mixer(x, offset)
    for a, b in pieces(offset):
        assert distance(y[a:b], mixer(x[None, a:b])[0]) < 1e-13
    torch.testing.assert_close(
        mixer(x[:9].unflatten(0, (3, 3))).flatten(0, 1), mixer(x[:9], offset_of([3, 3, 3], device))
    )


@causal
def test_reverse_starts_at_the_end_of_each_sequence(name):
    mixer, x, offset = made(CAUSAL[name]), rows(sum(LENGTHS)), offset_of(LENGTHS)
    turned, of_turned = mixer(flipped(x, offset), offset, return_state=True)
    y, state = mixer(x, offset, reverse=True, return_state=True)
    assert distance(y, flipped(turned, offset)) < 1e-13
    for mine, other in zip(state, of_turned, strict=True):
        assert distance(mine, other) < 1e-13


def name_in_backward_half(key, tied):
    name, _, rest = key.partition(".")
    if name == "A_log":
        return "A_b_log"
    if tied and name in ("in_proj", "out_proj"):
        return key
    return f"{name}_b.{rest}" if rest else f"{name}_b"


@pytest.mark.parametrize("name", BOTH_WAYS)
def test_a_bidirectional_mixer_equals_two_mixers(name):
    mixer, x, offset = made(BOTH_WAYS[name]), rows(sum(LENGTHS)), offset_of(LENGTHS)
    weights = mixer.state_dict()
    ahead, back = (Mamba(D_MODEL, d_state=3, bias=not mixer.tied).double() for _ in range(2))
    ahead.load_state_dict({key: weights.pop(key) for key in ahead.state_dict()})
    weights |= mixer.state_dict() if mixer.tied else {}
    back.load_state_dict({key: weights[name_in_backward_half(key, mixer.tied)] for key in back.state_dict()})
    assert distance(mixer(x, offset), ahead(x, offset) + back(x, offset, reverse=True)) < 1e-13
    assert not mixer.load_state_dict(ahead.state_dict(), strict=False).unexpected_keys


@causal_on_all_paths
def test_repeated_steps_equal_the_forward_pass(path, device, name):
    mixer, x = made(CAUSAL[name], device), rows(15, device).unflatten(0, (3, 5))
    y, after = mixer(x, return_state=True)
    state, order = mixer.init_state(4), torch.tensor([2, 0, 3], device=device)
    for t in range(5):
        assert distance(mixer.step(x[:, t], state, order), y[:, t]) < 1e-12
    for mine, other in zip(state, after, strict=True):
        assert mine.dtype == torch.float64
        assert distance(mine[order], other) < 1e-12
        assert not mine[1].any()


@pytest.mark.parametrize("limits", [{}, {"dt_limit": (0.01, 0.1)}])
def test_steps_with_a_buffer_equal_the_forward_pass(path, device, limits):
    """They continue a prompt, and other sequences enter a slot between them."""
    mixer = made(lambda: Mamba2(D_MODEL, d_state=3, headdim=4, ngroups=2, **limits), device)
    x = rows(14, device).unflatten(0, (2, 7))
    whole = mixer(x)
    _, state = mixer(x[:, :2], return_state=True)
    state, order = mixer.with_buffer(state, 3), torch.tensor([0, 1], device=device)
    for t in range(2, 6):
        assert distance(mixer.step(x[:, t], state, order), whole[:, t]) < 1e-12
    assert state.buffer.lengths.tolist() == [1, 1]
    order[1] = -1
    state.conv[1], state.ssm[1], state.buffer.lengths[1] = 0, 0, 0
    assert distance(mixer.step(x[:, 6], state, order)[0], whole[0, 6]) < 1e-12
    assert state.buffer.lengths.tolist() == [2, 0]
    for t in range(2):  # the second sequence starts again
        assert distance(mixer.step(x[1:, t], state, torch.tensor([1], device=device))[0], whole[1, t]) < 1e-12


def test_a_buffer_has_the_dtype_of_autocast():
    mixer = Mamba2(8, d_state=3, headdim=4)
    with torch.autocast("cpu", torch.bfloat16):
        state = mixer.with_buffer(mixer.init_state(2), 3)
        assert mixer.step(torch.randn(2, 8), state).dtype == torch.bfloat16
    assert {v.dtype for v in (state.buffer.x, state.buffer.dt, state.buffer.B)} == {torch.bfloat16}
    with pytest.raises(ValueError, match="state: it has a buffer of inputs, but forward needs the state"):
        mixer(torch.randn(2, 1, 8), state=state)
    with pytest.raises(ValueError, match="state: it already has a buffer of inputs"):
        mixer.with_buffer(state, 3)


@causal_on_all_paths
def test_steps_continue_a_prompt(path, device, name):
    mixer, x, offset = made(CAUSAL[name], device), rows(9, device), offset_of([4, 0, 5], device)
    whole = mixer(x, offset)
    prompt = torch.cat([x[:2], x[4:8]])
    y, state = mixer(prompt, offset_of([2, 0, 4], device), return_state=True)
    assert distance(y, torch.cat([whole[:2], whole[4:8]])) < 1e-12
    assert distance(mixer.step(x[[2, 8]], state, torch.tensor([0, 2], device=device)), whole[[2, 8]]) < 1e-12
    before = [v[[1, 2]].clone() for v in state]
    y = mixer.step(x[[8, 3]], state, torch.tensor([-1, 0], device=device))
    assert distance(y[1], whole[3]) < 1e-12
    assert all(torch.equal(v[[1, 2]], old) for v, old in zip(state, before, strict=True))


@causal
@pytest.mark.parametrize("reverse", [False, True])
def test_gradients_flow_through_the_state(name, reverse):
    mixer, x = made(CAUSAL[name]), rows(8).requires_grad_()
    parameters = [x, *mixer.parameters()]
    y, final = mixer(x, offset_of([5, 3]), reverse=reverse, return_state=True)
    whole = torch.autograd.grad(y.sin().sum() + final.ssm.sin().sum(), parameters)
    first, second = ([3, 4, 7], [0, 1, 2, 5, 6]) if reverse else ([0, 1, 5], [2, 3, 4, 6, 7])
    y_first, between = mixer(x[first], offset_of([2, 1]), reverse=reverse, return_state=True)
    kept = [v.clone() for v in between]
    y_second, final = mixer(x[second], offset_of([3, 2]), between, reverse=reverse, return_state=True)
    assert all(torch.equal(v, old) for v, old in zip(between, kept, strict=True))
    loss = y_first.sin().sum() + y_second.sin().sum() + final.ssm.sin().sum()
    for mine, other in zip(torch.autograd.grad(loss, parameters), whole, strict=True):
        assert distance(mine, other) < 1e-12


@every_on_all_paths
def test_gradients_reach_every_parameter(path, device, name):
    mixer = made(ALL[name], device)
    mixer(rows(5, device), offset_of([5], device)).square().sum().backward()
    for key, parameter in mixer.named_parameters():
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.any(), key


@every
def test_empty_inputs(name):
    mixer = made(ALL[name])
    assert mixer(rows(0), offset_of([0, 0])).shape == (0, D_MODEL)
    assert mixer(rows(0), offset_of([])).shape == (0, D_MODEL)
    assert mixer(rows(0).reshape(2, 0, D_MODEL)).shape == (2, 0, D_MODEL)
    mixer(rows(0), offset_of([0, 0])).sum().backward()
    assert not any(parameter.grad.any() for parameter in mixer.parameters())


@pytest.mark.parametrize("name", ["mamba", "mamba2 in groups", "bimamba"])
def test_compiled_programs(name):
    mixer, x, offset = made(ALL[name]), rows(sum(LENGTHS)), offset_of(LENGTHS)
    compiled = torch.compile(mixer, backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        assert distance(compiled(x, offset), mixer(x, offset)) < 1e-14


@pytest.mark.parametrize("name", ["mamba", "mamba2 in groups"])
def test_compiled_steps(name):
    mixer, x = made(CAUSAL[name]), rows(2)
    compiled, eager, order = mixer.init_state(3), mixer.init_state(3), torch.tensor([2, -1])
    step = torch.compile(mixer.step, backend="aot_eager", fullgraph=True)
    for _ in range(2):
        assert distance(step(x, compiled, order)[0], mixer.step(x, eager, order)[0]) < 1e-14
    # Compiled programs use PyTorch's product of matrices, single steps without a compiler a loop with other roundings.
    assert all(distance(mine, other) < 1e-14 for mine, other in zip(compiled, eager, strict=True))


@every
@pytest.mark.parametrize("path", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)], indirect=True)
def test_autocast_does_not_affect_parameters_and_states(path, device, name):
    mixer = made(ALL[name], device, torch.float32)
    x, offset = rows(sum(LENGTHS), device, torch.float32), offset_of(LENGTHS, device)
    seen = []
    mixer.out_proj.register_forward_pre_hook(lambda _, given: seen.append(given[0].dtype))
    with torch.autocast(device, torch.bfloat16):
        y = mixer(x, offset)
        if name in CAUSAL:
            _, state = mixer(x, offset, return_state=True)
            stepped = mixer.step(x[:1], state)
            assert {v.dtype for v in state} == {torch.float32}
            assert stepped.dtype == torch.bfloat16
    y.float().square().sum().backward()
    assert y.dtype == torch.bfloat16
    assert set(seen) == {torch.bfloat16}
    assert {p.dtype for p in mixer.parameters()} | {p.grad.dtype for p in mixer.parameters()} == {torch.float32}
    assert distance(y, mixer(x, offset)) < 0.05


@every
def test_half_precision_throughout(name):
    mixer = made(ALL[name], dtype=torch.bfloat16)
    x, offset = rows(sum(LENGTHS), dtype=torch.bfloat16), offset_of(LENGTHS)
    y = mixer(x, offset)
    assert y.dtype == torch.bfloat16
    assert distance(y, mixer.double()(x.double(), offset)) < 0.05


def test_initialisation_follows_the_papers():
    torch.manual_seed(0)
    mixer = Mamba(64, d_state=5, dt_rank=16)
    assert torch.equal(mixer.A_log, torch.log(torch.arange(1.0, 6.0)).repeat(128, 1))
    assert torch.equal(mixer.D, torch.ones(128))
    assert 0.24 < mixer.dt_proj.weight.abs().max() <= 0.25
    _check_steps(torch.nn.functional.softplus(mixer.dt_proj.bias))
    mixer = Mamba2(512, headdim=1, d_state=2)
    rates = mixer.A_log.exp()
    assert 0.999 < rates.min() < 1.1
    assert 15.9 < rates.max() < 16.001
    assert abs(rates.mean() - 8.5) < 5 * 15 / math.sqrt(12 * 1024)
    assert torch.equal(mixer.D, torch.ones(1024))
    _check_steps(torch.nn.functional.softplus(mixer.dt_bias))
    floored = Mamba(8, dt_min=1e-9, dt_max=1e-8, dt_init_floor=1e-3)
    torch.testing.assert_close(torch.nn.functional.softplus(floored.dt_proj.bias), torch.full((16,), 1e-3))


def _check_steps(steps):
    logs = torch.log(steps)
    low, high = math.log(1e-3), math.log(0.1)
    assert low - 1e-4 < logs.min()
    assert logs.max() < high + 1e-4
    assert abs(logs.mean() - (low + high) / 2) < 5 * (high - low) / math.sqrt(12 * len(logs))


@every
def test_copies_equal_the_module(name):
    mixer, x, offset = made(ALL[name]), rows(sum(LENGTHS)), offset_of(LENGTHS)
    file = io.BytesIO()
    torch.save(mixer, file)
    file.seek(0)
    for other in (copy.deepcopy(mixer), pickle.loads(pickle.dumps(mixer)), torch.load(file, weights_only=False)):
        assert torch.equal(other(x, offset), mixer(x, offset))
        decayed, _ = optimizer_groups(other, 0.1)
        assert len(decayed["params"]) == len(optimizer_groups(mixer, 0.1)[0]["params"])


@pytest.mark.parametrize(
    ("name", "decayed"),
    [
        (
            "mamba with biases",
            {"in_proj.weight", "conv1d.weight", "x_proj.weight", "dt_proj.weight", "out_proj.weight"},
        ),
        ("mamba2 in groups", {"in_proj.weight", "conv1d.weight", "out_proj.weight"}),
    ],
)
def test_weight_decay_applies_to_matrices_only(name, decayed):
    mixer = CAUSAL[name]()
    mixer.out_proj.bias.requires_grad_(False)
    names = {parameter: key for key, parameter in mixer.named_parameters()}
    groups = optimizer_groups(mixer, 0.1)
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]
    assert {names[p] for p in groups[0]["params"]} == decayed
    assert {names[p] for p in groups[1]["params"]} == set(names.values()) - decayed - {"out_proj.bias"}
    torch.optim.AdamW(groups)


def test_repr_shows_the_options():
    assert "Mamba(\n  d_model=8, d_state=3, expand=2, dt_rank=1, ngroups=1\n" in repr(CAUSAL["mamba"]())
    assert "d_model=8, d_state=2, expand=2, headdim=2, ngroups=4" in repr(CAUSAL["mamba2 in groups"]())
    assert "tied=False" in repr(BOTH_WAYS["bimamba untied"]())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Mamba(0), "d_model: 0 was given"),
        (lambda: Mamba(8, d_state=2.5), "d_state: 2.5 was given, but it must be a whole number"),
        (lambda: Mamba(8, d_state=257), "d_state: 257 was given, but it must be at most 256"),
        (lambda: BiMamba(8, d_state=257), "d_state: 257"),
        (lambda: Mamba2(8, headdim=4, d_state=257), "d_state: 257"),
        (lambda: Mamba(8, dt_rank=0), "dt_rank: 0"),
        (lambda: Mamba(8, expand=math.inf), "expand: inf was given for d_model 8"),
        (lambda: Mamba(8, expand=math.nan), "expand: nan was given for d_model 8"),
        (lambda: Mamba(5, expand=1.5), "expand: 1.5 was given for d_model 5"),
        (lambda: Mamba(8, dt_min=0.2), "dt_max not below dt_min"),
        (lambda: BiMamba(8, d_conv=0), "d_conv: 0"),
        (lambda: Mamba2(8, headdim=5), "headdim: 5 was given, but it must divide expand . d_model, 16"),
        (lambda: Mamba2(8, headdim=4, ngroups=3), "ngroups: 3 was given, but it must divide the number of heads, 4"),
        (lambda: Mamba2(8, headdim=4, A_init_range=(0, 1)), "A_init_range"),
        (lambda: Mamba(8)(rows(4)), "without an offset"),
        (lambda: Mamba(8)(torch.zeros(4, 7), offset_of([4])), "rows of 7 features were given, but this"),
        (lambda: Mamba(8)(rows(4), offset_of([4])), "torch.float64 was given, but the parameters are torch.float32"),
        (lambda: Mamba(8)(rows(4, dtype=torch.int64), offset_of([4])), "it must hold floating-point numbers"),
        (lambda: Mamba(8).to("meta")(rows(4, dtype=torch.float32), offset_of([4])), "the parameters are on meta"),
        (lambda: Mamba(8)(rows(4, dtype=torch.float32), offset_of([3])), "offset: 0 to 3 was given for 4 rows"),
        (lambda: Mamba(8).double()(rows(1), offset_of([1]), Mamba(8).init_state(2)), "initial_states: shape"),
        (lambda: Mamba(8).step(rows(1)[None], Mamba(8).init_state(1)), "was given to a step"),
        (lambda: Mamba2(8, headdim=4).step(torch.zeros(1, 3), Mamba(8).init_state(1)), "rows of 3 features"),
        (lambda: Mamba2(8, d_ssm=8), "Mamba2: got .* 'd_ssm'; besides d_model it accepts d_state"),
        (lambda: Mamba2(8, D_has_hdim=True), "'D_has_hdim'"),
        (lambda: Mamba2(8, headdim=4, activation="swish"), "activation: 'swish' was given"),
        (lambda: Mamba2(8, chunk_size=64), "Leave out chunk_size, which cannot change the results"),
        (lambda: Mamba2(8, headdim=4, dt_limit=(1.0, 0.5)), "dt_limit"),
        (lambda: Mamba(8, layer_idx=1, use_fast_path=True), "Leave out layer_idx, use_fast_path"),
        (lambda: BiMamba(8, ngroups=2), "BiMamba: got an unexpected keyword argument 'ngroups'"),
        (lambda: CausalAttention(8, 2, num_heads_kv=1), "'num_heads_kv'; .* accepts num_heads, bias"),
        (lambda: Mamba("8"), "d_model: '8' was given, but it must be a whole number"),
        (lambda: BiMamba("8"), "d_model: '8' was given, but it must be a whole number"),
        (lambda: Mamba2(8, headdim=4).init_state(-1), "batch: -1 was given"),
        (lambda: BiMamba(8).step(rows(1), None), "no single steps"),
        (lambda: BiMamba(8).init_state(1), "has no state"),
        (lambda: BiMamba(8)(rows(4), offset_of([4]), return_state=True), "has no state"),
        (lambda: optimizer_groups(Mamba(8), -1.0), "weight_decay: -1.0"),
    ],
)  # fmt: skip
def test_invalid_input_raises_a_clear_error(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_autocast_and_double_precision_do_not_mix():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert Mamba(8).double()(rows(4), offset_of([4])).dtype == torch.float64
        with pytest.raises(ValueError, match=r"torch.float64 was given, but the parameters are torch.float32"):
            Mamba(8)(rows(4), offset_of([4]))


def test_states_are_named_tuples():
    state = Mamba(8).init_state(3)
    assert isinstance(state, MambaState)
    assert (state.conv.shape, state.ssm.shape) == ((3, 16, 3), (3, 16, 16))


def test_a_channel_may_have_up_to_256_states():
    assert Mamba(2, d_state=256)(torch.zeros(3, 2), offset_of([3])).shape == (3, 2)


def test_a_copy_keeps_its_exclusions_from_weight_decay():
    for mixer in (Mamba(4), Mamba2(4, headdim=4), BiMamba(4)):
        marked = [name for name, p in copy.deepcopy(mixer).named_parameters() if getattr(p, "_no_weight_decay", False)]
        assert sorted(marked) == sorted(mixer.no_weight_decay)
