"""Training in several processes: gradients, weights and resumption equal those of one process."""

import numpy as np
import pytest
import torch
from process_groups import (
    TwoLayers,
    everything,
    generators_trained,
    passes,
    run_together,
    stacks_to_divide,
    steps_of,
    trained,
    with_and_without_graphs,
)

import supa
from supa_learning import FlatGradients, Processes, Trainer
from supa_mamba import GeneratorConfig, GeneratorTrainingConfig
from supa_mamba.config import TrainingConfig
from supa_mamba.packed_showers import PackedShowers, packed_showers, training_showers
from supa_mamba.training import EncoderTask

TINY = {"d_model": 8, "n_layer": 1, "d_state": 4, "batch_size": 41, "epochs": 2}
ENERGY = TrainingConfig(target="incident_energy", **TINY)
GENERATOR = GeneratorTrainingConfig(
    generator=GeneratorConfig(d_model=32, n_layer=1, d_state=4, energy_components=2, position_components=2),
    epochs=2, batch_size=16, learning_rate=5e-3, ema=0.9,
)  # fmt: skip
SHALLOW = supa.ShowerConfig(num_slices=10, readout_layers=((6, 9),), incident_energy="log:1:20", split_early=0.3)
INPUTS = torch.randn(6, 3, generator=torch.Generator().manual_seed(2))
INPUTS[:, 0] = torch.tensor([1.0, -1.0, 2.0, -1.0, -2.0, -1.0])  # the second half does not use the second layer


@pytest.fixture(scope="module")
def showers():
    made = supa.simulate(150, "critical", seed=1)
    encoding, train = training_showers(made, "incident_energy")
    return encoding, train, packed_showers(made, "validation", encoding)


@pytest.fixture(scope="module")
def few(showers):
    """The same training showers, and a single one for validation."""
    encoding, train, valid = showers
    end = int(valid.counts[0])
    one = PackedShowers(valid.points[:end], valid.counts[:1], valid.target[:1], valid.number[:1], by_hit=False)
    return encoding, train, one


@pytest.fixture(scope="module")
def empty():
    """Steps whose second share has showers without hits: a config, an encoding, showers and a learning rate."""
    short = supa.preset("two-primaries").replace(num_slices=12, readout_layers=((5, 11),), impact_spread=20.0)
    encoding, _ = training_showers(supa.simulate(50, short, seed=1), "primary")
    config = TrainingConfig(target="primary", **{**TINY, "batch_size": 2}, clip=1e9)
    points = torch.randn(16, 4, generator=torch.Generator().manual_seed(3))
    counts = np.array([3, 0, 0, 4, 0, 0, 9, 0])
    train = PackedShowers(points, counts, torch.arange(16) % 2, np.arange(8), by_hit=True)
    return config, encoding, train, 1e-3


@pytest.fixture(scope="module")
def stopped(showers):
    """State of a training that one process began."""
    trainer = Trainer(EncoderTask(ENERGY, *showers), should_stop=iter([False] * 3 + [True]).__next__)
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    return trainer.state_dict()


@pytest.fixture(scope="module")
def generated():
    """What trains generators: a config, showers with few hits, sometimes none, and their config."""
    return GENERATOR, supa.simulate(80, SHALLOW, seed=3), SHALLOW


@pytest.fixture(scope="module")
def one(showers, few, empty, generated):
    """Results of one process."""
    return {
        "empty": steps_of(Processes(), *empty),
        "whole": trained(Processes(), ENERGY, *showers),
        "padded": trained(Processes(), ENERGY, *few),
        "generators": generators_trained(Processes(), *generated),
    }


@pytest.fixture(scope="module")
def two(one, showers, few, empty, stopped, generated, tmp_path_factory):
    """Results of two processes, which inherit the compiled functions of the one process."""
    folder = tmp_path_factory.mktemp("group")
    return run_together(everything, INPUTS, empty, ENERGY, showers, few, stopped, generated, folder=folder)


def _equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_gradients_are_summed_also_without_a_gradient_in_one_process(two):
    model = TwoLayers()
    model.loss(INPUTS).backward()
    expected = [weights.grad for weights in model.parameters()]
    assert [weights.dtype for weights in expected] == [torch.float32] * 2 + [torch.float64] * 2
    for results in two:
        torch.testing.assert_close(results["flat"], expected)
    unused = TwoLayers()
    unused.loss(INPUTS.tensor_split(2)[1]).backward()
    assert unused.second.weight.grad is None


def test_gradients_equal_those_of_one_process_if_a_share_has_no_hits(one, two):
    assert len(one["empty"]) == 4
    for results in two:
        torch.testing.assert_close(results["empty"], one["empty"], rtol=1e-5, atol=1e-7)


