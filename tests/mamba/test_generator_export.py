"""Exported programs of a generator."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from untrained import LEAKY, sizes_of

import supa
from supa.primaries import draw_primaries
from supa_mamba import HitCoding, ShowerGenerator, export_generator, sample_showers
from supa_mamba.generator.plain_step import plain_step
from supa_mamba.generator.sampling.cpu import initial_state
from supa_mamba.generator.sampling.uniforms import hit_uniforms, leak_uniforms, slice_uniforms

KINDS = ["mamba", "mamba2", "hybrid", "transformer", "student", "mamba student", "paired"]


def model_of(kind, layers=4):
    torch.manual_seed(0)
    coding = HitCoding.fit(supa.simulate(60, LEAKY, seed=1))
    model = ShowerGenerator(sizes_of(kind, layers), coding).eval()
    with torch.no_grad():
        model.profile.number_head.bias[5:] -= 3.0
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_a_plain_step_equals_a_step_of_the_stack(kind):
    model = model_of(kind)
    state = initial_state(model, 5)
    states = [tensor.clone() for layer in state for tensor in layer]
    for _ in range(4):
        x = torch.randn(5, 32)
        with torch.no_grad():
            y, states = plain_step(model.stack, x, states)
        torch.testing.assert_close(y, model.stack.step(x, state), rtol=1e-4, atol=1e-5)


PROGRAM = """
import json, sys
import numpy, torch

folder, count = sys.argv[1], int(sys.argv[2])
about = json.load(open(f"{folder}/generator.json"))
profile, step = (torch.export.load(f"{folder}/{name}.pt2").module() for name in ("profile", "step"))
given = numpy.load(sys.argv[3])
condition = torch.from_numpy(given["condition"])
deposit, *profiles = profile(condition, *(torch.from_numpy(given[name]) for name in ("leak", "slices")))
hits = []
for shower in range(count):
    if not deposit[shower]:
        continue
    place = slice(shower, shower + 1)
    whole, known = [x[place] for x in profiles[:3]], [x[place] for x in profiles[3:]]
    zero = torch.zeros(1, dtype=torch.int64)
    known += [zero, zero, torch.zeros(1, 2), torch.zeros(1), torch.zeros(1)]
    known += [torch.zeros(1, 3, dtype=torch.int64)]
    states = [torch.zeros(1, *s, dtype=getattr(torch, d)) for s, d in zip(about["states"], about["dtypes"])]
    for uniform in torch.from_numpy(given["hits"][shower])[:, None]:
        number = int(known[0]) + about["coding"]["slices"][0]
        energy, last, *known, states = step(condition[place], *whole, *known, uniform, states)
        hits.append((shower, number, *known[5][0].tolist(), int(energy)))
        if last:
            break
numpy.save(sys.argv[4], numpy.array(hits))
assert "supa" not in sys.modules
"""


def test_a_program_without_this_package_samples_the_same_showers(tmp_path):
    model, count, index = model_of("student", layers=2), 8, np.arange(8)  # states, and keys and values
    export_generator(model, tmp_path / "exported")
    incident = draw_primaries(LEAKY, 3, index).incident_energy
    condition = model.coding.conditions(LEAKY, torch.from_numpy(incident)).numpy()
    uniform = np.stack([hit_uniforms(3, np.full(300, k), np.arange(300)) for k in index])
    of_slices = np.stack([slice_uniforms(3, index, number) for number in range(model.coding.num_slices)], 1)
    given = {"condition": condition, "leak": leak_uniforms(3, index), "slices": of_slices, "hits": uniform}
    np.savez(tmp_path / "given.npz", **given)
    (tmp_path / "program.py").write_text(PROGRAM)
    arguments = ["program.py", "exported", str(count), "given.npz", "hits.npy"]
    command = [sys.executable, "-I", *arguments]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, ""), ended.stderr
    hits = np.load(tmp_path / "hits.npy")
    expected = sample_showers(model, LEAKY, count, seed=3)
    shower = np.repeat(index, expected.num_hits)
    np.testing.assert_array_equal(hits[:, 0], shower)
    np.testing.assert_array_equal(hits[:, 1], expected.slice)
    np.testing.assert_allclose(hits[:, 2] * model.coding.position_scale, expected.x, rtol=2e-3, atol=1e-4)
    np.testing.assert_allclose(hits[:, 4] * 2.0**-40 * incident[shower], expected.energy, rtol=2e-3)


def test_errors(tmp_path):
    model = model_of("mamba2", layers=1)
    with pytest.raises(FileExistsError, match="exists; choose another name"):
        export_generator(model, tmp_path)
    with pytest.raises(FileNotFoundError, match=r"none: there is no such folder"):
        export_generator(model, tmp_path / "none" / "exported")
    with pytest.raises(
        ValueError, match=r"model: it is on meta, but it must be on the CPU or on one GPU; pass model.cpu\(\)"
    ):
        export_generator(model.to("meta"), tmp_path / "exported")
    assert list(tmp_path.iterdir()) == []
