"""Training batches from a stream: position, epochs, exact resume and refused states."""

import threading

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from supa_datasets import ShowerStream  # noqa: E402
from supa_learning import RandomState, StepDecay, StreamBatches, Trainer, TrainingTask, Validation  # noqa: E402

STEPS, EPOCHS = 5, 3


def _batches(config="standard", steps=STEPS, **options):
    stream = ShowerStream(config, 4, seed=1, targets=["attempt", "incident_energy"], **options)
    return StreamBatches(stream, steps_per_epoch=steps, epochs=EPOCHS, convert=lambda batch: batch)


def _first(batches):
    return [int(batch["attempt"][0]) // 4 for batch in batches]


class _Task(TrainingTask):
    """Two stages; the prediction is the mean of the points."""

    steps_per_epoch, units, stages = STEPS, 4 * STEPS, 2

    def __init__(self):
        with RandomState(0).as_global():
            model = torch.nn.Linear(4, 1)
        plan = {"seed": 0, "epochs": EPOCHS, "patience": 2, "schedule": StepDecay(0.1)}
        super().__init__(model, optimizer=torch.optim.Adam(model.parameters()), **plan)
        self.data, self.used = _batches(), []

    def batches(self, stage, epoch, first):
        return self.data.batches(stage, epoch, first)

    def update(self, batch, learning_rate):
        self.used.append(int(batch["attempt"][0]) // 4)
        self.optimizer.zero_grad()
        loss = self.model(batch["points"]).square().mean()
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def figures(self, totals):
        return {"model": {"loss": float(totals)}}

    def validation_batches(self):
        return [None]

    def validate(self, batches):
        # The first stage ends early, because its score does not rise.
        return Validation((float(len(list(batches))),))

    def state_dict(self):
        return super().state_dict() | {"stream": self.data.state_dict()}

    def load_state_dict(self, state):
        self.data.load_state_dict(state["stream"])
        super().load_state_dict(state)


@pytest.mark.parametrize("device", [None, "cpu"])
def test_each_stage_and_epoch_has_its_own_batches(device):
    data = _batches(device=device)
    assert _first(data.batches(0, 0, 0)) == [0, 1, 2, 3, 4]
    thread = next(t for t in threading.enumerate() if t.name.startswith("supa-prefetch"))
    assert _first(data.batches(0, 1, 0)) == [5, 6, 7, 8, 9]
    assert thread.is_alive()  # the iteration goes on from epoch to epoch
    assert data.state_dict()["batch"] == 10
    assert _first(data.batches(1, 0, 2)) == [17, 18, 19]
    assert _first(data.batches(0, 0, 4)) == [4]
    data.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("supa-prefetch")]


@pytest.mark.parametrize("stop", [1, 5, 7, 11, 14])
def test_a_resumed_training_has_the_same_bits(stop):
    whole = Trainer(_Task())
    whole.run()
    assert whole.task.used == [*range(10 + STEPS), *range(15, 15 + 3 * STEPS)][: len(whole.task.used)]
    steps = iter(range(1, 1000))
    stopped = Trainer(_Task(), should_stop=lambda: False)
    update = stopped.task.update

    def interrupted(batch, learning_rate):
        result = update(batch, learning_rate)
        if next(steps) == stop:
            stopped.should_stop = lambda: True
        return result

    stopped.task.update = interrupted
    with pytest.raises(KeyboardInterrupt):
        stopped.run()
    stopped.task.data.close()
    state = stopped.state_dict()
    assert state["task"]["stream"]["batch"] == stopped.task.used[-1] + 1
    resumed = Trainer(_Task())
    resumed.load_state_dict(state)
    resumed.run()
    assert stopped.task.used + resumed.task.used == whole.task.used
    for name, weights in whole.task.model.state_dict().items():
        assert torch.equal(weights, resumed.task.model.state_dict()[name])
    resumed.task.data.close()
    whole.task.data.close()


def test_the_state_of_another_stream_is_refused():
    state = _batches().state_dict()
    with pytest.raises(ValueError, match=r"configs\[0\]"):
        _batches("critical").load_state_dict(state)
    with pytest.raises(ValueError, match="An epoch had 5 batches, but has 6 now; use the same number"):
        _batches(steps=6).load_state_dict(state)
