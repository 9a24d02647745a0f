"""Running moments of chunks equal the moments of all rows."""

import numpy as np

from supa.running_moments import RunningMoments


def test_moments_do_not_depend_on_chunks():
    rows = np.random.default_rng(0).normal(3, 2, size=(50, 4)).astype(np.float32)
    moments = RunningMoments()
    for chunk in (rows[:1], rows[1:1], rows[1:30], rows[30:]):
        moments.add(chunk)
    expected = rows.astype(np.float64)
    assert moments.count == 50
    np.testing.assert_allclose(moments.mean, expected.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(moments.standard_error, expected.std(axis=0, ddof=1) / np.sqrt(50), rtol=1e-9)


def test_standard_error_of_a_single_row_is_zero():
    moments = RunningMoments()
    moments.add(np.array([[7, 8]], dtype=np.uint8))
    assert moments.mean.tolist() == [7.0, 8.0]
    assert moments.standard_error.tolist() == [0.0, 0.0]
