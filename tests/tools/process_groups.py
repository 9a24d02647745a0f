"""Groups of processes for tests, and what they compute."""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import distributed

from supa_learning import FlatGradients, Processes, Trainer
from supa_mamba import (
    HybridStack,
    MambaStack,
    generator_task,
    parallel_pairs,
    stream_generator_task,
    tensor_parallel,
)
from supa_mamba.training import EncoderTask


def run_together(job, *arguments, folder, devices=("cpu", "cpu"), backend="gloo"):
    """Run a function in one new process for each device, and return the results of all processes.

    Args:
        job: Function of this module that receives `Processes` and the arguments.
        *arguments: Further arguments.
        folder: Empty folder for the files of the group.
        devices: Device of each process. A single process computes the first of two shares: its collective operations
            take place, in a group of one process.
        backend: Backend for the tensors of the devices.
    """
    folder = Path(folder)
    # A forked process needs no imports, which take seconds, but it cannot use a GPU or compute gradients after one.
    start = "spawn" if torch.cuda.is_available() else "fork"
    work = job, arguments, folder, devices, backend
    torch.multiprocessing.start_processes(_work, work, nprocs=len(devices), start_method=start)
    return [torch.load(folder / f"{rank}.pt", map_location="cpu") for rank in range(len(devices))]


def _work(rank, job, arguments, folder, devices, backend):
    torch.set_num_threads(1)
    device = torch.device(devices[rank])
    if device.type == "cuda":
        torch.cuda.set_device(device)
        backend = f"cpu:gloo,cuda:{backend}"
    distributed.init_process_group(backend, f"file://{folder}/group", rank=rank, world_size=len(devices))
    try:
        torch.save(job(Processes(rank, max(2, len(devices)), device), *arguments), folder / f"{rank}.pt")
    finally:
        distributed.destroy_process_group()


class _Counted:
    """Request a stop at the n-th call."""

    def __init__(self, n):
        self.left = n

    def __call__(self):
        self.left -= 1
        return self.left < 0


