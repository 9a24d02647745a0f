"""A third learner: a point-cloud classifier of showers with its task, checkpoint and command."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import click
import torch
from torch import Tensor, nn

import supa_datasets
from supa.serialise import Config
from supa_cli.options import Count, InputFile
from supa_cli.training.options import check_output, training_options
from supa_cli.training.session import run_training
from supa_learning import Checkpoint, RandomState, Trainer, TrainingTask, Validation, WarmupCosine, epoch_order
from supa_learning.metrics import accuracy


@dataclass(frozen=True, kw_only=True)
class Settings(Config):
    """Settings of the classifier and its training."""

    files: tuple[str, ...] = ()
    width: int = 16
    epochs: int = 3
    batch_size: int = 32
    learning_rate: float = 0.01
    weight_decay: float = 0.0
    patience: int = 3
    seed: int = 0


class PointClassifier(nn.Module):
    """Classifier of the mean of a function of the points (Deep Sets, arXiv 1703.06114)."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.point = nn.Sequential(nn.Linear(3, settings.width), nn.ReLU(), nn.Dropout(0.1))
        self.head = nn.Linear(settings.width, len(settings.files))

    def forward(self, points: Tensor, offset: Tensor) -> Tensor:
        mean = torch.segment_reduce(self.point(points), "mean", offsets=offset, axis=0, initial=0)
        return self.head(mean)  # type: ignore[no-any-return]


class ClassifierTask(TrainingTask[tuple[Any, Tensor]]):
    """Task with one file of showers for each class."""

    def __init__(self, settings: Settings) -> None:
        def read(split: str) -> list[tuple[Tensor, int]]:
            parts = [supa_datasets.PointDataset(file, split=split) for file in settings.files]
            return [(item["points"][:, :3], label) for label, part in enumerate(parts) for item in part]

        self.train, self.valid = read("train"), read("validation")
        with RandomState(settings.seed).as_global():
            model = PointClassifier(settings)
        self.adam = torch.optim.Adam(model.parameters(), weight_decay=settings.weight_decay)
        plan = {"seed": settings.seed, "epochs": settings.epochs, "patience": settings.patience}
        super().__init__(model, schedule=WarmupCosine(settings.learning_rate, 0.1), optimizer=self.adam, **plan)
        self.settings = settings

    @property
    def steps_per_epoch(self) -> int:
        return -(-len(self.train) // self.settings.batch_size)

    @property
    def units(self) -> int:
        return len(self.train)

    def batches(self, stage: int, epoch: int, first: int) -> Iterator[tuple[Any, Tensor]]:
        self.model.train()
        order = epoch_order(len(self.train), self.seed, stage, epoch).tolist()
        return self._batches([self.train[k] for k in order], first)

    def update(self, batch: tuple[Any, Tensor], learning_rate: float) -> Tensor:
        self.adam.param_groups[0]["lr"] = learning_rate
        self.adam.zero_grad()
        loss = nn.functional.cross_entropy(self.model(*batch[0]), batch[1])
        loss.backward()  # type: ignore[no-untyped-call]
        self.adam.step()
        return loss.detach() * len(batch[1])

    def figures(self, totals: Tensor) -> dict[str, dict[str, float]]:
        return {"classifier": {"loss": float(totals) / len(self.train)}}

    def validation_batches(self) -> Iterator[tuple[Any, Tensor]]:
        return self._batches(self.valid, 0)

    def validate(self, batches: Iterable[tuple[Any, Tensor]]) -> Validation:
        self.model.eval()
        scores, targets = zip(*[(self.model(*points), target) for points, target in batches], strict=True)
        value = accuracy(torch.cat(scores), torch.cat(targets))
        return Validation((value,), {"classifier": {"accuracy": value}})

    def _batches(self, items: list[tuple[Tensor, int]], first: int) -> Iterator[tuple[Any, Tensor]]:
        size = self.settings.batch_size
        for begin in range(first * size, len(items), size):
            points, labels = zip(*items[begin : begin + size], strict=True)
            offset = torch.tensor([0, *map(len, points)]).cumsum(0)
            yield (torch.cat(points), offset), torch.tensor(labels)


@dataclass(frozen=True, eq=False, kw_only=True)
class ClassifierCheckpoint(Checkpoint):
    """Checkpoint of the classifier."""

    format: ClassVar[str] = "point-classifier"
    written_by: ClassVar[str] = "points train"
    settings: Settings

    def model(self) -> PointClassifier:
        model = PointClassifier(self.settings)
        model.load_state_dict(self.training["model"])
        return model.eval()

    def to_dict(self) -> dict[str, Any]:
        return {"settings": self.settings.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        return cls(settings=Settings.from_dict(values["settings"]), training=values["training"])


@click.command(name="train")
@click.argument("data", nargs=-1, required=True, type=InputFile())
@click.option("--width", type=Count(1), help="Width of the vector of a point.")
@training_options(items="showers", defaults=Settings().to_dict())
def command(
    data: tuple[str, ...], config_file: str | None, output: str, resume: bool, tensorboard: str | None, quiet: bool,
    device: str, **options: Any,
) -> None:  # fmt: skip
    """Train a classifier that distinguishes the files DATA, on the CPU."""
    path = Path(output)
    check_output(path, resume=resume)
    given = {name: value for name, value in options.items() if value is not None}
    from_file = {} if config_file is None else Settings.settings_from_file(config_file)
    task = ClassifierTask(Settings.from_dict({**from_file, **given, "files": data}))
    trainer = Trainer(task)

    def take() -> ClassifierCheckpoint:
        return ClassifierCheckpoint(settings=task.settings, training=trainer.state_dict())

    stored = ClassifierCheckpoint.load(path) if resume and path.exists() else None
    run_training(
        trainer, path, take, stored=stored, facts=ClassifierCheckpoint.to_dict, items="showers",
        advice="Fewer --epochs take less time.", tensorboard=tensorboard, quiet=quiet,
    )  # fmt: skip
