"""Normalisation: mean 0, standard deviation 1, inversion, and files."""

import numpy as np
import pytest

from supa_datasets import Normalisation

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

NAMES = ("x", "energy")
VALUES = np.random.default_rng(1).lognormal(size=(5000, 2)).astype(np.float32) * [3, 1e-3]


@pytest.fixture
def fitted():
    return Normalisation.fit(NAMES, VALUES, logarithm=(False, True))


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy], ids=["NumPy", "torch"])
def test_invert_restores_the_values(fitted, kind):
    values = kind(VALUES)
    normal = fitted.apply(values)
    assert type(normal) is type(values)
    assert normal.dtype == values.dtype
    np.testing.assert_allclose(np.asarray(normal).mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(np.asarray(normal).std(axis=0), 1, atol=1e-5)
    np.testing.assert_allclose(np.asarray(fitted.invert(normal)), VALUES, rtol=1e-5)
    np.testing.assert_array_equal(np.asarray(values), VALUES)


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy], ids=["NumPy", "torch"])
def test_padding_stays_zero(fitted, kind):
    values, valid = kind(VALUES[:6].reshape(2, 3, 2)), kind(np.array([[True, True, False], [True, False, False]]))
    for result in (fitted.apply(values, valid), fitted.invert(values, valid)):
        assert (np.asarray(result)[~np.asarray(valid)] == 0).all()
        assert (np.asarray(result)[np.asarray(valid)] != 0).all()


def test_a_saved_normalisation_is_read(fitted, tmp_path):
    fitted.save(tmp_path / "n.json")
    assert Normalisation.from_file(tmp_path / "n.json") == fitted
    assert Normalisation.from_dict(fitted.to_dict()) == fitted


def test_gradients_flow_through_it(fitted):
    values = torch.from_numpy(VALUES[:5]).requires_grad_()
    fitted.invert(fitted.apply(values)).sum().backward()
    torch.testing.assert_close(values.grad, torch.ones_like(values))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_an_energy_of_zero_is_finite_in_half_precision(fitted, kind):
    assert fitted.apply(torch.zeros(1, 2, dtype=kind)).isfinite().all()


def test_an_energy_of_zero_is_finite(fitted):
    assert np.isfinite(fitted.apply(np.zeros((1, 2), np.float32))).all()


@pytest.mark.parametrize("values", [[1e6, 1e6 + 1e-8], [1e-14, -1e-14], [0.3, 0.3]])
def test_a_feature_that_is_constant_up_to_rounding_has_std_1(values):
    fitted = Normalisation.fit(("x",), np.array(values)[:, None], logarithm=(False,))
    assert fitted.std == (1.0,)


def test_a_constant_feature_has_std_1():
    fitted = Normalisation.fit(("x",), np.full((10, 1), 7.0), logarithm=(False,))
    assert fitted.std == (1.0,)
    assert (fitted.apply(np.full((3, 1), 7.0)) == 0).all()


def test_mistakes_are_clear_errors(fitted, tmp_path):
    with pytest.raises(ValueError, match="one or more points"):
        Normalisation.fit(("x",), np.empty((0, 1)), logarithm=(False,))
    with pytest.raises(ValueError, match="finite"):
        Normalisation.fit(("x",), np.array([[np.nan]]), logarithm=(False,))
    with pytest.raises(ValueError, match="2 features x, energy"):
        fitted.apply(np.zeros((4, 3)))
    with pytest.raises(ValueError, match="above 0"):
        Normalisation(("x",), (False,), (0.0,), (0.0,))
    for text, reason in (
        ("{", "Expecting"),
        ("[" * 10**5, "recursion"),
        ('{"mean": [1], "mean": [2]}', "'mean' is given"),
    ):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(ValueError, match=f"bad.json: The text is not valid JSON: .*{reason}"):
            Normalisation.from_file(tmp_path / "bad.json")
    for wrong, reason in (
        ({}, "features: nothing was given"),
        ([], "must be a table of settings of Normalisation"),
        ({**fitted.to_dict(), "mean": ["a", 1]}, "mean: .* must be a list, each a number"),
        ({**fitted.to_dict(), "more": 1}, "'more' is not a setting of Normalisation; choose from features, log"),
    ):
        with pytest.raises(ValueError, match=reason):
            Normalisation.from_dict(wrong)


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy], ids=["NumPy", "torch"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_integers_are_accepted(kind, dtype):
    values = np.array([[1, 2], [3, 4], [5, 9]], dtype)
    fitted = Normalisation.fit(NAMES, values, logarithm=(False, True))
    assert fitted == Normalisation.fit(NAMES, values.astype(np.float64), logarithm=(False, True))
    for method in (fitted.apply, fitted.invert):
        np.testing.assert_allclose(method(kind(values)), method(values.astype(np.float64)), rtol=1e-6, atol=1e-7)


def test_values_that_are_not_numbers_are_an_error(fitted):
    for values in (np.ones((3, 2), bool), np.ones((3, 2), "c8"), np.full((3, 2), "a"), np.full((3, 2), None)):
        for method in (fitted.apply, fitted.invert, lambda v: Normalisation.fit(NAMES, v, logarithm=(False, True))):
            with pytest.raises(ValueError, match=f"The values must be numbers, got {values.dtype}"):
                method(values)
    with pytest.raises(ValueError, match=r"The values must be numbers, got torch\.bool"):
        fitted.apply(torch.ones((3, 2), dtype=torch.bool))
