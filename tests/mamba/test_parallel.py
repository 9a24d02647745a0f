"""Layers side by side: equality with the formula, steps, gradients, generators."""

import copy

import numpy as np
import pytest
import torch
from sequences import offset_of
from stack_steps import assert_steps_equal_the_forward
from untrained import model_of

import supa
from supa_learning import Processes, Trainer
from supa_mamba import (
    CausalAttention,
    GeneratorCheckpoint,
    GeneratorConfig,
    GeneratorTrainingConfig,
    HitCoding,
    HybridStack,
    Mamba,
    Mamba2,
    MambaStack,
    ShowerGenerator,
    distillation_task,
    generator_task,
    parallel_pairs,
    sample_showers,
    stream_generator_task,
    tensor_parallel,
    train_generator,
)
from supa_mamba.generator.sampling.naive import naive_sample

LENGTHS = [40, 0, 1, 23]
WIDTH = 16
OPTIONS = {
    "mamba": {"d_state": 4, "bias": True},
    "mamba2": {"d_state": 4, "headdim": 8, "ngroups": 2},
    "mamba2 without norm": {"headdim": 8, "d_state": 4, "rmsnorm": False, "activation": "identity", "bias": True},
}
STACKS = {
    **{
        name: lambda layers, options=options, name=name: MambaStack(WIDTH, layers, name.split()[0], **options)
        for name, options in OPTIONS.items()
    },
    "attention": lambda layers: HybridStack(WIDTH, layers, range(layers), 2, d_intermediate=24, rotary_emb_dim=4),
    "mamba2 and MLPs": lambda layers: MambaStack(WIDTH, layers, "mamba2", headdim=8, d_state=4, d_intermediate=24),
}
paths = pytest.mark.parametrize("path", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)], indirect=True)
kinds = pytest.mark.parametrize("kind", STACKS)


def stack_of(kind, layers=4, device="cpu", dtype=torch.float64):
    """Return a stack whose parameters all differ from their initial values, those of norms included."""
    torch.manual_seed(0)
    stack = STACKS[kind](layers).to(device, dtype)
    for parameter in stack.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    return stack


def by_formula(stack, groups, x, offset):
    """Return the results of a stack in which the layers of each group, given by their number, read the same rows."""
    blocks = list(stack.blocks())
    for size in groups:
        together, blocks = blocks[:size], blocks[size:]
        x = x + sum(block.mixer(block.norm(x)[0], offset) for block in together)
        if together[0].mlp is not None:
            x = x + sum(block.mlp(block.norm2(x)[0]) for block in together)
    return stack.norm_f(x)[0]


def distance(one, other):
    return float((one - other).norm() / other.norm())


@paths
@kinds
def test_wide_layers_equal_the_formula(path, kind):
    offset, x = offset_of(LENGTHS).to(path), torch.randn(sum(LENGTHS), WIDTH, dtype=torch.float64)
    stack = stack_of(kind, 5)
    with torch.no_grad():
        as_given, in_pairs, four = (
            by_formula(copy.deepcopy(stack).cpu(), groups, x, offset.cpu())
            for groups in ((1, 1, 1, 1, 1), (1, 2, 2), (1, 4))
        )
        for dtype, bound in ((torch.float64, 1e-12), (torch.float32, 1e-6)):
            wide = parallel_pairs(stack.to(path, dtype), 1, 5)
            twice = parallel_pairs(wide, 1, 3)  # wide layers can form pairs, too
            for found, expected, other in (
                (stack, as_given, in_pairs),
                (wide, in_pairs, four),
                (twice, four, in_pairs),
            ):
                y = found(x.to(path, dtype), offset).cpu().double()
                assert distance(y, expected) < bound
                assert distance(y, other) > 1e-3


@paths
@kinds
def test_steps_of_wide_layers_equal_their_forward(path, kind):
    wide = parallel_pairs(stack_of(kind, device=path, dtype=torch.float32), 0, 4)
    assert_steps_equal_the_forward(wide, path)


@kinds
def test_gradients_flow_and_equal_those_of_the_formula(kind):
    """The output projection of a wide layer has both of the pair, so its gradient has both of the formula."""
    stack, offset = stack_of(kind, 2), offset_of(LENGTHS)
    x = torch.randn(sum(LENGTHS), WIDTH, dtype=torch.float64)
    wide = parallel_pairs(stack, 0, 2)
    wide(x, offset).square().sum().backward()
    by_formula(stack, (2,), x, offset).square().sum().backward()
    assert all(parameter.grad is not None for parameter in wide.parameters())
    expected = torch.cat([block.mixer.out_proj.weight.grad for block in stack.blocks()], 1)
    assert distance(wide.layers[0].mixer.out_proj.weight.grad, expected) < 1e-10


