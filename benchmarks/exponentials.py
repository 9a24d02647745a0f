"""Speed at which a GPU computes exponentials. Import this module only on a machine with a GPU."""

import torch
import triton
import triton.language as tl

EACH = 4096


@triton.jit
def _exponentials(out, each, BLOCK: tl.constexpr):
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = place.to(tl.float32) * -1e-6
    for _ in range(each):
        x = tl.exp2(-x)
    tl.store(out + place, x)


def exponentials_per_second() -> float:
    """Measure how many exponentials all lanes compute in a second, each in a dependent chain."""
    programs, block = 16 * torch.cuda.get_device_properties(0).multi_processor_count, 1024
    out = torch.empty(programs * block, device="cuda")
    passed = triton.testing.do_bench(lambda: _exponentials[(programs,)](out, EACH, BLOCK=block), return_mode="median")
    return programs * block * EACH / (passed * 1e-3)
