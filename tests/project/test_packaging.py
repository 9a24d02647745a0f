"""Installed files and public names."""

import importlib
import importlib.metadata
import importlib.resources
import subprocess
import sys

import pytest

PUBLIC = {
    "supa": [
        "CALOGAN", "Comparison", "PRESETS", "Cartesian", "EnergySpectrum", "Expectation", "GpuShowers", "Grid",
        "NoClosedFormError", "Polar", "Preset", "PrimaryCount", "Ragged", "Refinement", "Run", "ShowerConfig",
        "Showers", "__version__", "compare", "expectation", "from_hits", "preset", "preset_name", "simulate",
        "simulate_on_gpu", "stream", "write_report",
    ],
    "supa_datasets": [
        "BENCHMARKS", "BenchmarkSource", "BenchmarkTask", "BucketSampler", "COMPRESSIONS", "Compression", "FORMATS",
        "Fault", "Format", "GraphBenchmark", "GraphDataset", "ImageDataset", "Nearest", "Normalisation",
        "PRESET_CLASSES", "PointDataset", "ResumeInfo", "SPLITS", "Score", "ScoreMetric", "SequenceDataset",
        "ShardProgress", "ShardReport", "ShowerFile", "ShowerStream", "ShowerWriter", "TARGETS", "Target", "Tree",
        "Within", "add_score", "benchmark_names", "benchmark_task", "convert", "from_awkward", "generate_shards",
        "in_split", "load", "load_benchmark", "merge_shards", "overlay_events", "rank_scores", "read_binning",
        "read_scores", "resumable", "save", "save_predictions", "score_file", "score_predictions", "score_showers",
    ],
    "supa_gff": [
        "PRESETS", "SHOWER_TASKS", "Batch", "Checkpoint", "DiskGraph", "Evaluation", "GraphSet", "LayerStats",
        "LinkSplit", "Method", "Network", "Pairs", "ShowerEncoding", "ShowerGraphStream", "ShowerGraphs", "Split",
        "encoded_showers", "evaluate", "goodness", "heads", "label_injection", "load_graphs", "losses", "negatives",
        "node_scores", "preset", "shower_graphs", "split_items", "split_links", "standard_split", "train",
        "training_task", "update_rule", "write_disk_graph",
    ],
    "supa_learning": [
        "AveragedWeights", "BASELINES", "Callback", "CapturedStep", "Checkpoint", "CheckpointWriter", "CountBaseline",
        "Epoch", "FlatGradients", "Fold", "Position", "Processes", "RandomState", "StepDecay", "StreamBatches",
        "TensorBoard", "Trainer", "TrainingState", "TrainingTask", "Validation", "WarmupCosine", "choose_device",
        "epoch_order", "run_baseline", "stratified_folds", "torchrun_processes",
    ],
    "supa_mamba": [
        "ActivationMonitor", "AttentionState", "BiMamba", "BufferedMambaState", "CausalAttention", "Checkpoint",
        "EncoderConfig", "Evaluation", "FinetuningConfig", "GENERATOR_PRESETS", "GeneratorCheckpoint",
        "GeneratorConfig", "GeneratorTrainingConfig", "HitBatch", "HitCoding", "HybridStack", "InputBuffer", "Mamba",
        "Mamba2", "MambaBlock", "MambaStack", "MambaState", "ReplayCache", "ShowerConditions", "ShowerEncoder",
        "ShowerGenerator", "SparseAttention", "TrainingConfig", "activation_statistics", "add_rms_norm",
        "buffered_state_update", "causal_conv1d", "causal_conv1d_replay", "causal_conv1d_update", "convert_attention",
        "distillation_task", "evaluate", "export_generator", "finetuning_task", "fit_converted", "from_mamba_ssm",
        "gated_rms_norm", "generator_task", "hash_buckets", "int8_generator", "nats_without_layers", "optimizer_groups",
        "parallel_pairs", "sample_showers", "sample_stream", "selective_scan", "selective_state_replay",
        "selective_state_update", "sparse_attention", "ssd", "stack_activations", "stream_distillation_task",
        "stream_generator_task", "stream_training_task", "tensor_parallel", "train", "train_generator",
        "training_task",
    ],
}  # fmt: skip


@pytest.mark.parametrize(("module", "names"), PUBLIC.items())
def test_packages_have_these_public_names(module, names):
    assert sorted(importlib.import_module(module).__all__) == sorted(names)
    for name in names:
        assert hasattr(importlib.import_module(module), name)


def test_installation_contains_only_our_packages():
    files = importlib.metadata.files("supa-showers") or []
    tops = {file.parts[0] for file in files if file.suffix == ".py" and ".." not in file.parts}
    if not any(top.startswith("supa") for top in tops):
        pytest.skip("an editable installation lists no packages")
    assert tops == {"supa", "supa_datasets", "supa_learning", "supa_gff", "supa_mamba", "supa_cli"}


def test_packages_contain_type_information():
    for module in (*PUBLIC, "supa_cli"):
        package = importlib.import_module(module)
        assert (importlib.resources.files(package) / "py.typed").is_file()


@pytest.mark.parametrize("name", ["supa.presets", "supa.plotting", "supa_datasets.hdf5", "supa_mamba.ops"])
def test_modules_are_attributes_of_their_packages(name):
    package, _, module = name.partition(".")
    program = f"import {package}; print({name}.__name__); {package}.{module}x"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert run.stdout.strip() == name
    assert f"AttributeError: module '{package}' has no attribute '{module}x'" in run.stderr
