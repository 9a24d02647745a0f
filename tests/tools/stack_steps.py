"""Comparison of the single steps of a stack with its forward pass."""

import torch
from sequences import offset_of

from supa_mamba import HybridStack


@torch.no_grad()
def assert_steps_equal_the_forward(stack, device):
    """Compare the second half of two sequences: row by row, and in one call."""
    x, offset = torch.randn(2, 6, stack.d_model, device=device), offset_of([6, 6]).to(device)
    expected = stack(x.flatten(0, 1), offset).view_as(x)
    state = stack.init_state(2, 6) if isinstance(stack, HybridStack) else stack.init_state(2)
    _, state = stack(x[:, :3], state=state, return_state=True)
    steps = torch.stack([stack.step(x[:, t], state) for t in range(3, 6)], 1)
    torch.testing.assert_close(steps, expected[:, 3:], rtol=2e-4, atol=2e-5)
