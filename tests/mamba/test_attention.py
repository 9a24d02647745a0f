import math

import pytest
import torch
from device_sync import no_device_sync
from mixers import D_MODEL, made, pieces, rotated_by_formulas, rows
from sequences import distance, offset_of

from supa_mamba import CausalAttention

LENGTHS = [3, 0, 1, 6]
paths = pytest.mark.parametrize("path", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)], indirect=True)


def attention(heads=2, device="cpu", dtype=torch.float64, d_model=D_MODEL, rotary=0):
    return made(lambda: CausalAttention(d_model, heads, bias=True, rotary_emb_dim=rotary), device, dtype)


def naive(mixer, x):
    """Attention of one sequence (L, d_model), head by head and row by row."""
    projected = mixer.in_proj(x)
    width = x.shape[1] // mixer.num_heads
    y = torch.zeros_like(x)
    for head in range(mixer.num_heads):
        q, k, v = (projected[:, part * x.shape[1] + head * width :][:, :width] for part in range(3))
        q, k = (
            torch.stack([rotated_by_formulas(row, t, mixer.rotary_emb_dim) for t, row in enumerate(part)])
            for part in (q, k)
        )
        for t in range(len(x)):
            scores = torch.exp(k[: t + 1] @ q[t] / math.sqrt(width))
            y[t, head * width : (head + 1) * width] = (scores / scores.sum()) @ v[: t + 1]
    return mixer.out_proj(y)


@paths
@pytest.mark.parametrize(("heads", "rotary"), [(1, 0), (2, 0), (8, 0), (1, 6), (2, 4)])
def test_rows_attend_to_earlier_rows_of_their_own_sequence(path, device, heads, rotary):
    mixer, x, offset = attention(heads, device, rotary=rotary), rows(sum(LENGTHS), device), offset_of(LENGTHS, device)
    x.requires_grad_()
    y = mixer(x, offset)
    expected = torch.cat([naive(mixer, x[a:b]) for a, b in pieces(offset) if a < b])
    assert distance(y, expected) < 1e-13
    assert distance(mixer(x, offset, max_length=9), expected) < 1e-13
    parameters = [x, *mixer.parameters()]
    for mine, other in zip(
        torch.autograd.grad(y.sin().sum(), parameters),
        torch.autograd.grad(expected.sin().sum(), parameters),
        strict=True,
    ):
        assert distance(mine, other) < 1e-12


@pytest.mark.parametrize("path", [pytest.param("cuda", marks=pytest.mark.gpu)], indirect=True)
@pytest.mark.parametrize("heads", [1, 4])
def test_half_precision_on_a_gpu(path, device, heads):
    lengths = [30, 0, 1, 200]
    mixer = attention(heads, device, torch.float32, 64)
    x = torch.randn(sum(lengths), 64, device=device, requires_grad=True)
    offset, parameters = offset_of(lengths, device), [x, *mixer.parameters()]
    truth = mixer(x, offset)
    expected = torch.autograd.grad(truth.sin().sum(), parameters)
    with torch.autocast(device, torch.bfloat16):
        y = mixer(x, offset)
        bounded = mixer(x, offset, max_length=300)
    assert distance(y, truth) < 0.02
    assert distance(bounded, truth) < 0.02
    for mine, other in zip(torch.autograd.grad(y.sin().sum(), parameters), expected, strict=True):
        assert distance(mine, other) < 0.05


@paths
def test_steps_continue_prompts(path, device):
    mixer, x, lengths = attention(device=device), rows(9, device), [4, 0, 5]
    whole = mixer(x, offset_of(lengths, device))
    prompt, begin = torch.cat([x[:2], x[4:8]]), mixer.init_state(3, 5)
    y, state = mixer(prompt, offset_of([2, 0, 4], device), begin, return_state=True)
    assert distance(y, torch.cat([whole[:2], whole[4:8]])) < 1e-13
    assert state.lengths.tolist() == [2, 0, 4]
    assert not begin.keys.any()
    stepped = mixer.step(x[[8, 2]], state, torch.tensor([2, 0], device=device))
    assert distance(stepped, whole[[8, 2]]) < 1e-13
    kept = state.keys[:, :5].clone()
    stepped = mixer.step(x[[8, 3, 8]], state, torch.tensor([-1, 0, -3], device=device))
    assert distance(stepped[1], whole[3]) < 1e-13
    assert state.lengths.tolist() == [4, 0, 5]
    kept[0, 3] = state.keys[0, 3]
    assert torch.equal(state.keys[:, :5], kept)


