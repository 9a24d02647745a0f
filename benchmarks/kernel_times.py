"""Times of the CUDA kernels of a function, by kind."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

KINDS = {
    "products": r"gemm|gemv|cutlass|nvjet|xmma|cublas|splitk",
    "clipping and optimiser": r"multi_tensor_apply|fused_?adam|normtwoops",
    "norms": r"norm|gammabeta",
    "copies and casts": r"copy|memcpy|memset|cat_?array|fillfunctor",
    "orders": r"sort|radix|arange",
    "sums": r"reduce",
    "elementwise": r"elementwise",
}
"""Kinds of the kernels of PyTorch by their names, in the order in which they are tested."""

OURS = {
    "selective_scan": ("scan_",),
    "causal_conv1d": ("conv_",),
    "ssd": ("walk_kernel", "pairs_kernel", "steps_kernel", "step_gradients_kernel"),
    "sparse_attention": ("sparse_",),
    "norms": ("add_norm_", "gated_norm_"),
}
"""Operations of this package by the beginnings of the names of their kernels."""


class Kernel(NamedTuple):
    """The launches of a kernel in a step.

    Args:
        name: Name of the kernel.
        launches: Number of launches.
        ms: Sum of their times in milliseconds.
    """

    name: str
    launches: float
    ms: float


def kind_of(kernel: str) -> str:
    """Return the kind of a kernel.

    Args:
        kernel: Name of the kernel.

    Returns:
        A name of ``KINDS`` or ``OURS``, or ``"other"``.

    Example:
        >>> kind_of("sm90_xmma_gemm_f32f32_tf32f32_f32_tn_n_tilesize64x64x32")
        'products'
        >>> kind_of("nvjet_tst_64x8_64x16_4x1_v_bz_TNT")
        'products'
        >>> kind_of("scan_forward_kernel")
        'selective_scan'
        >>> kind_of("conv_backward_kernel")
        'causal_conv1d'
        >>> kind_of("pairs_kernel")
        'ssd'
        >>> kind_of("gated_norm_backward_kernel")
        'norms'
        >>> kind_of("void at::native::reduce_kernel<512, 1, ReduceOp<float, sum_functor<float> > >")
        'sums'
        >>> kind_of("void at::native::multi_tensor_apply_kernel<LpNormFunctor<float> >")
        'clipping and optimiser'
        >>> kind_of("void at::native::vectorized_layer_norm_kernel<float, float, true>")
        'norms'
        >>> kind_of("void at::native::unrolled_elementwise_kernel<direct_copy_kernel_cuda>")
        'copies and casts'
        >>> kind_of("void at::native::vectorized_elementwise_kernel<4, CUDAFunctor_add<float> >")
        'elementwise'
    """
    if "::" not in kernel:  # Triton
        for kind, names in OURS.items():
            if kernel.startswith(names):
                return kind
    return next((kind for kind, names in KINDS.items() if re.search(names, kernel, re.IGNORECASE)), "other")


def kernels_of(step: Callable[[], Any], steps: int = 2) -> list[Kernel]:
    """Return the kernels of a step, in descending order of their times."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        for _ in range(steps):
            step()
        torch.cuda.synchronize()
    events: Any = profile.events()
    # The profiler repeats annotations, such as that of the optimiser's step, among the kernels.
    annotations = {event.name for event in events if event.is_user_annotation}
    found: dict[str, list[float]] = {}
    for event in events:
        if event.device_type == torch.autograd.DeviceType.CUDA and event.name not in annotations:
            sums = found.setdefault(event.name, [0.0, 0.0])
            sums[0] += 1
            sums[1] += event.time_range.elapsed_us()
    made = [Kernel(name, count / steps, total / steps / 1e3) for name, (count, total) in found.items()]
    return sorted(made, key=lambda kernel: -kernel.ms)
