import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from device_sync import no_device_sync
from sequences import apart, assert_close, distance, offset_of

from supa_mamba import hash_buckets, sparse_attention
from supa_mamba.ops.sparse_attention import cpu
from supa_mamba.ops.sparse_attention.naive import naive_sparse_attention

not_interpreted = pytest.mark.parametrize(
    "path", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)], indirect=True
)  # fmt: skip
only_gpu = pytest.mark.parametrize("path", [pytest.param("cuda", marks=pytest.mark.gpu)], indirect=True)


def vectors(rows, heads, width, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(rows, heads, width, generator=generator, dtype=torch.float64).to(dtype) for _ in range(3)]


def buckets_of(kind, rows, heads):
    """Return buckets of queries and keys, as integers."""
    generator = torch.Generator().manual_seed(2)
    draw = lambda low, high: torch.randint(low, high, (rows, heads), generator=generator)  # noqa: E731
    if kind == "one":
        return (draw(0, 1),) * 2
    if kind == "all different":
        return (torch.arange(rows)[:, None].expand(rows, heads),) * 2
    if kind == "masks":
        return draw(-1, 1), draw(-1, 1)
    if kind == "nothing kept":
        return draw(-1, 0), draw(0, 1)
    return (draw(-1, 4),) * 2 if kind == "shared" else (draw(-1, 4), draw(-1, 4))


def found(given, buckets, lengths, device="cpu", dtype=torch.float64):
    """Return y and the gradients of a random loss."""
    given = [x.to(device, dtype).detach().clone().requires_grad_() for x in given]
    if buckets[0] is buckets[1]:
        y = sparse_attention(*given, buckets[0].to(device), offset=offset_of(lengths, device))
    else:
        y = sparse_attention(*given, *(x.to(device) for x in buckets), offset=offset_of(lengths, device))
    return with_gradients(y, given)


def expected(given, buckets, lengths):
    given = [x.double().detach().requires_grad_() for x in given]
    return with_gradients(naive_sparse_attention(*given, *buckets, offset_of(lengths)), given)


def with_gradients(y, given):
    generator = torch.Generator().manual_seed(1)
    loss = (y.double().cpu() * torch.randn(y.shape, generator=generator, dtype=torch.float64)).sum()
    grads = torch.autograd.grad(loss, given)
    return dict(zip(["y", *(f"gradient of {name}" for name in "qkv")], [y, *grads], strict=True))


@pytest.mark.parametrize(
    ("kind", "lengths"),
    [
        *((kind, [3, 0, 37, 1]) for kind in ("one", "all different", "masks", "shared", "separate")),
        ("separate", [63, 0, 64, 2, 65, 1]),
    ],
)
def test_mixed_lengths_in_double_precision(path, device, kind, lengths):
    heads, width = 2, 5
    given, buckets = vectors(sum(lengths), heads, width), buckets_of(kind, sum(lengths), heads)
    result = found(given, buckets, lengths, device)
    assert_close(result, expected(given, buckets, lengths), 1e-12, 1e-12)
    for name, of_side in zip(("y", "gradient of q", "gradient of k"), (*buckets[:1] * 2, buckets[1]), strict=True):
        assert not result[name].cpu()[of_side < 0].any(), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_buckets_that_span_several_tiles(path, device, dtype):
    """The tiles of a bucket that begins and ends inside others have blocks with and without masks."""
    lengths, heads, width, bound = [2, 290], 1, 16, 1e-2 if dtype == torch.bfloat16 else 1e-5
    given = vectors(sum(lengths), heads, width, dtype)
    buckets = buckets_of("shared", sum(lengths), heads)
    buckets = (torch.where(buckets[0] > 1, 2, buckets[0]),) * 2
    result = found(given, buckets, lengths, device, dtype)
    assert_close(result, expected(given, buckets, lengths), bound, 2 * bound)
    assert {x.dtype for x in result.values()} == {dtype}


@not_interpreted
@pytest.mark.parametrize("lengths", [[0], [1], [2], [63], [64], [65], [1000], [64, 0, 65, 1, 63, 2, 700, 128, 129]])
@pytest.mark.parametrize("kind", ["one", "shared", "separate", "masks", "nothing kept"])
def test_all_lengths_in_single_precision(path, device, kind, lengths):
    heads, width = 2, 33
    given, buckets = vectors(sum(lengths), heads, width, torch.float32), buckets_of(kind, sum(lengths), heads)
    assert_close(
        found(given, buckets, lengths, device, torch.float32), expected(given, buckets, lengths), 1e-5, 1e-4
    )  # fmt: skip