def test_a_full_state_raises_an_error():
    mixer, x = attention(), rows(3)
    state = mixer.init_state(2, 2)
    for _ in range(2):
        mixer.step(x[:1], state)
    mixer.step(x[:2], state, torch.tensor([-1, 1]))
    with pytest.raises(ValueError, match="it can store 2 rows per sequence, but 3 are required"):
        mixer.step(x[:1], state)
    assert state.lengths.tolist() == [2, 1]
    with pytest.raises(ValueError, match="it can store 2 rows per sequence, but 3 are required"):
        mixer(x, offset_of([3, 0]), mixer.init_state(2, 2))


@pytest.mark.parametrize("threads", [1, 2])
def test_the_bits_of_a_step_do_not_depend_on_other_rows(threads):
    torch.manual_seed(0)
    mixer, x = CausalAttention(96, 3, rotary_emb_dim=16), torch.randn(6, 200, 96)
    whole, few, some = mixer.init_state(200, 20), mixer.init_state(200, 20), torch.randperm(200)[:67]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for now in x:
            assert torch.equal(mixer.step(now[some], few, some), mixer.step(now, whole)[some])
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda mixer: mixer(rows(4), offset_of([1, 3]), max_length=2), "max_length: 2 was given, but a sequence"),
        (lambda mixer: mixer(rows(4), offset_of([3])), "offset: 0 to 3 was given for 4 rows"),
        (lambda mixer: mixer(rows(4), offset_of([4]), return_state=True), "a fixed number of rows"),
        (lambda mixer: mixer(rows(4), offset_of([4]), mixer.init_state(2, 4)), "it has 2 slots, but x has 1 sequence"),
        (lambda mixer: mixer.init_state(2, 0), "max_length: 0"),
        (lambda mixer: mixer.step(rows(2), mixer.init_state(1, 4)), "pass the slot of each sequence in slots"),
        (lambda mixer: mixer.step(rows(1), mixer.init_state(1, 4), torch.tensor([1])), "slots: 1 was given, but"),
        (lambda mixer: mixer.step(rows(1), mixer.init_state(1, 4), torch.tensor([0.0])), "integers on cpu"),
        (lambda mixer: mixer.float()(rows(1), offset_of([1])), "the parameters are torch.float32"),
    ],
)  # fmt: skip
def test_invalid_input_raises_a_clear_error(run, message):
    with pytest.raises(ValueError, match=message):
        run(attention())


@pytest.mark.parametrize("path", [pytest.param("cuda", marks=pytest.mark.gpu)], indirect=True)
def test_no_synchronisation_with_the_device_if_max_length_is_given(path, device):
    mixer = attention(1, device, torch.float32, 64)
    x, offset = torch.randn(40, 64, device=device), offset_of([30, 10], device)
    state, order = mixer.init_state(2, 50), torch.tensor([1, -1], device=device)

    def run():
        mixer(x, offset, max_length=30).sum().backward()
        mixer(x, offset, state, max_length=30)
        mixer.step(x[:2], state, order)
        with torch.autocast(device, torch.bfloat16):
            mixer(x, offset, max_length=30).sum().backward()

    run()
    with no_device_sync():
        run()


def test_compiled_steps_beyond_the_capacity_raise_an_error():
    mixer, state = CausalAttention(4, 2), CausalAttention(4, 2).init_state(1, max_length=2)
    step, x = torch.compile(mixer.step, backend="eager"), torch.randn(1, 4)
    for _ in range(2):
        step(x, state)
    # An error in a compiled no_grad function leaves gradients disabled; the context enables them again.
    with torch.enable_grad(), pytest.raises(IndexError):
        step(x, state)
    assert torch.is_grad_enabled()
    with pytest.raises(ValueError, match="it can store 2 rows per sequence, but 3 are required"):
        mixer.step(x, state)
