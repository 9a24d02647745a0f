"""``supa mamba train``: train an encoder of showers, and save it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from supa.checks import counted
from supa_cli import known
from supa_cli.checkpoints import Save, board, check_output, check_same, chosen_device, saved
from supa_cli.forecast import Forecast
from supa_cli.interruption import asked, finished, in_order
from supa_cli.options import Choice, Count, Folder, InputFile, Known, OutputFile
from supa_cli.progress import progress
from supa_cli.terminal_text import echo

if TYPE_CHECKING:
    from supa_mamba.checkpoint import Checkpoint
    from supa_mamba.config import TrainingConfig
    from supa_mamba.training import Epoch, Trainer

_SECONDS_BETWEEN_FILES = 60.0
_ADVICE = (
    "Fewer showers or --epochs, or smaller --d-model and --n-layer take less, and so does a GPU (--device cuda) or "
    "several (torchrun)."
)


@click.command(name="train")
@click.argument("data", nargs=-1, required=True, type=InputFile())
@click.option("--target", type=Known(known.targets), help="num_primaries, primary, preset or incident_energy.")
@click.option("--config", "config_file", type=click.Path(dir_okay=False), help="Settings from a .toml file.")
@click.option("--d-model", type=Count(1), help="Width of a hit's vector.  [default: 64]")
@click.option("--n-layer", type=Count(1), help="Number of layers.  [default: 4]")
@click.option("--d-state", type=Count(1), help="States of a channel.  [default: 16]")
@click.option("--epochs", type=Count(1), help="Most epochs.  [default: 30]")
@click.option("--batch-size", type=Count(1), help="Showers a batch, over all processes.  [default: 256]")
@click.option("--learning-rate", type=float, help="Highest of AdamW.  [default: 0.002]")
@click.option("--warmup", type=float, help="Share of the steps in which the rate rises.  [default: 0.05]")
@click.option("--weight-decay", type=float, help="Of matrices.  [default: 0.05]")
@click.option("--clip", type=float, help="Largest norm of the gradient.  [default: 1]")
@click.option("--patience", type=Count(1), help="Epochs without a better validation that end it.  [default: 10]")
@click.option("--precision", type=Known(lambda: ("float32", "bf16")), help="float32 or bf16.  [default: float32]")
@click.option("--seed", type=Count(0), help="Of everything random.  [default: 0]")
@click.option("--device", type=Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("-o", "--output", type=OutputFile(), required=True, help="Checkpoint to write.")
@click.option("--resume", is_flag=True, help="Go on with an interrupted training.")
@click.option("--tensorboard", type=Folder(), help="Folder for TensorBoard's events.")
@click.option("--quiet", is_flag=True, help="Print errors only.")
def command(
    data: tuple[str, ...],
    config_file: str | None,
    device: str,
    output: str,
    resume: bool,
    tensorboard: str | None,
    quiet: bool,
    **settings: Any,
) -> None:
    """Train an encoder on the showers of the files DATA.

    A shower's index decides whether it trains (80 %), validates (10 %) or tests (10 %). The checkpoint is whole
    whenever one looks. An interrupted training goes on with the same command and --resume, to the same weights. Several
    processes train together under torchrun: torchrun --nproc-per-node 2 -m supa_cli.main mamba train ...
    """
    path = Path(output)
    check_output(path, resume=resume)
    config = _config(config_file, {name: value for name, value in settings.items() if value is not None})

    from supa_mamba.checkpoint import Checkpoint
    from supa_mamba.showers import packed_showers, training_showers
    from supa_mamba.training import Trainer
    from supa_mamba.workers import workers

    place = chosen_device(device)
    record = board(tensorboard)
    stored = Checkpoint.load(path) if resume and path.exists() else None
    reading, train = training_showers(list(data), config.target)
    valid = packed_showers(list(data), "validation", reading)
    with workers(place) as together, in_order():
        try:
            trainer = Trainer(config, reading, train, valid, workers=together, stop=asked)
        except ValueError as error:
            raise click.UsageError(str(error)) from None
        if stored is not None:
            check_same(path, _facts(stored), _facts(Checkpoint.of(trainer)))
            trainer.load_state_dict(dict(stored.training))
        if together.rank > 0:
            trainer.run()
            finished()
            return
        if not quiet:
            _tell_beginning(path, trainer, stored)
        with (
            saved(
                path,
                Checkpoint.of(trainer),
                fresh=stored is None,
                seconds=_SECONDS_BETWEEN_FILES,
                words=lambda checkpoint: f"{_words(checkpoint)} are",
            ) as save,
            record(len(trainer.state.history)) as write,
            _watched(trainer, save, quiet=quiet) as epochs,
        ):

            def on_epoch(epoch: "Epoch") -> None:
                epochs(epoch)
                write({name: value for name, value in vars(epoch).items() if name != "epoch"}, epoch.epoch)

            trainer.on_epoch = on_epoch
            trainer.run()
    if not quiet:
        _tell_end(path, trainer)


def _config(config_file: str | None, options: dict[str, Any]) -> "TrainingConfig":
    try:
        from supa_mamba.config import TrainingConfig, settings_from_toml
    except ImportError:
        raise click.UsageError("Training needs PyTorch: pip install 'supa-showers[learn]'.") from None
    try:
        from_file = {} if config_file is None else settings_from_toml(config_file)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    try:
        return TrainingConfig.from_dict({**from_file, **options})
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _facts(checkpoint: "Checkpoint") -> dict[str, object]:
    train, valid = checkpoint.showers
    return {
        **checkpoint.config.to_dict(),
        "the number of showers": f"{train:,} to train and {valid:,} to validate on",
        "what the showers hold": checkpoint.digest,
    }


def _words(checkpoint: "Checkpoint") -> str:
    return f"{counted(checkpoint.epochs, 'epoch')} and {counted(checkpoint.training['state']['step'], 'step')}"


def _tell_beginning(path: Path, trainer: "Trainer", stored: "Checkpoint | None") -> None:
    config, together = trainer.config, trainer.workers
    parameters = sum(weights.numel() for weights in trainer.encoder.parameters())
    processes = f" in each of {together.count} processes" if together.count > 1 else ""
    click.echo(
        f"{config.target}: {counted(len(trainer.train), 'shower')} to train on, {len(trainer.valid):,} to validate on; "
        f"{counted(parameters, 'parameter')} in {counted(config.n_layer, 'layer')} of {config.d_model}, "
        f"seed {config.seed}, {config.precision} on {together.device}{processes}",
        err=True,
    )
    if stored is not None:
        echo(f"{path}: {'finished' if stored.finished else 'going on'} after {_words(stored)}", err=True)


def _tell_end(path: Path, trainer: "Trainer") -> None:
    history, best = trainer.state.history, trainer.state.best_epoch
    seconds = sum(epoch.seconds for epoch in history)
    echo(
        f"{path}: best of {counted(len(history), 'epoch')} is epoch {best}, "
        f"validation loss {history[best].valid_loss:.4f}, {trainer.objective.words(history[best].valid_score)}; "
        f"{seconds:,.1f} s, {len(history) * len(trainer.train) / seconds:,.0f} showers/s"
    )


@contextmanager
def _watched(trainer: "Trainer", save: "Save[Checkpoint]", *, quiet: bool) -> Iterator[Any]:
    """Show how far training is, and let its checkpoint be saved; give a function to call with each epoch."""
    from supa_mamba.checkpoint import Checkpoint

    showers, steps = len(trainer.train), trainer.steps_an_epoch
    total, shown = trainer.config.epochs * showers, -1
    forecast = Forecast(_ADVICE, quiet=quiet)
    with progress("training", "starting", quiet=quiet or trainer.state.finished) as told:

        def tell() -> None:
            nonlocal shown
            done = trainer.state.epoch * showers + trainer.state.step * showers // steps
            if done > shown:  # validation makes no step
                told(done, total)
                forecast(done, total)
                shown = done

        def on_step(trainer: "Trainer") -> None:
            save(lambda: Checkpoint.of(trainer), trainer.state.finished)
            tell()

        def on_epoch(epoch: "Epoch") -> None:
            if not quiet:
                click.echo(
                    f"epoch {epoch.epoch}  loss {epoch.loss:.4f}  validation loss {epoch.valid_loss:.4f}  "
                    f"{trainer.objective.words(epoch.valid_score)}  {epoch.seconds:,.1f} s",
                    err=True,
                )

        tell()
        trainer.on_step = on_step
        yield on_epoch
