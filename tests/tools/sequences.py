"""Random inputs of the sequence operations, and differences between results."""

import torch


def lengths_for(path, lengths):
    """Return lengths near multiples of the tile size, which is 32, or 4 in the slow interpreter."""
    return [n - 28 * round(n / 32) for n in lengths] if path == "interpreter" else lengths


def offset_of(lengths, device="cpu"):
    return torch.tensor([0, *lengths], device=device).cumsum(0)


def scan_inputs(lengths, channels, states, *, groups=(), delta=-2.0, spread=1.0, seed=0):
    """Draw float64 inputs of the scan. Steps are softplus of normal numbers around ``delta`` plus a bias.

    With ``groups=(G,)`` B and C are (T, G, N).
    """
    generator = torch.Generator().manual_seed(seed)
    rows, sequences = sum(lengths), len(lengths)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return {
        "u": normal(rows, channels),
        "delta": spread * normal(rows, channels) + delta,
        "A": -torch.rand(channels, states, generator=generator, dtype=torch.float64) * 4 - 0.1,
        "B": normal(rows, *groups, states),
        "C": normal(rows, *groups, states),
        "D": normal(channels),
        "z": normal(rows, channels),
        "delta_bias": 0.3 * normal(channels),
        "initial_states": normal(sequences, channels, states),
    }


def ssd_inputs(lengths, heads, width, states, *, groups=1, dt=-2.0, spread=1.0, seed=0):
    """Draw float64 inputs of the recurrence of Mamba-2, with steps as in ``scan_inputs``."""
    generator = torch.Generator().manual_seed(seed)
    rows, sequences = sum(lengths), len(lengths)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return {
        "x": normal(rows, heads, width),
        "dt": spread * normal(rows, heads) + dt,
        "A": -torch.rand(heads, generator=generator, dtype=torch.float64) * 4 - 0.1,
        "B": normal(rows, groups, states),
        "C": normal(rows, groups, states),
        "D": normal(heads),
        "dt_bias": 0.3 * normal(heads),
        "initial_states": normal(sequences, heads, width, states),
    }


def conv_inputs(lengths, channels, width, *, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return {
        "x": normal(sum(lengths), channels),
        "weight": normal(channels, width),
        "bias": normal(channels),
        "initial_states": normal(len(lengths), channels, width - 1),
    }


def apart(x):
    """Return the same values as a strided view of a tensor twice as wide."""
    return torch.stack([x, torch.full_like(x, 97)], -1).flatten(-2)[..., ::2]


def with_gradients(function, inputs, dtype=torch.float64, device="cpu", half=()):
    """Return y, the final state, and the gradients of a random loss with respect to all inputs of a function."""
    given = {
        name: x.to(device, dtype if name in half or not half else torch.float32).detach().requires_grad_()
        for name, x in inputs.items()
    }
    outputs = function(**given)
    generator = torch.Generator().manual_seed(1)
    loss = sum(
        (y.double().cpu() * torch.randn(y.shape, generator=generator, dtype=torch.float64)).sum() for y in outputs
    )
    gradients = torch.autograd.grad(loss, list(given.values()), allow_unused=True, materialize_grads=True)
    names = ["y", "final_state", *(f"gradient of {name}" for name in given)]
    return dict(zip(names, [*outputs, *gradients], strict=True))


def distance(found, expected):
    """Return the root mean square of the difference, relative to that of the expected values."""
    found, expected = found.detach().double().cpu(), expected.detach().double().cpu()
    assert found.shape == expected.shape
    if not expected.numel():
        return 0.0
    scale = expected.square().mean().sqrt()
    return ((found - expected).square().mean().sqrt() / scale).item() if scale else found.abs().max().item()


def assert_close(found, expected, forward, backward, *, of_rates=None):
    """Compare two results of ``with_gradients``. NaN never passes."""
    for name, value in expected.items():
        bound = backward if name.startswith("gradient") else forward
        bound = of_rates if of_rates and name == "gradient of A" else bound
        assert distance(found[name], value) <= bound, f"{name}: {distance(found[name], value):.1e}"