@only_gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("width", [16, 24, 32, 64, 100, 128])
@pytest.mark.parametrize("kind", ["one", "separate"])
def test_all_head_sizes_on_a_gpu(path, device, kind, width, dtype):
    lengths, heads = [130, 1, 500, 0, 64], 3
    bound = {torch.float64: 1e-12, torch.float32: 1e-5}.get(dtype, 1e-2)
    given, buckets = vectors(sum(lengths), heads, width, dtype), buckets_of(kind, sum(lengths), heads)
    assert_close(found(given, buckets, lengths, device, dtype), expected(given, buckets, lengths), bound, 4 * bound)


def test_masks_are_buckets(path, device):
    lengths, (of_queries, of_keys) = [9, 20], buckets_of("masks", 29, 2)
    given = [x.to(device) for x in vectors(29, 2, 4)]
    offset = offset_of(lengths, device)
    masks = [(x == 0).to(device) for x in (of_queries, of_keys)]
    y = sparse_attention(*given, *masks, offset=offset)
    assert torch.equal(y, sparse_attention(*given, of_queries.to(device), of_keys.to(device), offset=offset))
    alone = sparse_attention(*given, masks[0], offset=offset)
    assert torch.equal(alone, sparse_attention(*given, masks[0], masks[0].clone(), offset=offset))


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int16, torch.int32, torch.uint32, torch.int64])
@not_interpreted
def test_all_integer_dtypes(path, device, dtype):
    lengths, given = [30, 40], [x.to(device) for x in vectors(70, 2, 4)]
    most = min(torch.iinfo(dtype).max, 2**31 - 1)
    drawn = torch.tensor([0, 1, most - 1, most])[torch.randint(4, (70, 2))]
    y = sparse_attention(*given, drawn.to(dtype).to(device), offset=offset_of(lengths, device))
    truth = naive_sparse_attention(*(x.cpu() for x in given), drawn, drawn, offset_of(lengths))
    assert distance(y, truth) < 1e-13


def test_other_sequences_and_dropped_rows_change_nothing(path, device):
    """Numbers that are not finite would pass through products with zero."""
    lengths, heads, width = [20, 18, 21], 2, 4
    given, (of_queries, of_keys) = vectors(59, heads, width), buckets_of("separate", 59, heads)
    whole = found(given, (of_queries, of_keys), lengths, device)
    middle = slice(20, 38)
    for x in given:
        x[:20], x[38:] = torch.nan, torch.nan
    given[0][of_queries < 0] = torch.nan
    given[1][of_keys < 0], given[2][of_keys < 0] = torch.nan, torch.nan
    result = found(given, (of_queries, of_keys), lengths, device)
    for name, value in whole.items():
        assert torch.equal(result[name][middle], value[middle]), name


@not_interpreted
def test_one_bucket_equals_causal_attention(path, device):
    given = [x.to(device).requires_grad_() for x in vectors(200, 3, 16)]
    bucket = torch.zeros(200, 3, dtype=torch.int16, device=device)
    y = sparse_attention(*given, bucket, offset=offset_of([200], device))
    batch = (x.transpose(0, 1)[None] for x in given)
    dense = torch.nn.functional.scaled_dot_product_attention(*batch, is_causal=True)[0].transpose(0, 1)
    for mine, other in zip(with_gradients(y, given).values(), with_gradients(dense, given).values(), strict=True):
        assert distance(mine, other) < 1e-12


