"""Principal axis of a shower: the frame in which its energy extends farthest along u."""

import numpy as np
import pytest

from supa.observables.principal_axis import group_means, principal_axis_frame


@pytest.mark.parametrize("angle", [-1.4, -0.3, 0.0, 0.7, 1.5])
def test_u_is_the_long_axis_of_an_ellipse(angle):
    random = np.random.default_rng(1)
    u, v = 5 * random.normal(size=200), random.normal(size=200)
    weights, group = random.random(200), np.repeat([0, 2], 100)
    x, y = 3 + np.cos(angle) * u - np.sin(angle) * v, 7 + np.sin(angle) * u + np.cos(angle) * v
    along, across = principal_axis_frame(x, y, weights, group, 3)
    for chosen in (group == 0, group == 2):
        a, b, w = along[chosen], across[chosen], weights[chosen]
        assert np.average(a, weights=w) == pytest.approx(0, abs=1e-12)
        covariance = np.cov(x[chosen], y[chosen], aweights=w, ddof=0)
        moments = [np.average(b * b, weights=w), np.average(a * a, weights=w)]
        np.testing.assert_allclose(moments, np.linalg.eigvalsh(covariance), rtol=1e-10)
        assert np.corrcoef(a, x[chosen])[0, 1] > 0 or abs(np.cos(angle)) < 0.1
        np.testing.assert_allclose(np.hypot(a, b) ** 2, (x[chosen] - np.average(x[chosen], weights=w)) ** 2
                                   + (y[chosen] - np.average(y[chosen], weights=w)) ** 2, rtol=1e-9)  # fmt: skip


def test_mean_of_a_group_without_weight_is_0():
    means = group_means(np.array([1.0, 2.0, 5.0]), np.array([1.0, 3.0, 0.0]), np.array([0, 0, 2]), 3)
    assert means.tolist() == [1.75, 0.0, 0.0]
