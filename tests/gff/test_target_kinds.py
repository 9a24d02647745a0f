"""Tests of regression and multi-label targets and of class weights: training, metrics, checkpoints and export."""

import math

import pytest
import torch
from small_graphs import both_ways, make_trainer, random_graph, small, triangles_or_trees, two_communities
from torch_geometric.data import Batch as PygBatch
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader

from supa_gff import Checkpoint, GraphSet, Network, Split, evaluate, preset, split_items, train, update_rule
from supa_gff.export import export
from supa_gff.losses import BinaryCrossEntropy, SquaredError

COUNT = 90
PARTS = torch.arange(60), torch.arange(60, 75), torch.arange(75, 90)


def graphs_of(kind: str, count: int = COUNT) -> list[Data]:
    """Return rings of nodes of three kinds. Targets are two counts in other units, or whether a kind is frequent."""
    generator = torch.Generator().manual_seed(0)
    graphs = []
    for k in range(count):
        nodes = torch.arange(6 + k % 5)
        x = torch.nn.functional.one_hot(torch.randint(3, nodes.shape, generator=generator), 3).float()
        number = x.sum(0, keepdim=True)
        y = number[:, :2] * torch.tensor([50.0, 1e-3]) + torch.tensor([1000.0, 0.0])
        y = y if kind == "regression" else (number > torch.tensor([2, 3, 1])).long()
        graphs.append(Data(x=x, edge_index=both_ways(torch.stack([nodes, (nodes + 1) % len(nodes)])), y=y))
    return graphs


def method_of(kind: str, name: str = "mono-forward", level: str = "graph", **changes: object):
    loss = preset(name, level, kind).loss
    return small(name, level, loss=loss, **{"layers": 2, "epochs": 25, "learning_rate": 0.01, **changes})


def trained(kind: str, **changes: object) -> tuple[Network, GraphSet]:
    graphs = GraphSet.of(graphs_of(kind))
    network = Network.for_graphs(method_of(kind, **changes), graphs, train=PARTS[0])
    train(network, graphs, PARTS[0], PARTS[1])
    return network, graphs


@pytest.mark.parametrize("name", ["cafo", "best", "overlapping-pairs", "backprop"])
def test_values_of_any_unit_are_learnt(name):
    network, graphs = trained("regression", name=name)
    batch = graphs.batch(PARTS[2])
    predicted = network.predict(batch)
    assert predicted.shape == batch.target.shape == (15, 2)
    error = (predicted - batch.target).square().mean(0).sqrt()
    assert bool((error < 0.7 * batch.target.std(0)).all())
    assert torch.allclose(graphs.target[:60].mean(0), network.target_mean)


@pytest.mark.parametrize("name", ["cafo", "best", "overlapping-pairs", "backprop"])
def test_labels_are_learnt(name):
    network, graphs = trained("multi-label", name=name)
    batch = graphs.batch(PARTS[2])
    predicted = network.predict(batch)
    assert (predicted.dtype, predicted.shape) == (torch.bool, (15, 3))
    assert torch.equal(predicted, network(batch).sigmoid() > 0.5)
    assert float((predicted == batch.target).float().mean()) > 0.75


@pytest.mark.parametrize("kind", ["regression", "multi-label"])
@pytest.mark.parametrize("name", ["best", "cafo", "backprop"])
def test_nodes_have_values_and_labels(kind, name):
    data = two_communities()
    signal = data.x[:, :2].double()
    data.y = 100 * signal if kind == "regression" else (signal > 0).long()
    graphs = GraphSet.of([data], level="node")
    parts = torch.arange(40), torch.arange(40, 60), torch.arange(60, 80)
    network = Network.for_graphs(method_of(kind, name, "node", epochs=60), graphs, train=parts[0])
    train(network, graphs, parts[0], parts[1])
    results = evaluate(network, graphs, Split("by hand", *parts))
    train_result = results["train"]
    better = train_result.network < train_result.majority if kind == "regression" else train_result.network > 0.7
    assert better
    assert graphs.batch(parts[0], known=parts[0]).known_labels is None