@kinds
def test_a_wide_stack_is_an_ordinary_one(kind):
    """Its weights fit a stack that is made with the sizes of its layers, and the given stack is not modified."""
    stack = stack_of(kind).eval()
    before = {name: value.clone() for name, value in stack.state_dict().items()}
    wide = parallel_pairs(stack, 2, 4)
    for parameter in wide.parameters():
        assert parameter.requires_grad
        parameter.data.add_(1)
    assert not wide.training
    assert all(torch.equal(value, before[name]) for name, value in stack.state_dict().items())
    fresh = parallel_pairs(STACKS[kind](4).double(), 2, 4)
    fresh.load_state_dict(wide.state_dict())
    x, offset = torch.randn(9, WIDTH, dtype=torch.float64), offset_of([4, 5])
    assert torch.equal(fresh.eval()(x, offset), wide(x, offset))
    assert wide(x[:0], offset_of([0, 0])).shape == (0, WIDTH)


def test_parameters_of_wide_mixers_are_not_decayed():
    wide = parallel_pairs(MambaStack(WIDTH, 2), 0, 2)
    assert wide.layers[0].mixer.A_log._no_weight_decay


@pytest.mark.parametrize(
    ("first", "last", "message"),
    [
        (0, 5, "first, last: 0 and 5 were given, but the stack has 4 layers"),
        (2, 2, "at least one pair"),
        (0, 3, "3 layers cannot be divided into pairs"),
        (-1, 1, "first: -1 was given"),
        (0, 2, "Layers 0 and 1 are Mamba2 and CausalAttention"),
    ],
)
def test_errors(first, last, message):
    stack = HybridStack(WIDTH, 4, [1, 2], 2, "mamba2", headdim=8)
    with pytest.raises(ValueError, match=message):
        parallel_pairs(stack, first, last)


def test_other_modules_are_named():
    with pytest.raises(ValueError, match="stack: a Mamba2 was given, but it must be a MambaStack or HybridStack"):
        parallel_pairs(Mamba2(WIDTH, headdim=8), 0, 2)


@pytest.mark.parametrize(
    ("one", "other", "message"),
    [
        (Mamba2(WIDTH, headdim=8), Mamba2(WIDTH, headdim=16), "they differ in headdim"),
        (Mamba(WIDTH, d_state=4), Mamba(WIDTH, d_state=8, conv_bias=False), "they differ in d_state, conv_bias"),
        (CausalAttention(WIDTH, 2), CausalAttention(WIDTH, 2, bias=True), "they differ in bias"),
    ],
)
def test_layers_of_a_pair_have_the_same_sizes(one, other, message):
    stack = MambaStack(WIDTH, 2)
    stack.layers[0].mixer, stack.layers[1].mixer = one, other
    with pytest.raises(ValueError, match=message):
        parallel_pairs(stack, 0, 2)


@pytest.mark.parametrize(("kind", "first"), [("mamba2", 0), ("hybrid", 1), ("transformer", 2)])
def test_a_generator_with_pairs_samples_the_showers_of_its_layers(kind, first):
    model = model_of("critical", kind)
    wide = model.parallel_pairs(first, first + 2)
    assert (wide.config.paired_layers, len(wide.stack.layers)) == ((first,), 3)
    sample = sample_showers(wide, "critical", 5, seed=4)
    for index, shower in zip(sample.index, sample, strict=True):
        _, hits = naive_sample(wide, supa.PRESETS["critical"].config, 4, int(index))
        np.testing.assert_allclose(shower.x, hits.position[:, 0] * model.coding.position_scale, rtol=2e-3, atol=1e-4)
    assert not np.array_equal(sample.x, sample_showers(model, "critical", 5, seed=4).x)


