"""Single steps of attention: the compiled loop and the kernel against attention in double precision."""

import math
import subprocess
import sys
import textwrap

import pytest
import torch
from mixers import rotated_by_formulas
from sequences import distance

from supa_mamba import CausalAttention
from supa_mamba.modules.rotary import rotary_rates
from supa_mamba.modules.states import AttentionState
from supa_mamba.ops.attention_step.function import attention_step

SLOTS, MOST = 7, 80
gpu = pytest.param("cuda", marks=pytest.mark.gpu)


def stored(heads, width, lengths, device="cpu"):
    """Draw keys and values. Positions without a row contain NaN, so they must not be read."""
    torch.manual_seed(0)
    keys, values = (torch.randn(len(lengths), MOST + 1, heads, width) for _ in range(2))
    for slot, length in enumerate(lengths):
        keys[slot, length:], values[slot, length:] = torch.nan, torch.nan
    return AttentionState(keys.to(device), values.to(device), torch.tensor(lengths, device=device))


def copied(state):
    return AttentionState(*(tensor.clone() for tensor in state))


def naive_step(qkv, state, slots, rotary):
    """Take a step in double precision, one sequence and one head after another."""
    y = torch.zeros(len(qkv), *qkv.shape[2:]).double()
    for m, slot in enumerate(slots.tolist()):
        if slot < 0:
            continue
        length = state.lengths[slot].item()
        for h in range(qkv.shape[2]):
            q, k = (rotated_by_formulas(qkv[m, part, h].double(), length, rotary) for part in (0, 1))
            state.keys[slot, length, h], state.values[slot, length, h] = k, qkv[m, 2, h]
            scores = state.keys[slot, : length + 1, h].double() @ q / math.sqrt(len(q))
            y[m, h] = scores.softmax(0) @ state.values[slot, : length + 1, h].double()
        state.lengths[slot] += 1
    return y


@pytest.mark.parametrize(("heads", "width", "rotary"), [(3, 20, 6), (2, 32, 32), (1, 65, 0), (2, 1, 0)])
def test_steps_of_random_slots(path, device, heads, width, rotary):
    """Sequences are empty, short, as long as the blocks of the kernel, and full after the last step."""
    mine, plain = (stored(heads, width, [0, 1, 31, 32, 63, 77, 77], where) for where in (device, "cpu"))
    rates = rotary_rates(rotary, device=device)
    for _ in range(3):
        slots = torch.randperm(SLOTS)[:6]
        slots[torch.randint(6, ())] = -1
        qkv = 3 * torch.randn(6, 3, heads, width)
        qkv[slots < 0] = torch.nan
        expected = naive_step(qkv, plain, slots, rotary)
        y = attention_step(qkv.to(device), *mine, slots.to(device), rates=rates).cpu()
        assert distance(y, expected) < 5e-6
        assert not y[slots < 0].any()
        assert torch.equal(mine.lengths.cpu(), plain.lengths)
        torch.testing.assert_close(mine.keys.cpu(), plain.keys, rtol=1e-6, atol=5e-6, equal_nan=True)
        torch.testing.assert_close(mine.values.cpu(), plain.values, rtol=0, atol=0, equal_nan=True)


def test_the_bits_of_a_row_do_not_depend_on_other_rows(path, device):
    whole = stored(3, 20, [0, 1, 31, 32, 63, 77, 77], device)
    some, rates = copied(whole), rotary_rates(6, device=device)
    qkv, slots = torch.randn(6, 3, 3, 20, device=device), torch.tensor([4, 1, -1, 0, 5, 3], device=device)
    y = attention_step(qkv, *whole, slots, rates=rates)
    for rows in ([5], [1, 0], [2, 4, 3]):
        assert torch.equal(attention_step(qkv[rows], *some, slots[rows], rates=rates), y[rows])
    for mine, other in zip(some, whole, strict=True):
        assert torch.equal(mine.nan_to_num(), other.nan_to_num())


def test_angles_of_late_positions_are_as_precise_as_those_of_early_ones(path, device):
    torch.manual_seed(0)
    keys, values = (torch.zeros(1, 5002, 1, 42, device=device) for _ in range(2))
    qkv, lengths = torch.randn(1, 3, 1, 42), torch.tensor([5000], device=device)
    slots = torch.zeros(1, dtype=torch.int64, device=device)
    attention_step(qkv.to(device), keys, values, lengths, slots, rates=rotary_rates(40, device=device))
    expected = rotated_by_formulas(qkv[0, 1, 0].double(), 5000, 40)
    assert distance(keys[0, 5000, 0], expected) < 1e-6


@pytest.mark.parametrize("path", ["interpreter"], indirect=True)
@pytest.mark.parametrize(("slot", "length"), [(0, MOST), (2, 0), (1 << 40, 0)])
def test_a_slot_without_room_modifies_nothing(path, slot, length):
    state, qkv = stored(1, 4, [length, length]), torch.randn(1, 3, 1, 4)
    after = copied(state)
    attention_step(qkv, *after, torch.tensor([slot]), rates=rotary_rates(0))
    for mine, other in zip(after, state, strict=True):
        assert torch.equal(mine.nan_to_num(), other.nan_to_num())


@pytest.mark.parametrize("path", [gpu], indirect=True)
def test_a_slot_without_room_raises_an_error(path):
    """The error ends the use of the device, so another process runs the steps."""
    program = """
        import torch
        from supa_mamba import CausalAttention
        mixer = CausalAttention(8, 2, device="cuda")
        state = mixer.init_state(2, max_length=1)
        for _ in range(2):
            mixer.step(torch.randn(2, 8, device="cuda"), state)
            torch.cuda.synchronize()
            print("done")
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True)
    assert done.returncode
    assert done.stdout.count("done") == 1
    assert "the state has no such slot, or no room for another row" in done.stdout + done.stderr


@pytest.mark.parametrize("rotary", [0, 6])
def test_steps_of_a_module_equal_its_forward_pass(path, device, rotary):
    torch.manual_seed(0)
    mixer, x = CausalAttention(24, 3, rotary_emb_dim=rotary), torch.randn(2, 5, 24)
    expected = mixer.double()(x.double())
    mixer, x = mixer.to(device, torch.float32), x.to(device)
    state, slots = mixer.init_state(3, 5), torch.tensor([2, 0], device=device)
    for t in range(5):
        assert distance(mixer.step(x[:, t], state, slots), expected[:, t]) < 3e-6
    assert state.lengths.tolist() == [5, 0, 5]