def test_regression_without_training_items_keeps_the_unit_of_the_targets():
    graphs = GraphSet.of(graphs_of("regression"))
    network = Network.for_graphs(method_of("regression"), graphs)
    assert (network.target_mean.tolist(), network.target_std.tolist()) == ([0, 0], [1, 1])
    one = graphs_of("regression", 4)
    for graph in one:
        graph.y = torch.tensor([2.5])
    with pytest.raises(
        ValueError, match=r"All training items have the same target, 2\.5, so there is nothing to learn"
    ):
        Network.for_graphs(method_of("regression"), GraphSet.of(one), train=torch.arange(3))


def test_evaluation_of_values_equals_formulas():
    network, graphs = trained("regression", epochs=3)
    results = evaluate(network, graphs, Split("by hand", *PARTS))
    target = graphs.target[PARTS[2]].double()
    predicted = network.predict(graphs.batch(PARTS[2])).double()
    error = predicted - target
    result = results["test"]
    assert (result.metric, result.confusion) == ("rms_error", None)
    assert result.outputs["rms_error"] == pytest.approx(error.square().mean(0).sqrt().tolist())
    assert result.outputs["mae"] == pytest.approx(error.abs().mean(0).tolist())
    spread = (target - target.mean(0)).square().sum(0)
    assert result.outputs["r2"] == pytest.approx((1 - error.square().sum(0) / spread).tolist())
    assert result.network == pytest.approx(sum(result.outputs["rms_error"]) / 2) == result.means["rms_error"]
    constant = (target - graphs.target[PARTS[0]].double().mean(0)).square().mean(0).sqrt()
    assert result.majority == pytest.approx(float(constant.mean()))
    first = network.values(network.layer_scores(graphs.batch(PARTS[2]))[0]).double() - target
    assert result.layers[0] == pytest.approx(float(first.square().mean(0).sqrt().mean()))


def test_evaluation_of_labels_equals_formulas():
    network, graphs = trained("multi-label", epochs=3)
    result = evaluate(network, graphs, Split("by hand", *PARTS))["test"]
    scores, target = network(graphs.batch(PARTS[2])).double(), graphs.target[PARTS[2]]
    for label in range(3):
        positive, negative = scores[target[:, label], label], scores[~target[:, label], label]
        area = (positive[:, None] > negative[None]).double().mean() + 0.5 * (
            positive[:, None] == negative[None]
        ).double().mean()
        assert result.outputs["auc"][label] == pytest.approx(float(area))
        predicted = scores[:, label] > 0
        right = int((predicted & target[:, label]).sum())
        precision, recall = right / max(int(predicted.sum()), 1), right / int(target[:, label].sum())
        assert result.outputs["f1"][label] == pytest.approx(2 * precision * recall / max(precision + recall, 1e-9))
    assert (result.metric, result.majority) == ("auc", 0.5)
    assert result.network == pytest.approx(sum(result.outputs["auc"]) / 3)


def test_labels_without_a_defined_metric_are_left_out_of_the_means():
    network, graphs = trained("multi-label", epochs=1)
    part = PARTS[2][graphs.target[PARTS[2], 1]]  # label 1 applies to all of them
    result = evaluate(network, graphs, Split("by hand", PARTS[0], PARTS[1], part))["test"]
    assert math.isnan(result.outputs["auc"][1])
    known = [value for value in result.outputs["auc"] if not math.isnan(value)]
    assert result.network == pytest.approx(sum(known) / len(known))


def test_units_of_the_targets_do_not_choose_the_best_epoch():
    # The first target has a scale 50,000 times that of the second one. Scores must weigh both equally.
    from supa_gff.training.scoring import validation_score

    network, graphs = trained("regression", epochs=1)
    target = graphs.target[PARTS[1]]
    wrong = [target.clone(), target.clone()]
    for column in (0, 1):
        wrong[column][:, column] += graphs.target[:60, column].std(correction=0)
    first, second = (validation_score(network, values, target)[0] for values in wrong)
    assert first == pytest.approx(second, rel=1e-3) == pytest.approx(-math.sqrt(0.5), rel=1e-3)


