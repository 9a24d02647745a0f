"""Measure how much slower the training of a learner is if its showers are simulated while it runs.

    python benchmarks/stream_training.py [--device cpu] [--threads 2] [--steps 40] [--repeat 9] [--json out.json]

The training steps of a shower encoder (`supa_mamba`) and of a graph network (`supa_gff`) take their batches from

- one batch, again and again: the time of the network alone;
- memory: shuffled showers on the device, as `supa mamba train FILE` uses them;
- a stream whose batches a thread makes ahead, as `supa mamba train --stream` uses it;
- for comparison, the same stream without a thread, in a worker of a DataLoader, and with the engine cuda.

The repetitions of all of them alternate, so that other work on the machine affects them alike. All numbers are medians
of the repetitions; a ratio is taken within each repetition.
"""

import argparse
import itertools
import platform
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import give, machine
from torch.utils.data import DataLoader

import supa
from supa_datasets import ShowerStream
from supa_datasets.streams.prefetching import map_tensors
from supa_gff import Network, ShowerGraphStream, preset, shower_graphs
from supa_gff import training_task as graph_task
from supa_learning import Processes, StreamBatches, TrainingTask
from supa_mamba import TrainingConfig, stream_training_task, training_task

SHOWERS_IN_MEMORY = 20_000
ENDLESS = 1 << 30
WARM_UP = 5  # steps, more than the batches that a thread makes ahead

Feed = Callable[[], Iterator[Any]]


def feeds(memory: TrainingTask[Any], batches: StreamBatches[Any], device: torch.device) -> dict[str, Feed]:
    """Return functions that start an endless iteration over batches, by the name of their origin."""
    stream, convert = batches.stream, batches._convert
    single = next(iter(memory.batches(0, 0, 0)))

    def ahead(other: ShowerStream) -> Iterator[Any]:
        made = StreamBatches(other, steps_per_epoch=ENDLESS, epochs=1, convert=convert, device=device)
        try:
            yield from made.batches(0, 0, 0)
        finally:
            made.close()

    def moved(batch: Any) -> Any:
        return map_tensors(lambda tensor: tensor.to(device, non_blocking=True), convert(batch))

    def worker() -> Iterator[Any]:
        stream.start_at(0)
        loader = DataLoader(stream, batch_size=None, num_workers=1, pin_memory=device.type == "cuda")
        return map(moved, loader)

    def alone() -> Iterator[Any]:
        stream.start_at(0)
        return map(moved, stream)

    def epochs() -> Iterator[Any]:
        return itertools.chain.from_iterable(memory.batches(0, epoch, 0) for epoch in itertools.count())

    result: dict[str, Feed] = {
        "one batch": lambda: itertools.repeat(single),
        "memory": epochs,
        "stream": lambda: ahead(stream),
        "stream, no thread": alone,
        "stream, one worker": worker,
    }
    if device.type == "cuda":
        on_gpu = _with_engine_cuda(stream)
        result["stream, engine cuda"] = lambda: ahead(on_gpu)
    return result


def _with_engine_cuda(stream: ShowerStream) -> ShowerStream:
    """Return the same stream with the engine cuda."""
    dataset = stream.dataset
    options = {"features": dataset.features, "normalisation": dataset.normalisation}
    options["targets"] = [target.name for target in dataset.targets]
    if stream._form == "graphs":
        options["edges"] = dataset.edges
    return ShowerStream(
        list(stream._configs), stream._batch_size, seed=stream._seed, first=stream._first, form=stream._form,
        engine="cuda", **options,
    )  # fmt: skip


def encoder(batch: int, processes: Processes) -> tuple[TrainingTask[Any], StreamBatches[Any]]:
    """Return a task of an encoder with showers in memory, and the batches of the stream."""
    config = TrainingConfig(target="incident_energy", batch_size=batch)
    memory = training_task(supa.simulate(SHOWERS_IN_MEMORY, "critical", seed=2), config, processes=processes)
    return memory, stream_training_task("critical", config, validation_showers=1000, processes=processes)._batches


