"""Tests of the plots of scores and hit classes."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed")

from supa_gff.plot import plot_hit_classes, plot_scores
from supa_learning import Epoch


def test_plot_scores_draws_scores_of_each_layer():
    def epoch(stage, number, scores):
        train = {f"layer{layer}": {"positive": positive, "negative": negative} for layer, positive, negative in scores}
        return Epoch(stage, number, train, {}, 0.5, 0.1, 1.0)

    jointly = [epoch(0, k, [(0, 1.0 + k, -k), (1, 2.0 + k, -2.0 * k)]) for k in (0, 1)]
    greedy = [epoch(layer, k, [(layer, 5.0 + k, 4.0)]) for layer in (0, 1) for k in (0, 1, 2)]
    figure = plot_scores({"best": jointly, "gff": greedy})
    grid = np.array(figure.axes).reshape(2, 2)
    positive, negative = grid[0, 1].lines
    np.testing.assert_array_equal(positive.get_xydata(), [[1, 2], [2, 3]])
    np.testing.assert_array_equal(negative.get_xydata(), [[1, 0], [2, -2]])
    np.testing.assert_array_equal(grid[1, 1].lines[0].get_xydata(), [[1, 5], [2, 6], [3, 7]])
    with pytest.raises(ValueError, match="at least one epoch"):
        plot_scores({"best": []})


def test_plot_hit_classes_marks_misclassified_hits():
    truth, predicted = np.array([0, 0, 1, 1]), np.array([0, 1, 1, 0])
    depth, across = np.arange(4.0), np.arange(4.0) * 2
    figure = plot_hit_classes(depth, across, {"truth": truth, "best": predicted}, ("a", "b"))
    first, second, rings = figure.axes[1].collections
    assert [len(part.get_offsets()) for part in (first, second, rings)] == [2, 2, 2]
    np.testing.assert_array_equal(rings.get_offsets()[:, 1], [2, 6])
    assert figure.axes[1].get_title() == "best: 50% correct"
    with pytest.raises(ValueError, match="at least one hit"):
        plot_hit_classes(depth, across[:3], {"truth": truth}, ("a", "b"))
