"""Tests of exported networks: they return the scores of the network in one forward pass."""

import io
import pickle
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pytest.importorskip("torch_geometric", reason="PyTorch Geometric is not installed")

from small_graphs import make_trainer  # noqa: E402
from torch_geometric.data import Batch, Data  # noqa: E402

from supa_gff import GraphSet, Network, preset, update_rule  # noqa: E402
from supa_gff.convolutions import CONVOLUTIONS  # noqa: E402
from supa_gff.export import export  # noqa: E402
from supa_gff.losses import SquaredError  # noqa: E402


def _data(nodes, y):
    edges = torch.randint(0, nodes, (2, nodes))
    return Data(x=torch.randn(nodes, 4), edge_index=torch.cat([edges, edges.flip(0)], 1), y=y)


@pytest.fixture
def graphs():
    """Return twelve graphs of three classes, one without edges and one with an isolated node."""
    torch.manual_seed(1)
    made = [_data(5 + k % 4, torch.tensor([k % 3])) for k in range(10)]
    made.append(Data(x=torch.randn(3, 4), edge_index=torch.zeros(2, 0, dtype=torch.int64), y=torch.tensor([0])))
    made.append(Data(x=torch.randn(3, 4), edge_index=torch.tensor([[0, 1], [1, 0]]), y=torch.tensor([1])))
    return made


@pytest.fixture
def node_graph():
    """Return one graph with thirty nodes of three classes."""
    torch.manual_seed(2)
    return _data(30, torch.arange(30) % 3)


def _trained(data, method, level):
    graphs = GraphSet.of(data, level=level)
    torch.manual_seed(3)
    network = Network.for_graphs(method.replace(layers=3, hidden_channels=8, epochs=2), graphs)
    members = torch.arange(graphs.num_items)
    make_trainer(network, graphs, members[members % 3 > 0], members[members % 3 == 0]).run()
    return network


def _scores(network, data):
    """Return the sum of the scores of the layers, computed layer by layer."""
    scores = network.layer_scores(data)[network.layer_mask]
    if network.method.aggregate == "probabilities":
        scores = scores.softmax(2)
    return sum(scores)


GRAPH_METHODS = {
    "best": {},
    "cafo": {"layers_used": "last"},
    "mono-forward": {"aggregate": "probabilities", "residual": True, "normalisation": "graph"},
    "deeper-forward": {},
    "backprop": {"dropout": 0.5},
}


@pytest.mark.parametrize("name", GRAPH_METHODS)
def test_module_returns_scores_of_network_at_graph_level(name, graphs):
    network = _trained(graphs, preset(name).replace(**GRAPH_METHODS[name]), "graph")
    batch = Batch.from_data_list(graphs)
    module = export(network)
    scores = module(batch.x, batch.edge_index, batch.batch)
    assert scores.shape == (12, 3)
    torch.testing.assert_close(scores, _scores(network, batch))
    assert torch.equal(scores.argmax(1), network.predict(batch))
    alone = graphs[0]
    torch.testing.assert_close(module(alone.x, alone.edge_index), scores[:1])
    assert not module.training


@pytest.mark.parametrize("name", ["best", "cafo", "mono-forward", "deeper-forward", "backprop"])
def test_module_returns_scores_of_network_at_node_level(name, node_graph):
    network = _trained([node_graph], preset(name, "node"), "node")
    scores = export(network)(node_graph.x, node_graph.edge_index)
    assert scores.shape == (30, 3)
    torch.testing.assert_close(scores, _scores(network, node_graph))


@pytest.mark.parametrize("conv", CONVOLUTIONS)
def test_every_convolution_can_be_exported_and_pickled(conv, graphs):
    network = _trained(graphs, preset("best").replace(conv=conv), "graph")
    batch = Batch.from_data_list(graphs)
    given = (batch.x, batch.edge_index, batch.batch)
    module = export(network)
    wanted = module(*given)
    torch.testing.assert_close(wanted, _scores(network, batch))
    assert torch.equal(pickle.loads(pickle.dumps(module))(*given), wanted)
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=False)(*given), wanted)


def test_regression_values_are_averaged(graphs):
    for graph in graphs:
        graph.y = graph.y.float()
    network = _trained(graphs, preset("best").replace(loss=SquaredError()), "graph")
    batch = Batch.from_data_list(graphs)
    values = export(network)(batch.x, batch.edge_index, batch.batch)
    torch.testing.assert_close(values, network.layer_scores(batch).mean(0))


def test_unused_upper_layers_are_removed(graphs):
    network = _trained(graphs, preset("best"), "graph")
    network.set_layer_mask(0, 2)
    module = export(network)
    assert len(module.layers) == 2
    batch = Batch.from_data_list(graphs)
    torch.testing.assert_close(module(batch.x, batch.edge_index, batch.batch), _scores(network, batch))


def test_module_is_a_copy_with_gradients_through_all_layers(graphs):
    network = _trained(graphs, preset("best"), "graph")
    batch = Batch.from_data_list(graphs)
    module = export(network)
    before = module(batch.x, batch.edge_index, batch.batch)
    update_rule(network).step(batch)
    assert torch.equal(module(batch.x, batch.edge_index, batch.batch), before)
    x = batch.x.clone().requires_grad_()
    module(x, batch.edge_index, batch.batch).sum().backward()
    assert x.grad.abs().sum() > 0
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_module_compiles_without_graph_breaks(graphs):
    module = export(_trained(graphs, preset("best"), "graph"))
    compiled = torch.compile(module, fullgraph=True, backend="eager")
    alone = graphs[0]
    torch.testing.assert_close(compiled(alone.x, alone.edge_index), module(alone.x, alone.edge_index))


def test_saved_module_loads_in_another_process(graphs, tmp_path):
    network = _trained(graphs, preset("best"), "graph")
    module = export(network)
    graph = graphs[0]
    torch.save({"module": module, "x": graph.x, "edges": graph.edge_index}, tmp_path / "module.pt")
    code = (
        "import torch; s = torch.load('module.pt', weights_only=False); print(s['module'](s['x'], s['edges']).tolist())"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    torch.testing.assert_close(
        torch.tensor(eval(result.stdout)), module(graph.x, graph.edge_index), rtol=1e-5, atol=1e-6
    )


def test_empty_input_raises(graphs):
    module = export(_trained(graphs, preset("deeper-forward"), "graph"))
    with pytest.raises(ValueError, match="There are no nodes"):
        module(torch.zeros(0, 4), torch.zeros(2, 0, dtype=torch.int64))


REFUSED = {
    "gff": ("graph", "one forward pass for each class"),
    "symba": ("graph", "one forward pass for each class"),
    "best-goodness": ("graph", "one forward pass for each class"),
    "label-appending": ("node", "one forward pass for each class"),
    "virtual-nodes": ("node", "nodes with known labels"),
    "single-forward": ("node", "nodes with known labels"),
    "link-cross-entropy": ("link", "pairs of nodes"),
}


@pytest.mark.parametrize(("name", "level", "why"), [(name, *rest) for name, rest in REFUSED.items()], ids=REFUSED)
def test_networks_without_single_pass_prediction_raise(name, level, why):
    network = Network(preset(name, level), 4, 1 if level == "link" else 3, level)
    with pytest.raises(ValueError, match=why):
        export(network)
