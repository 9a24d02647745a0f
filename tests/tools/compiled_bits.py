"""Write a checksum of the results and gradients of each compiled loop, for a comparison of two processes."""

import hashlib
import sys

import torch

from supa_mamba import MambaStack, causal_conv1d, gated_rms_norm, selective_scan, ssd

LENGTHS = (5, 40, 1, 17, 80)
ROWS = sum(LENGTHS)


def normal(*shape):
    """Draw an input."""
    return torch.randn(*shape, requires_grad=True)


def show(name, function, *inputs):
    """Write the checksum of a result and of the gradients of the inputs."""
    y = function(*inputs)
    found = hashlib.sha256()
    for x in (y, *torch.autograd.grad(y.sin().sum(), inputs)):
        found.update(x.detach().numpy().tobytes())
    sys.stdout.write(f"{name} {found.hexdigest()}\n")


def main():
    """Write all checksums."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    offset = torch.tensor([0, *LENGTHS]).cumsum(0)
    for reverse in (False, True):
        options = {"offset": offset, "reverse": reverse}
        show(
            "convolution", lambda *x, o=options: causal_conv1d(*x, activation="silu", **o),
            normal(ROWS, 16), normal(16, 4), normal(16),
        )  # fmt: skip
        show(
            "scan", lambda *x, o=options: selective_scan(*x, delta_softplus=True, **o),
            normal(ROWS, 16), normal(ROWS, 16), normal(16, 4), normal(ROWS, 4), normal(ROWS, 4), normal(16),
            normal(ROWS, 16), normal(16),
        )  # fmt: skip
        show(
            "ssd", lambda *x, o=options: ssd(*x[:5], D=x[5], dt_bias=x[6], **o),
            normal(ROWS, 2, 8), normal(ROWS, 2), normal(2), normal(ROWS, 1, 4), normal(ROWS, 1, 4), normal(2),
            normal(2),
        )  # fmt: skip
        show(
            "norm", lambda *x, first=reverse: gated_rms_norm(*x, norm_before_gate=first),
            normal(ROWS, 16), normal(ROWS, 16), normal(16),
        )  # fmt: skip
    for mixer, options in (("mamba", {}), ("mamba2", {"headdim": 16})):
        stack = MambaStack(32, 1, mixer, **options)
        state = stack.init_state(3)
        steps = torch.cat([stack.step(torch.randn(3, 32), state) for _ in range(3)])
        sys.stdout.write(f"{mixer} {hashlib.sha256(steps.numpy().tobytes()).hexdigest()}\n")


if __name__ == "__main__":
    main()
