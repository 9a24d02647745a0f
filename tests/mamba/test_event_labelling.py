import json
import runpy
import sys

import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed")


@pytest.mark.parametrize("path", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)], indirect=True)
def test_the_benchmark_compares_all_models(path, device, root, tmp_path, monkeypatch):
    """Impact points are far apart here, so the nearest one is nearly always that of the shower."""
    results = tmp_path / "results.json"
    of_events = ["--preset", "critical", "--mean", "5", "--half-width", "200", "--events", "1"]
    of_models = ["--d-model", "32", "--n-layer", "1", "--head-size", "16", "--buckets", "2"]
    lengths = ["--steps", "10", "--validation-events", "4", "--device", device, "--json", str(results)]
    monkeypatch.syspath_prepend(root / "benchmarks")
    monkeypatch.setattr(sys, "argv", ["event_labelling.py", *of_events, *of_models, *lengths])
    runpy.run_path(str(root / "benchmarks" / "event_labelling.py"), run_name="__main__")
    found = json.loads(results.read_text())
    quality = {name: guess["accuracy"] for name, guess in found["untrained"].items()}
    assert quality["nearest impact point"] > 0.9
    assert quality["nearest to the mean of earlier hits"] > 0.9
    assert quality["largest shower"] < 0.7
    models = found["models"]
    assert list(models) == ["rows", "mamba", "attention", "sparse"]
    sizes = [model["parameters"] for model in models.values()]
    assert max(sizes) < 1.05 * min(sizes)
    in_time = {}
    for name, model in models.items():
        assert [at["step"] for at in model["curve"]] == list(range(1, 11))
        seconds = [step * model["seconds_per_step"] for step in range(1, 11)]
        in_time[name] = sum(passed <= found["seconds"] + 1e-9 for passed in seconds)
        assert (model["in_equal_time"] or {"step": 0})["step"] == in_time[name]
    assert max(in_time["mamba"], in_time["attention"], in_time["sparse"]) == 10