def test_statistics_of_a_step():
    graphs = GraphSet.of(graphs_of("multi-label"))
    network = Network.for_graphs(method_of("multi-label"), graphs)
    batch = graphs.batch(torch.arange(20))
    network.train()
    layer = network.layer(0)
    inputs = network.inputs(batch, None)
    scores = layer.score(layer(inputs.x, inputs.topology, None), inputs.topology, batch).detach()
    (first, _) = update_rule(network).step(batch)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(scores, batch.target.float())
    assert first.loss == pytest.approx(float(expected), rel=1e-5)
    assert first.accuracy == pytest.approx(float(((scores > 0) == batch.target).float().mean()))
    assert math.isnan(first.positive)
    assert math.isnan(first.negative)


@pytest.mark.parametrize("kind", ["regression", "multi-label"])
@pytest.mark.parametrize("name", ["cafo", "best", "backprop"])
def test_checkpoints_keep_the_kind_and_resume_exactly(kind, name, tmp_path):
    graphs = GraphSet.of(graphs_of(kind, 40))
    parts = torch.arange(20), torch.arange(20, 30)
    method = method_of(kind, name, epochs=3)

    def trainer(network, **options):
        return make_trainer(network, graphs, *parts, **options)

    whole = trainer(Network.for_graphs(method, graphs, train=parts[0]))
    whole.run()
    stopped = trainer(
        Network.for_graphs(method, graphs, train=parts[0]), should_stop=iter([False] * 7 + [True] * 99).__next__
    )
    with pytest.raises(KeyboardInterrupt):
        stopped.run()
    Checkpoint.of(stopped, source="mine.pt", split=split_items(graphs)).save(tmp_path / "a.ckpt")
    checkpoint = Checkpoint.load(tmp_path / "a.ckpt")
    assert (checkpoint.source, checkpoint.checksum) == ("mine.pt", graphs.checksum)
    assert checkpoint.method.target_kind == checkpoint.model().target_kind == graphs.target_kind == kind
    resumed = trainer(checkpoint.model())
    resumed.load_state_dict(checkpoint.training)
    resumed.run()
    batch = graphs.batch(torch.arange(30, 40))
    assert torch.equal(resumed.task.network.predict(batch), whole.task.network.predict(batch))
    assert torch.equal(resumed.task.network(batch), whole.task.network(batch))


def test_checksum_depends_on_the_data():
    graphs = GraphSet.of(graphs_of("regression", 5))
    assert graphs.checksum == GraphSet.of(graphs_of("regression", 5)).checksum
    for part in ("x", "edge_index", "target"):
        changed = GraphSet.of(graphs_of("regression", 5))
        getattr(changed, part)[-1, 0] += 1
        assert changed.checksum != graphs.checksum


@pytest.mark.parametrize("kind", ["regression", "multi-label"])
@pytest.mark.parametrize("schedule", ["joint", "backprop"])
def test_exported_module_returns_values_and_scores_of_labels(kind, schedule):
    network, _ = trained(kind, schedule=schedule, epochs=2)
    data = PygBatch.from_data_list(graphs_of(kind, 6))
    torch.testing.assert_close(export(network)(data.x, data.edge_index, data.batch), network(data))


@pytest.mark.parametrize("kind", ["regression", "multi-label"])
def test_own_loop_accepts_batches_of_pyg(kind):
    data = graphs_of(kind, 32)
    graphs = GraphSet.of(data)
    network = Network.for_graphs(method_of(kind), graphs, train=torch.arange(32))
    rule = update_rule(network)
    losses = [rule.step(batch)[0].loss for _ in range(8) for batch in DataLoader(data, batch_size=16)]
    assert losses[-1] < losses[0]
    with pytest.raises(ValueError, match=r"The network predicts \d targets per graph, but the batch has 1"):
        rule.step(_one_column(data))


def _one_column(data):
    batch = PygBatch.from_data_list(data)
    batch.y = batch.y[:, 0]
    return batch