def test_pairs_can_be_added_to_those_of_a_generator():
    sizes = GeneratorConfig(model="transformer", d_model=32, n_layer=6)
    model = ShowerGenerator(sizes, model_of("critical").coding)
    step, once = (
        model.parallel_pairs(0, 2).parallel_pairs(3, 5),
        ShowerGenerator(sizes.replace(paired_layers=(3, 0)), model.coding),
    )
    assert [block.mixer.num_heads for block in once.stack.blocks()] == [2, 1, 2, 1]
    once.load_state_dict(step.state_dict())
    with pytest.raises(ValueError, match="a layer can only be in one pair"):
        step.parallel_pairs(1, 3)
    with pytest.raises(ValueError, match="paired_layers: 5 was given, but the layers are 0 to 5"):
        sizes.replace(paired_layers=(5,))


def test_a_checkpoint_with_pairs_is_an_ordinary_one_and_can_be_trained(tmp_path):
    sizes = GeneratorConfig(d_model=32, n_layer=3, d_state=4, energy_components=2, position_components=2)
    config = GeneratorTrainingConfig(generator=sizes, epochs=1, batch_size=16)
    showers = supa.simulate(80, "critical", seed=3)
    trainer = train_generator(showers, config)
    given = GeneratorCheckpoint.of(trainer)
    given.parallel_pairs(1, 3).save(tmp_path / "wide.ckpt")
    checkpoint = GeneratorCheckpoint.load(tmp_path / "wide.ckpt")
    model = checkpoint.model()
    assert checkpoint.config.generator.paired_layers == model.config.paired_layers == (1,)
    expected = given.model().parallel_pairs(1, 3)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in expected.state_dict().items())
    resumed = Trainer(generator_task(showers, checkpoint.config))
    resumed.load_state_dict(checkpoint.training)
    assert resumed.run().finished

    before = {name: value.clone() for name, value in model.state_dict().items()}
    task = stream_generator_task(
        "critical", checkpoint.config, batches_per_epoch=2, validation_showers=20, initial=model
    )
    assert task.coding == given.coding
    assert all(torch.equal(value, before[name]) for name, value in task.trained.state_dict().items())
    Trainer(task).run()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not torch.equal(task.model.stack.layers[1].mixer.D, before["stack.layers.1.mixer.D"])
    with pytest.raises(ValueError, match="initial: its sizes are"):
        generator_task(showers, config, initial=model)
    teacher = ShowerGenerator(sizes.replace(model="transformer", paired_layers=(0,)), given.coding)
    student = config.replace(generator=teacher.config.replace(mamba_layers=(2,)))
    with pytest.raises(ValueError, match="some of its layers are pairs"):
        distillation_task(teacher, showers, student)


def test_a_single_process_keeps_the_stack():
    stack = stack_of("attention")
    share = tensor_parallel(stack, Processes())
    torch.testing.assert_close(dict(share.state_dict()), dict(stack.state_dict()), rtol=0, atol=0)
    assert not any(parameter.requires_grad for parameter in share.parameters())


@pytest.mark.parametrize(
    ("stack", "message"),
    [
        (
            lambda: HybridStack(12, 2, [0], num_heads=3),
            "divided over 2 processes, because its number of heads, 3, cannot",
        ),
        (lambda: HybridStack(12, 1, [0], num_heads=2, d_intermediate=5), "hidden features of the MLP, 5, cannot"),
        (lambda: MambaStack(16, 1, "mamba", d_state=4), "number of groups, 1, cannot"),
        (lambda: MambaStack(16, 1, "bimamba", d_state=4), "Layer 0 is BiMamba, which cannot be divided"),
        (lambda: HybridStack(16, 1, [0], 2, block="outlier-protected"), "because it has norms of queries and keys"),
        (lambda: MambaStack(16, 1, "mamba", d_state=4, ngroups=2), "step sizes before their projection, 1, cannot"),
        (lambda: MambaStack(16, 1, "mamba", d_state=4, ngroups=2, dt_rank=2), "the groups of channels of a layer of M"),
    ],
)
def test_stacks_that_cannot_be_divided(stack, message):
    with pytest.raises(ValueError, match=message):
        tensor_parallel(stack(), Processes(rank=0, count=2))


def test_divided_generators_are_not_sampled_on_a_cpu():
    showers = supa.simulate(60, "critical", seed=1)
    model = ShowerGenerator(GeneratorConfig(model="transformer", d_model=64, n_layer=1), HitCoding.fit(showers))
    model.stack = tensor_parallel(model.stack, Processes(rank=0, count=2))
    with pytest.raises(ValueError, match="its layers are divided over processes"):
        sample_showers(model, "critical", 1, seed=1)