class TwoLayers(torch.nn.Module):
    """A layer that some inputs do not use, and one in another precision."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.first, self.second = torch.nn.Linear(3, 2), torch.nn.Linear(2, 1).double()
        with torch.no_grad():
            for weights in self.parameters():
                weights.copy_(torch.randn(weights.shape, generator=generator))

    def loss(self, x):
        """Return the sum of the losses; only positive inputs use the second layer."""
        used = x[x[:, 0] > 0]
        loss = self.first(x).square().sum().double()
        return loss + self.second(self.first(used).double()).square().sum() if len(used) else loss


def gradients_of(processes, x):
    """Return the sums of the gradients of both halves of the inputs."""
    model = TwoLayers()
    gradients = FlatGradients(model.parameters())
    gradients.backward(model.loss(x.tensor_split(2)[processes.rank]))
    gradients.sum_(processes)
    return [weights.grad.clone() for weights in model.parameters()]


def steps_of(processes, config, encoding, train, learning_rate):
    """Return the gradients of each step of an epoch."""
    task = EncoderTask(config, encoding, train, train, processes=processes)
    gradients = []
    with task.session():
        for batch in task.batches(0, 0, 0):
            task.update(batch, learning_rate)
            gradients.append([weights.grad.clone() for weights in task.encoder.parameters()])
    return gradients


def trained(processes, config, encoding, train, valid, stop=None, saved=None, cuda_graphs=True, padded=None):
    """Train an encoder. If the training stops, continue it from its state in a new trainer."""
    task = EncoderTask(config, encoding, train, valid, processes=processes, cuda_graphs=cuda_graphs)
    if padded is not None:
        task._padded = padded
    trainer = Trainer(task, should_stop=_Counted(1 << 30 if stop is None else stop[processes.rank]))
    if saved is not None:
        trainer.load_state_dict(saved)
    else:
        for weights in task.encoder.parameters():
            weights.data += 0.1 * processes.rank  # process 0 determines the initial weights
    launches, step = [], task._backward.function
    task._backward.function = lambda inputs: launches.append(None) or step(inputs)
    try:
        trainer.run()
        assert stop is None
    except KeyboardInterrupt:
        assert not trainer.state.finished
        return trained(processes, config, encoding, train, valid, saved=trainer.state_dict(), cuda_graphs=cuda_graphs)
    losses = [[epoch.train["encoder"]["loss"], epoch.valid["encoder"]["loss"]] for epoch in trainer.state.history]
    return {"weights": dict(task.encoder.state_dict()), "losses": losses, "launches": len(launches)}


def everything(processes, x, empty, config, showers, few, saved, generated):
    """Run all jobs of the tests on CPUs in one group, because it takes seconds to start one."""
    return {
        "flat": gradients_of(processes, x),
        "empty": steps_of(processes, *empty),
        "whole": trained(processes, config, *showers),
        "padded": trained(processes, config, *few, padded=True),
        "stopped": trained(processes, config, *showers, stop=(1 << 30, 5)),
        "resumed": trained(processes, config, *showers, saved=saved),
        "generators": generators_trained(processes, *generated),
        "shares": {
            name: passes(tensor_parallel(stack, counted := _CountedSums(processes.rank, processes.count)), counted)
            for name, stack in stacks_to_divide().items()
        },
    }


@dataclass(frozen=True)
class _CountedSums(Processes):
    """Processes that count their sums."""

    sums: list = field(default_factory=list)

    def sum_(self, values):
        self.sums.append(values.shape)
        super().sum_(values)


def stacks_to_divide():
    """Return the same stacks in each process."""
    torch.manual_seed(5)
    transformer = HybridStack(16, 2, range(2), 2, d_intermediate=12, rotary_emb_dim=4)
    mamba = MambaStack(16, 2, "mamba", d_state=4, bias=True)
    mamba2 = MambaStack(16, 2, "mamba2", d_state=4, headdim=8, ngroups=2)
    stacks = {"transformer": transformer, "mamba2": mamba2, "mamba2 with a bias": MambaStack(
        16, 1, "mamba2", d_state=4, headdim=8, ngroups=4, rmsnorm=False, activation="identity", bias=True
    )}  # fmt: skip
    for stack in (transformer, mamba, mamba2):
        for parameter in stack.parameters():
            parameter.data.add_(0.1 * torch.randn_like(parameter))
    for stack in (transformer, mamba, mamba2):
        paired = parallel_pairs(stack, 0, 2)
        stacks[f"{type(paired.layers[0].mixer).__name__}, paired"] = paired
    return {name: stack.double() for name, stack in stacks.items()}


def passes(stack, counted=None):
    """Return the results of packed sequences and of one more row of each, and the number of sums of the former."""
    generator = torch.Generator().manual_seed(6)
    x, more = (torch.randn(rows, 16, dtype=torch.float64, generator=generator) for rows in (7, 3))
    longest = (8,) if isinstance(stack, HybridStack) else ()
    with torch.no_grad():
        y, state = stack(x, torch.tensor([0, 3, 3, 7]), stack.init_state(3, *longest), return_state=True)
        sums = None if counted is None else len(counted.sums)
        return y, stack.step(more, state), sums


def with_and_without_graphs(processes, config, showers):
    """Train with CUDA graphs, without them, and with an interruption."""
    results = [trained(processes, config, *showers, cuda_graphs=graphs) for graphs in (True, False)]
    return [*results, trained(processes, config, *showers, stop=(22, 22))]


def generators_trained(processes, config, showers, stream_config):
    """Train a generator on showers in memory, and one on a stream."""
    tasks = {
        "memory": generator_task(showers, config, processes=processes),
        "stream": stream_generator_task(
            stream_config, config, batches_per_epoch=3, validation_showers=40, processes=processes
        ),
    }
    results = {}
    for name, task in tasks.items():
        with torch.no_grad():
            for weights in [*task.trained.parameters(), *task.model.parameters()]:
                weights.add_(0.1 * processes.rank)  # process 0 determines the initial weights
        trainer = Trainer(task)
        trainer.run()
        history = [(dict(epoch.train), dict(epoch.valid)) for epoch in trainer.state.history]
        results[name] = {"model": dict(task.model.state_dict()), "history": history}
    return results
