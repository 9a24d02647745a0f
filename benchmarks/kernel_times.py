"""Times of the CUDA kernels of a function, by kind and by the operator that launched them."""

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

OF_SSD = ("walk_kernel", "pairs_kernel", "steps_kernel", "step_gradients_kernel")
UNKNOWN = "selective_scan or causal_conv1d"


class Kernel(NamedTuple):
    """The launches of one kernel by one operator, in one step.

    Args:
        name: Name of the kernel.
        operator: Operator that launched it, or an empty string if it is not recorded.
        launches: Number of launches.
        ms: Sum of their times in milliseconds.
    """

    name: str
    operator: str
    launches: float
    ms: float


def kind_of(kernel: str, operator: str) -> str:
    """Return the kind of a kernel.

    Our kernels have the name of their operation. Several operations have kernels of the same name, so the operator that
    launched a kernel decides.

    Args:
        kernel: Name of the kernel.
        operator: Operator that launched it, or an empty string.

    Returns:
        A name of ``KINDS``, the name of one of our operations, or ``"other"``.

    Example:
        >>> kind_of("sm90_xmma_gemm_f32f32_tf32f32_f32_tn_n_tilesize64x64x32", "aten::mm")
        'products'
        >>> kind_of("nvjet_tst_64x8_64x16_4x1_v_bz_TNT", "aten::addmm")
        'products'
        >>> kind_of("forward_kernel", "supa_mamba::selective_scan")
        'selective_scan'
        >>> kind_of("backward_kernel", "supa_mamba::causal_conv1d_backward")
        'causal_conv1d'
        >>> kind_of("pairs_kernel", "")
        'ssd'
        >>> kind_of("forward_kernel", "")
        'selective_scan or causal_conv1d'
        >>> kind_of("void at::native::reduce_kernel<512, 1, ReduceOp<float, sum_functor<float> > >", "aten::sum")
        'sums'
        >>> kind_of("void at::native::multi_tensor_apply_kernel<LpNormFunctor<float> >", "aten::_foreach_norm")
        'clipping and optimiser'
        >>> kind_of("void at::native::vectorized_layer_norm_kernel<float, float, true>", "aten::_fused_rms_norm")
        'norms'
        >>> kind_of("void at::native::unrolled_elementwise_kernel<direct_copy_kernel_cuda>", "aten::copy_")
        'copies and casts'
        >>> kind_of("void at::native::vectorized_elementwise_kernel<4, CUDAFunctor_add<float> >", "aten::add")
        'elementwise'
    """
    if "::" not in kernel:  # Triton
        if operator.startswith("supa_mamba::"):
            return operator.removeprefix("supa_mamba::").removesuffix("_backward")
        if kernel.startswith(OF_SSD):
            return "ssd"
        if kernel.startswith(("forward_kernel", "backward_kernel")):
            return UNKNOWN
    return next((kind for kind, names in KINDS.items() if re.search(names, kernel, re.IGNORECASE)), "other")


def kernels_of(step: Callable[[], Any], steps: int = 2) -> list[Kernel]:
    """Return the kernels of a step by operator, in descending order of their times."""
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        for _ in range(steps):
            step()
        torch.cuda.synchronize()
    events: Any = profile.events()
    # The profiler repeats annotations, such as that of the optimiser's step, among the kernels.
    annotations = {event.name for event in events if event.is_user_annotation}
    found: dict[tuple[str, str], list[float]] = {}

    def add(name: str, operator: str, launches: float, microseconds: float) -> None:
        if name not in annotations:
            sums = found.setdefault((name, operator), [0.0, 0.0])
            sums[0] += launches
            sums[1] += microseconds

    for event in events:
        if event.device_type == torch.autograd.DeviceType.CUDA:
            add(event.name, "", 1, event.time_range.elapsed_us())
        for kernel in event.kernels:
            add(kernel.name, event.name, 1, kernel.duration)
            add(kernel.name, "", -1, -kernel.duration)  # what remains was launched by no operator
    made = [Kernel(*key, count / steps, total / steps / 1e3) for key, (count, total) in found.items() if count > 0]
    return sorted(made, key=lambda kernel: -kernel.ms)