@pytest.mark.parametrize("name", ["best", "gff", "symba", "best-goodness"])
def test_class_weights_weigh_the_loss_by_the_class_of_each_unit(name):
    graphs = GraphSet.of(triangles_or_trees(20))
    batch = graphs.batch(torch.arange(20))

    def loss(weights, members):
        network = Network.for_graphs(small(name, "graph", class_weights=weights, normalisation="none"), graphs)
        for module in network.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        part = graphs.batch(members)
        candidates = torch.stack([part.target, 1 - part.target], 1)
        return update_rule(network).step(part, candidates=candidates if network.method.negatives else None)[0].loss

    every = torch.arange(20)
    alone = [loss(None, every[batch.target == number]) for number in (0, 1)]
    counts = torch.bincount(batch.target).tolist()
    for weights in ((1.0, 4.0), (3.0, 0.5)):
        sizes = [weight * count for weight, count in zip(weights, counts, strict=True)]
        expected = sum(size * value for size, value in zip(sizes, alone, strict=True)) / sum(sizes)
        assert loss(weights, every) == pytest.approx(expected, rel=1e-4)
    assert loss((2.0, 2.0), every) == pytest.approx(loss(None, every), rel=1e-5)


def test_balanced_weights():
    data = triangles_or_trees(9, classes=3)
    for graph, label in zip(data, [0, 0, 0, 0, 0, 0, 1, 1, 2], strict=True):
        graph.y = torch.tensor([label])
    graphs = GraphSet.of(data)
    assert graphs.balanced_weights(torch.arange(9)) == pytest.approx((0.5, 1.5, 3.0))
    with pytest.raises(ValueError, match="The class 2 has no training units"):
        graphs.balanced_weights(torch.arange(8))
    labels = GraphSet.of(graphs_of("multi-label"))
    counts = labels.target[:60].sum(0)
    assert labels.balanced_weights(PARTS[0]) == pytest.approx(((60 - counts) / counts).tolist())
    with pytest.raises(ValueError, match="Balanced weights need classes or labels"):
        GraphSet.of(graphs_of("regression")).balanced_weights(PARTS[0])


def test_weighted_training_predicts_the_rare_class_more_often():
    generator = torch.Generator().manual_seed(0)
    data = [random_graph(5, 8, 2, generator) for _ in range(120)]
    for k, graph in enumerate(data):
        graph.y = torch.tensor([int(k % 6 == 0)])
        graph.x[:, 0] += 0.4 * int(graph.y)
    graphs = GraphSet.of(data)
    every = torch.arange(120)
    recalls = []
    for weights in (None, graphs.balanced_weights(every)):
        method = small("mono-forward", "graph", layers=1, epochs=40, batch_size=120, class_weights=weights)
        network = Network.for_graphs(method, graphs)
        train(network, graphs, every, every)
        batch = graphs.batch(every)
        recalls.append(float((network.predict(batch)[batch.target == 1] == 1).float().mean()))
    assert recalls[1] > recalls[0] + 0.2


def test_another_kind_of_targets_raises():
    values, labels = GraphSet.of(graphs_of("regression")), GraphSet.of(graphs_of("multi-label"))
    with pytest.raises(
        ValueError, match=r"The targets of the graphs are for regression, but loss=Softmax\(\) is for class"
    ):
        Network.for_graphs(small("best", "graph"), values)
    network = Network.for_graphs(small("best", "graph", loss=SquaredError()), values)
    with pytest.raises(ValueError, match=r"use loss=BinaryCrossEntropy\(\) and score=Head"):
        train(network, labels, *PARTS[:2])
    with pytest.raises(ValueError, match="are for multi-label"):
        evaluate(network, labels, Split("by hand", *PARTS))
    classifier = Network(small("best", "graph"), 3, 3)
    with pytest.raises(ValueError, match=r"a class is one number; use loss=BinaryCrossEntropy\(\)"):
        update_rule(classifier).step(labels.batch(torch.arange(8)))


def test_validation_labels_of_one_kind_raise():
    graphs = GraphSet.of(graphs_of("multi-label"))
    same = (graphs.target == graphs.target[0]).all(1).nonzero().view(-1)
    method = small("best", "graph", loss=BinaryCrossEntropy(), layers=1, epochs=2)
    with pytest.raises(ValueError, match="each label applies to all or to none of the validation items"):
        train(Network.for_graphs(method, graphs), graphs, PARTS[0], same)