# Triton's interpreter runs one program after the other.
@not_interpreted
def test_gradients_are_bitwise_reproducible(path, device):
    given, buckets = vectors(700, 4, 32, torch.float32), buckets_of("separate", 700, 4)
    first, second = (found(given, buckets, [400, 300], device, torch.float32) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_rows_may_be_non_contiguous_and_padded(path, device):
    q, k, v = (x.to(device) for x in vectors(12, 2, 4))
    of_queries, of_keys = (x.to(device) for x in buckets_of("separate", 12, 2))
    y = sparse_attention(q, k, v, of_queries, of_keys, offset=offset_of([6, 6], device))
    packed = torch.stack([q, k, v], 1)
    apart_y = sparse_attention(
        packed[:, 0], apart(k), packed[:, 2], apart(of_queries), of_keys, offset=offset_of([6, 6], device)
    )  # fmt: skip
    assert torch.equal(apart_y, y)
    padded = (x.unflatten(0, (2, 6)) for x in (q, k, v, of_queries, of_keys))
    assert torch.equal(sparse_attention(*padded), y.unflatten(0, (2, 6)))


def test_second_and_forward_mode_derivatives_on_a_cpu(monkeypatch):
    monkeypatch.setattr(cpu, "QUERIES", 2)
    buckets = buckets_of("separate", 9, 2)

    def run(*given):
        return sparse_attention(*given, *buckets, offset=offset_of([4, 5]))

    given = [x.requires_grad_() for x in vectors(9, 2, 3)]
    assert torch.autograd.gradcheck(run, given, check_forward_ad=True, fast_mode=True)
    assert torch.autograd.gradgradcheck(run, given, fast_mode=True)


@not_interpreted
def test_per_sample_gradients(path, device):
    buckets, offset = [x.to(device) for x in buckets_of("separate", 9, 2)], offset_of([4, 5], device)
    given = [torch.stack([x, 2 * x]).to(device) for x in vectors(9, 2, 4)]

    def loss(*given):
        return sparse_attention(*given, *buckets, offset=offset).sin().sum()

    together = torch.vmap(torch.func.grad(loss))(*given)
    for mine, x in zip(together, zip(*given, strict=True), strict=True):
        alone = [part.clone().requires_grad_() for part in x]
        assert distance(mine, torch.autograd.grad(loss(*alone), alone)[0]) < 1e-13


def test_long_buckets_are_computed_in_parts_on_a_cpu(monkeypatch):
    monkeypatch.setattr(cpu, "_KEYS", 8)
    monkeypatch.setattr(cpu, "_PAIRS", 64)
    monkeypatch.setattr(cpu, "QUERIES", 4)
    given, buckets = vectors(70, 2, 3), buckets_of("separate", 70, 2)
    assert_close(found(given, buckets, [66, 4]), expected(given, buckets, [66, 4]), 1e-12, 1e-12)


def test_compiled_programs_contain_two_operators(path, device):
    if path == "interpreter":
        pytest.skip("the interpreter needs real memory, so it cannot run inside compiled programs")
    given = [x.to(device).requires_grad_() for x in vectors(30, 2, 4)]
    buckets, offset = [x.to(device) for x in buckets_of("separate", 30, 2)], offset_of([20, 10], device)

    def run(*given):
        return sparse_attention(*given, *buckets, offset=offset)

    compiled = torch.compile(run, backend="aot_eager", fullgraph=True)
    assert_close(with_gradients(compiled(*given), given), with_gradients(run(*given), given), 1e-13, 1e-12)


def test_the_operators_pass_opcheck(path, device):
    checks = ("test_schema", "test_faketensor")
    buckets, offset = [x.to(device) for x in buckets_of("separate", 30, 2)], offset_of([20, 10], device)
    order = torch.ops.supa_mamba.sparse_attention_order.default
    for of_keys in (None, buckets[1]):
        torch.library.opcheck(order, (buckets[0], of_keys, offset), test_utils=checks)
    given = [x.to(device, torch.float32).requires_grad_() for x in vectors(30, 2, 4)]
    torch.library.opcheck(
        torch.ops.supa_mamba.sparse_attention.default, (*given, *order(*buckets, offset), offset), test_utils=checks
    )


@only_gpu
def test_no_synchronisation_with_the_device(path, device):
    given = [x.to(device).requires_grad_() for x in vectors(300, 2, 16, torch.bfloat16)]
    buckets, offset = [x.to(device) for x in buckets_of("separate", 300, 2)], offset_of([200, 100], device)

    def run():
        hash_buckets(given[0], 4, seed=0)
        torch.autograd.grad(sparse_attention(*given, *buckets, offset=offset).sum(), given)

    run()
    with no_device_sync():
        run()


@only_gpu
def test_new_lengths_cause_no_compilation(path, device):
    from supa_mamba.ops.sparse_attention.kernels.backward import sparse_key_grads_kernel, sparse_query_grad_kernel
    from supa_mamba.ops.sparse_attention.kernels.forward import sparse_forward_kernel
    from supa_mamba.ops.sparse_attention.kernels.order import sparse_groups_kernel, sparse_ranges_kernel

    kernels = (
        sparse_groups_kernel, sparse_ranges_kernel, sparse_forward_kernel, sparse_query_grad_kernel,
        sparse_key_grads_kernel,
    )  # fmt: skip

    def run(lengths):
        found(vectors(sum(lengths), 2, 16), buckets_of("shared", sum(lengths), 2), lengths, device, torch.bfloat16)
        return [len(cache[0]) for kernel in kernels for cache in kernel.device_caches.values()]

    first = run([40, 3])
    assert run([1]) == run([16] * 16) == run([100, 0, 7]) == run([1000]) == first


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"offset": None}, r"q: shape \(5, 2, 4\) was given without an offset, but it must be padded, \(B, L, H, D\)"),
        ({"offset": torch.tensor([0, 4])}, "offset: 0 to 4 was given for 5 rows"),
        ({"q": torch.zeros(5, 2, 129)}, "D from 1 to 128"),
        ({"k": torch.zeros(5, 2, 3)}, r"k: shape \(5, 2, 3\) was given, but it must be \(T, H, D\) = \(5, 2, 4\)"),
        ({"v": torch.zeros(5, 2, 4).double()}, "v: torch.float64 was given, but q is torch.float32"),
        ({"q": torch.zeros(5, 2, 4, dtype=torch.int64)}, "q: torch.int64 was given"),
        ({"query_buckets": torch.zeros(5, 1).long()}, r"query_buckets: shape \(5, 1\) was given, but it"),
        ({"key_buckets": torch.zeros(5, 2)}, "key_buckets: torch.float32 was given, but it must hold integers or"),
        ({"key_buckets": torch.ones(5, 2).bool()}, "pass either two masks or two tensors of integers"),
        ({"key_buckets": torch.ones(5, 2, device="meta").long()}, "key_buckets: it is on meta, but q is on cpu"),
        ({"q": np.zeros((5, 2, 4))}, "q: a ndarray was given, but it must be a tensor; torch.as_tensor converts"),
        ({"k": [[1.0]]}, "k: a list was given, but it must be a tensor"),
        ({"v": None}, "v: None was given, but it must be a tensor"),
        ({"query_buckets": [0, 1]}, "query_buckets: a list was given, but it must be a tensor"),
        ({"key_buckets": torch.full((5, 2), 2**31)}, "buckets: 2147483648 was given, but they must be at most"),
    ],
)
def test_invalid_input_raises_a_clear_error(change, message):
    good = dict(zip("qkv", vectors(5, 2, 4, torch.float32), strict=True))
    good |= {"query_buckets": torch.zeros(5, 2).long(), "offset": offset_of([5])}
    with pytest.raises(ValueError, match=message):
        sparse_attention(**(good | change))


