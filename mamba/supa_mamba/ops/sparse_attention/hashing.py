"""Hash buckets by random rotations."""

import torch
from torch import Tensor
from torch.nn import functional

from supa_mamba.ops.checks import check_device
from supa_mamba.ops.dtypes import state_dtype


def hash_buckets(x: Tensor, buckets: int, *, seed: int) -> Tensor:
    """Assign vectors to buckets by random rotations, so that vectors of similar direction often share a bucket.

    Each head has a matrix R with ``buckets`` / 2 random unit columns. The bucket of x is the largest entry of the
    vector (x R, -x R). The same seed returns the same matrices, also for other vectors and on other devices, so
    queries and keys are hashed alike. The length of a vector does not matter.

    Args:
        x: (..., H, D) vectors of H heads, such as queries or keys.
        buckets: Number of buckets, an even number from 2 to 32,768.
        seed: Seed of the random matrices, a whole number of at least 0.

    Returns:
        (..., H) int16 buckets, from 0.

    Raises:
        ValueError: If an argument is out of range, or ``x`` does not hold vectors of floating-point numbers.

    Example:
        >>> import torch
        >>> from supa_mamba import hash_buckets
        >>> q = torch.randn(8, 2, 16)  # two heads
        >>> buckets = hash_buckets(q, 4, seed=0)
        >>> buckets.shape, torch.equal(buckets, hash_buckets(3 * q, 4, seed=0))
        (torch.Size([8, 2]), True)

    Source:
        Andoni et al., Practical and optimal LSH for angular distance (arXiv 1509.02897), section 3, as in Reformer
        (arXiv 2001.04451), section 2.
    """
    check_device("x", x)
    if x.ndim < 2 or not x.is_floating_point() or not all(x.shape[-2:]):
        raise ValueError(
            f"x: shape {tuple(x.shape)}, {x.dtype} was given, but it must be (..., H, D) floating-point numbers with "
            "H >= 1 and D >= 1."
        )
    heads, width = x.shape[-2:]
    rotations = random_rotations(heads, width, buckets, seed)
    # A copy that waits would synchronise with a GPU.
    return rotated_buckets(x, rotations.to(x.device, state_dtype(x), non_blocking=True))


def random_rotations(heads: int, width: int, buckets: int, seed: int) -> Tensor:
    """Draw the matrices of `hash_buckets`.

    Args:
        heads: Number of heads, H.
        width: Number of features of a head, D.
        buckets: Number of buckets, an even number from 2 to 32,768.
        seed: Seed of the matrices, a whole number of at least 0.

    Returns:
        (H, D, buckets / 2) float64 matrices with unit columns, on the CPU.

    Raises:
        ValueError: If ``buckets`` or ``seed`` is out of range.
    """
    if isinstance(buckets, bool) or not isinstance(buckets, int) or buckets % 2 or not 2 <= buckets <= 2**15:
        raise ValueError(f"buckets: {buckets!r} was given, but it must be an even number from 2 to 32768.")
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise ValueError(f"seed: {seed!r} was given, but it must be a whole number of at least 0, below 2^63.")
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(heads, width, buckets // 2, generator=generator, dtype=torch.float64, device="cpu")
    return functional.normalize(drawn, dim=1)


def rotated_buckets(x: Tensor, rotations: Tensor) -> Tensor:
    """Assign vectors to buckets; see `hash_buckets`.

    Args:
        x: (..., H, D) vectors of H heads.
        rotations: (H, D, buckets / 2) matrices, float32 or float64.

    Returns:
        (..., H) int16 buckets.
    """
    # In half precision, many of the rotated numbers would be equal.
    with torch.autocast(x.device.type, enabled=False):
        rotated = torch.einsum("...hd,hdn->...hn", x.detach().to(rotations.dtype), rotations)
    return torch.cat([rotated, -rotated], -1).argmax(-1).to(torch.int16)