def test_all_processes_end_with_the_same_weights_which_are_those_of_one_process_up_to_rounding(one, two):
    assert _equal(two[0]["whole"]["weights"], two[1]["whole"]["weights"])
    assert two[0]["whole"]["losses"] == two[1]["whole"]["losses"]
    torch.testing.assert_close(two[0]["whole"]["losses"], one["whole"]["losses"], rtol=1e-5, atol=0)
    torch.testing.assert_close(two[0]["whole"]["weights"], one["whole"]["weights"], rtol=1e-4, atol=1e-5)


def test_padded_shares_end_with_the_same_weights_up_to_rounding(one, two):
    for results in two:
        torch.testing.assert_close(results["padded"]["losses"], one["padded"]["losses"], rtol=1e-5, atol=0)
        torch.testing.assert_close(results["padded"]["weights"], one["padded"]["weights"], rtol=1e-4, atol=1e-5)


def test_a_training_continues_in_the_same_and_in_another_number_of_processes(two):
    whole = two[0]["whole"]
    for results in two:
        assert _equal(results["stopped"]["weights"], whole["weights"])
        assert results["stopped"]["losses"] == whole["losses"]
        assert _equal(results["resumed"]["weights"], two[0]["resumed"]["weights"])
        torch.testing.assert_close(results["resumed"]["losses"], whole["losses"], rtol=1e-5, atol=0)


def test_shares_of_stacks_give_the_results_of_the_stack_with_one_sum_for_each_mixer_and_mlp(two):
    expected_sums = {"transformer": 4, "mamba2": 2, "mamba2 with a bias": 1}
    stacks = stacks_to_divide()
    assert {name for name in stacks if name not in expected_sums} == {
        "CausalAttention, paired", "Mamba, paired", "Mamba2, paired",
    }  # fmt: skip
    for name, stack in stacks.items():
        expected = passes(stack)
        found, other = (results["shares"][name] for results in two)
        assert found[2] == expected_sums.get(name, 2 if "Attention" in name else 1)
        for k in (0, 1):
            torch.testing.assert_close(found[k], expected[k], rtol=1e-12, atol=1e-12)
            assert torch.equal(found[k], other[k])


def test_two_processes_train_generators_like_one(one, two):
    for source in ("memory", "stream"):
        first, second = (results["generators"][source] for results in two)
        assert _equal(first["model"], second["model"])
        assert first["history"] == second["history"]
        for epoch, expected in zip(first["history"], one["generators"][source]["history"], strict=True):
            for kind in (0, 1):
                for part, figures in expected[kind].items():
                    assert epoch[kind][part] == pytest.approx(figures, rel=1e-4, abs=1e-5)
        torch.testing.assert_close(first["model"], one["generators"][source]["model"], rtol=1e-3, atol=1e-4)


def test_gradients_are_replaced_and_stay_in_place():
    model = TwoLayers()
    model.first.bias.requires_grad_(False)
    gradients = FlatGradients(model.parameters())
    for _ in range(2):
        gradients.backward(model.loss(INPUTS))
        places = [weights.grad.data_ptr() for weights in model.parameters() if weights.requires_grad]
        model.second.bias.grad = None
    gradients.backward(model.loss(INPUTS))
    assert [weights.grad.data_ptr() for weights in model.parameters() if weights.requires_grad] == places
    assert model.first.bias.grad is None
    expected = TwoLayers()
    expected.loss(INPUTS).backward()
    for name, weights in model.named_parameters():
        if weights.requires_grad:
            assert torch.equal(weights.grad, expected.get_parameter(name).grad)


def test_without_parameters_there_is_a_clear_error():
    parameters = TwoLayers().requires_grad_(False).parameters()
    with pytest.raises(ValueError, match="none of them requires a gradient; pass those of a model"):
        FlatGradients(parameters)
    with pytest.raises(RuntimeError, match="does not require grad"):
        FlatGradients(TwoLayers().parameters()).backward(torch.zeros(()))


# ---------------------------------------------------------------------- GPUs

GROUPS = {
    "nccl, one process": (["cuda:0"], "nccl"),
    "gloo, two processes on one GPU": (["cuda:0", "cuda:0"], "gloo"),
    "nccl, two GPUs": (["cuda:0", "cuda:1"], "nccl"),
}


@pytest.mark.gpu
@pytest.mark.parametrize("group", GROUPS)
def test_the_bits_of_several_processes_do_not_depend_on_graphs(group, showers, tmp_path):
    devices, backend = GROUPS[group]
    if torch.cuda.device_count() < len(set(devices)):
        pytest.skip(f"it needs {len(set(devices))} GPUs, but PyTorch finds {torch.cuda.device_count()}")
    config = TrainingConfig.from_dict({**ENERGY.to_dict(), "epochs": 5})
    results = run_together(with_and_without_graphs, config, showers, folder=tmp_path, devices=devices, backend=backend)
    for of_process in results:
        with_graphs, without, _ = of_process
        assert with_graphs["launches"] < without["launches"] == 15
        for other in of_process:
            assert _equal(other["weights"], results[0][0]["weights"])
            assert other["losses"] == results[0][0]["losses"]