def test_similar_vectors_share_a_hash_bucket():
    x = vectors(2000, 3, 8, torch.float32)[0]
    found = hash_buckets(x, 16, seed=4)
    assert found.dtype == torch.int16
    assert torch.equal(found, hash_buckets(5 * x, 16, seed=4))
    assert not torch.equal(found, hash_buckets(x, 16, seed=5))
    for head in range(3):
        counts = found[:, head].bincount(minlength=16)
        assert len(counts) == 16
        assert counts.min() > 0
    near = hash_buckets(x + 0.05 * torch.randn_like(x), 16, seed=4)
    far = hash_buckets(torch.randn_like(x), 16, seed=4)
    assert (near == found).float().mean() > 0.85
    assert abs((far == found).float().mean() - 1 / 16) < 0.02
    assert not (hash_buckets(-x, 16, seed=4) == found).any()
    assert torch.equal((hash_buckets(-x, 16, seed=4) - found) % 16, torch.full_like(found, 8))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"buckets": 3}, "buckets: 3 was given, but it must be an even number"),
        ({"buckets": 2**15 + 2}, "buckets: 32770"),
        ({"seed": -1}, "seed: -1 was given"),
        ({"x": torch.zeros(3, 4, dtype=torch.int64)}, "floating-point numbers"),
        ({"x": [1.0]}, "x: a list was given, but it must be a tensor"),
    ],
)
def test_invalid_arguments_of_hashing_raise_a_clear_error(arguments, message):
    with pytest.raises(ValueError, match=message):
        hash_buckets(**({"x": torch.zeros(5, 2, 4), "buckets": 4, "seed": 0} | arguments))


@pytest.mark.slow
def test_the_benchmark_runs_on_a_cpu(root, tmp_path):
    results = tmp_path / "results.json"
    sizes = ["--hits", "200", "300", "--buckets", "4", "--heads", "2", "--head-size", "16", "--dtype", "float32"]
    command = [sys.executable, str(root / "benchmarks" / "sparse_attention.py"), "--device", "cpu", *sizes]
    done = subprocess.run([*command, "--json", str(results)], capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    found = json.loads(results.read_text())
    assert [case["hits"] for case in found["cases"]] == [200, 300]
    for case in found["cases"]:
        assert case["difference"] < 1e-5
        for of_pass in case["passes"].values():
            assert not [way for way, times in of_pass["times"].items() if "error" in times]
