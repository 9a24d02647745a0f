import math

import pytest
import torch
from device_sync import no_device_sync
from mixers import D_MODEL, made, pieces, rotated_by_formulas, rows
from sequences import distance, offset_of

from supa_mamba import HybridStack, MambaStack, SparseAttention, hash_buckets

LENGTHS = [3, 0, 1, 9]
paths = pytest.mark.parametrize("path", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)], indirect=True)


def attention(device="cpu", **options):
    return made(lambda: SparseAttention(D_MODEL, 2, 4, bias=True, seed=3, **options), device)


def naive(mixer, x):
    """Attention of one sequence (L, d_model), head by head and row by row."""
    projected = mixer.in_proj(x).unflatten(-1, (-1, 2, D_MODEL // 2))
    q, v = projected[:, 0], projected[:, -1]
    k = q / q.norm(dim=-1, keepdim=True) if mixer.shared_qk else projected[:, 1]
    of_queries, of_keys = hash_buckets(q, 4, seed=3), hash_buckets(k, 4, seed=3)
    y = torch.zeros_like(q)
    for head in range(2):
        turned_q, turned_k = (
            torch.stack([rotated_by_formulas(row, t, mixer.rotary_emb_dim) for t, row in enumerate(part[:, head])])
            for part in (q, k)
        )
        for t in range(len(x)):
            seen = [s for s in range(t + 1) if of_keys[s, head] == of_queries[t, head]]
            if seen:
                scores = torch.exp(turned_k[seen] @ turned_q[t] / math.sqrt(D_MODEL // 2))
                y[t, head] = (scores / scores.sum()) @ v[seen, head]
    return mixer.out_proj(y.flatten(1))


@paths
@pytest.mark.parametrize("options", [{}, {"rotary_emb_dim": 2}, {"shared_qk": False}])
def test_rows_attend_within_their_buckets(path, device, options):
    mixer, x, offset = attention(device, **options), rows(sum(LENGTHS), device), offset_of(LENGTHS, device)
    x.requires_grad_()
    y = mixer(x, offset)
    expected = torch.cat([naive(mixer, x[a:b]) for a, b in pieces(offset) if a < b])
    assert distance(y, expected) < 1e-13
    parameters = [x, *mixer.parameters()]
    for mine, other in zip(
        torch.autograd.grad(y.sin().sum(), parameters),
        torch.autograd.grad(expected.sin().sum(), parameters),
        strict=True,
    ):
        assert distance(mine, other) < 1e-12


def test_stacks_save_and_load_the_buckets():
    stack = HybridStack(D_MODEL, 3, [1], 2, sparse_buckets=4, d_state=3)
    assert [type(block.mixer).__name__ for block in stack.blocks()] == ["Mamba", "SparseAttention", "Mamba"]
    x, offset = rows(sum(LENGTHS), dtype=torch.float32), offset_of(LENGTHS)
    # Another seed has other buckets until the state is loaded.
    other = HybridStack(D_MODEL, 3, [1], 2, sparse_buckets=4, d_state=3)
    other.layers[1].mixer = SparseAttention(D_MODEL, 2, 4, seed=9)
    assert not torch.equal(other.layers[1].mixer.rotations, stack.layers[1].mixer.rotations)
    other.load_state_dict(stack.state_dict())
    assert torch.equal(other(x, offset), stack(x, offset))
    padded = x[3:12].reshape(1, 9, D_MODEL)
    assert distance(stack(padded)[0], stack(x[3:12], offset_of([9]))) < 1e-6
    compiled = torch.compile(stack, backend="aot_eager", fullgraph=True)
    assert distance(compiled(x, offset), stack(x, offset)) < 1e-6


def test_autocast_and_half_precision():
    stack, offset = MambaStack(D_MODEL, 1, SparseAttention, num_heads=2, buckets=2), offset_of(LENGTHS)
    x = rows(sum(LENGTHS), dtype=torch.float32)
    truth = stack(x, offset)
    with torch.autocast("cpu", torch.bfloat16):
        y = stack(x, offset)
    assert distance(y, truth) < 0.1
    mixer = SparseAttention(D_MODEL, 2, dtype=torch.bfloat16)
    assert mixer(x.bfloat16(), offset).dtype == torch.bfloat16


@pytest.mark.parametrize("path", [pytest.param("cuda", marks=pytest.mark.gpu)], indirect=True)
def test_no_synchronisation_with_the_device(path, device):
    stack = HybridStack(D_MODEL, 2, [0, 1], 2, sparse_buckets=4, rotary_emb_dim=2, device=device)
    x, offset = rows(sum(LENGTHS), device, torch.float32), offset_of(LENGTHS, device)
    stack(x, offset).sum().backward()
    with no_device_sync():
        stack(x, offset).sum().backward()


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda: SparseAttention(8, 3), "num_heads: 3 was given, but it must divide d_model, 8"),
        (lambda: SparseAttention(512, 2), "heads of at most 128 features"),
        (lambda: SparseAttention(8, 2, 3), "buckets: 3 was given, but it must be an even number"),
        (lambda: SparseAttention(8, 2, rotary_emb_dim=6), "rotary_emb_dim: 6 was given"),
        (lambda: HybridStack(8, 1, [0], 2, sparse_buckets=-2), "sparse_buckets: -2 was given"),
        (lambda: HybridStack(8, 1, [0], 2, sparse_buckets=4).init_state(2, 5), "no state and no single steps"),
        (lambda: SparseAttention(8, 2).step(rows(1), None), "no state and no single steps"),
        (lambda: SparseAttention(8, 2)(rows(1), offset_of([1]), return_state=True), "use CausalAttention to generate"),
        (lambda: SparseAttention(8, 2)(rows(1), offset_of([1])), "the parameters are torch.float32"),
    ],
)
def test_invalid_input_raises_a_clear_error(run, message):
    with pytest.raises(ValueError, match=message):
        run()