def graph_network(batch: int, processes: Processes) -> tuple[TrainingTask[Any], StreamBatches[Any]]:
    """Return a task of a graph network with showers in memory, and the batches of the stream."""
    poisson = supa.preset("two-primaries").replace(num_primaries="poisson:2")
    data = shower_graphs(supa.simulate(SHOWERS_IN_MEMORY // 4, poisson, seed=2), "num_primaries")
    graphs = data.graphs.to(processes.device)
    network = Network.for_graphs(preset("best").replace(layers=3, batch_size=batch), graphs)
    memory = graph_task(network, graphs, data.train, data.valid)
    source = ShowerGraphStream(poisson, "num_primaries", validation_showers=500, device=processes.device)
    return memory, graph_task(network, source).data.stream


def ms_per_step(task: TrainingTask[Any], feed: Feed, steps: int) -> tuple[float, float]:
    """Train for some steps, and return the mean time and the mean CPU time of one in ms.

    The start of the iteration is not measured. The CPU time is that of all threads of this process, without a worker.
    """
    batches = feed()
    for step, batch in enumerate(batches, start=-WARM_UP):
        if step == 0:
            _synchronize(task.device)
            start, cpu_start = time.perf_counter(), time.process_time()
        if step == steps:
            break
        task.update(batch, 1e-4)
    _synchronize(task.device)
    elapsed = time.perf_counter() - start, time.process_time() - cpu_start
    del batches
    return 1e3 * elapsed[0] / steps, 1e3 * elapsed[1] / steps


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def measure(task: TrainingTask[Any], origins: dict[str, Feed], steps: int, repeat: int) -> dict[str, Any]:
    """Return the times of a step with each origin of the batches, and their ratios to those with the memory."""
    task.model.train()
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in origins}
    ms_per_step(task, origins["memory"], steps)
    for _ in range(repeat):
        for name, feed in origins.items():
            times[name].append(ms_per_step(task, feed, steps))
    results = {}
    for name, values in times.items():
        ratios = np.divide(values, times["memory"])
        results[name] = {
            "ms per step": float(np.median(values, axis=0)[0]),
            "CPU ms per step": float(np.median(values, axis=0)[1]),
            "ratio to memory, ms": float(np.median(ratios, axis=0)[0]),
            "quartiles of this ratio": np.quantile(ratios[:, 0], [0.25, 0.75]).tolist(),
            "ratio to memory, CPU ms": float(np.median(ratios, axis=0)[1]),
        }
    return results


def making(batches: StreamBatches[Any], steps: int, repeat: int) -> dict[str, float]:
    """Return the CPU time in ms of a batch of the stream, which is made in this thread without a training."""
    made = map(batches._convert, batches.stream)
    times = []
    for _ in range(repeat):
        start = time.thread_time()
        for _ in itertools.islice(made, steps):
            pass
        times.append(1e3 * (time.thread_time() - start) / steps)
    return {"CPU ms per batch": float(np.median(times))}


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2, help="threads of PyTorch")
    parser.add_argument("--batch", type=int, nargs="+", default=[256])
    parser.add_argument("--learners", nargs="+", default=["encoder", "graph network"])
    parser.add_argument("--origins", nargs="+", help="names of the origins of the batches; default: all")
    parser.add_argument("--only-batches", action="store_true", help="measure only how long it takes to make a batch")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--repeat", type=int, default=9)
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", message="This DataLoader will create")
    torch.set_num_threads(arguments.threads)
    processes = Processes(device=torch.device(arguments.device))
    results: dict[str, Any] = {
        "machine": machine(),
        "device": torch.cuda.get_device_name() if arguments.device == "cuda" else "cpu",
        "threads": arguments.threads,
        "versions": {"supa": supa.__version__, "python": platform.python_version(), "torch": torch.__version__},
        "date": time.strftime("%Y-%m-%d"),
    }
    make = {"encoder": encoder, "graph network": graph_network}
    for learner, batch in itertools.product(arguments.learners, arguments.batch):
        task, batches = make[learner](batch, processes)
        results[f"making a batch of the {learner}, batch {batch}"] = making(batches, arguments.steps, arguments.repeat)
        if arguments.only_batches:
            continue
        origins = feeds(task, batches, processes.device)
        origins = {name: origins[name] for name in arguments.origins or origins}
        results[f"{learner}, batch {batch}"] = measure(task, origins, arguments.steps, arguments.repeat)
    give(results, arguments.json)


if __name__ == "__main__":
    main()
