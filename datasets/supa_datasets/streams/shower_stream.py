"""An iterable PyTorch dataset of showers that are simulated during the training."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

import torch
from torch import distributed
from torch.utils.data import IterableDataset, get_worker_info

from supa import ShowerConfig, Showers
from supa.checks import check_int, check_real, counted, format_value
from supa.presets import ConfigLike, as_config
from supa.random import MAX_INDEX, MAX_SEED
from supa.simulation_plan import Record
from supa_datasets.loaders.dataset import FITTED_SHOWERS
from supa_datasets.loaders.source import Sample
from supa_datasets.streams.description import differences
from supa_datasets.streams.forms import StreamForm, checked_options, dataset_class
from supa_datasets.streams.gpu_batches import is_made_on_gpu, items_on_gpu
from supa_datasets.streams.mixture import MixtureWalker, StreamEngine
from supa_datasets.streams.prefetching import checked_device, prefetched

_VERSION = 1
"""Version of the order: of the index and the config of each position, and of the batch that contains it."""

_MOST_RANKS = 1 << 20


class ShowerStream(IterableDataset[Any]):
    """Batches of showers that are simulated while a training runs, without a file and without an end.

    Position p = 0, 1, 2, ... of a stream is the shower with the index ``first`` + p. Batch b contains the positions
    from b times ``batch_size`` on. With several processes (ranks), each one gets a part of every batch. Pass the
    stream to ``DataLoader(stream, batch_size=None, num_workers=...)``, which returns the batches in order for any
    number of workers, or iterate over it directly. An iteration starts at batch 0, or where `start_at` or
    `load_state_dict` set it; when it has reached the end, the next one starts at batch 0.

    ``stream.dataset`` is the dataset that makes the batches, without showers. It has the attribute ``normalisation``.

    Args:
        config: Name of a preset, a `supa.ShowerConfig`, or a list of these, which are mixed at random. The config of a
            shower depends only on its index, the weights and the seed.
        batch_size: Number of showers in each batch, of all ranks together.
        seed: Random seed from 0 to 2**64 - 1.
        first: Index of the first shower. Streams with the same seed and separate ranges of indices have no shower in
            common.
        length: Number of showers; None for a stream without an end. The last batch is smaller if ``batch_size`` does
            not divide it.
        weights: Relative frequency of each config, above 0; the default is the same for all.
        form: ``"points"``, ``"graphs"``, ``"sequences"`` or ``"images"``: the batches are those of `PointDataset`,
            `GraphDataset`, `SequenceDataset` or `ImageDataset`.
        record: ``"hits"``, or ``"particles"`` for forms that need the recorded tree.
        rank: Rank of this process. By default that of ``torch.distributed`` if it is initialised when the stream is
            created, else 0.
        num_ranks: Number of processes that share each batch, by default as for ``rank``.
        engine: ``"cpu"``, or ``"cuda"`` to simulate the same showers on a GPU. With a GPU as ``device``, batches of
            points, and of sequences in the order ``"depth"``, are then made on the GPU as well. Others are made in the
            memory of the host.
        device: Device of the batches, such as ``"cuda"``. A thread then makes the next batches while the training uses
            the present one, and copies them to the device on a stream of its own. None: a batch is made in the memory
            of the host when it is asked for, which the workers of a ``DataLoader`` need.
        **options: Arguments of the dataset of this form, such as ``features``, ``targets``, ``normalisation``,
            ``edges``, ``order`` or ``grid``. For points, ``layout`` is the form of a batch: ``"packed"``,
            ``"padded"`` or ``"reference"``. ``normalisation="fit"`` fits one to the first 10,000 showers.

    Raises:
        ValueError: If an argument is not allowed, an option does not exist, the ranks cannot share a batch evenly, or
            there is no usable GPU.

    Example:
        >>> from itertools import islice
        >>> from supa_datasets import ShowerStream
        >>> from torch.utils.data import DataLoader
        >>> stream = ShowerStream("standard", batch_size=2, seed=1, targets=["attempt"])
        >>> batches = DataLoader(stream, batch_size=None)
        >>> [batch["attempt"].tolist() for batch in islice(batches, 3)]
        [[0, 1], [2, 3], [4, 5]]
        >>> state = stream.state_dict()
        >>> state["batch"]
        3
        >>> resumed = ShowerStream("standard", batch_size=2, seed=1, targets=["attempt"])
        >>> resumed.load_state_dict(state)
        >>> next(iter(resumed))["attempt"].tolist()
        [6, 7]
    """

    def __init__(
        self,
        config: ConfigLike | Sequence[ConfigLike],
        batch_size: int,
        *,
        seed: int = 0,
        first: int = 0,
        length: int | None = None,
        weights: Sequence[float] | None = None,
        form: StreamForm = "points",
        record: Record = "hits",
        rank: int | None = None,
        num_ranks: int | None = None,
        engine: StreamEngine = "cpu",
        device: str | torch.device | None = None,
        **options: Any,
    ) -> None:
        if isinstance(config, str | ShowerConfig) or not isinstance(config, Sequence):
            config = [config]
        if not config:
            raise ValueError("config: an empty list was given, but a stream needs at least one config.")
        self._configs = tuple(as_config(one) for one in config)
        self._fractions = _fractions(weights, len(self._configs))
        self._batch_size = check_int(1, MAX_INDEX, "batch_size", batch_size)
        self._seed = check_int(0, MAX_SEED, "seed", seed)
        self._length = None if length is None else check_int(0, MAX_INDEX, "length", length)
        self._first = check_int(0, MAX_INDEX - (self._length or 0), "first", first)
        self._end = MAX_INDEX - self._first if self._length is None else self._length
        self._rank, self._num_ranks = _process(rank, num_ranks)
        self._check_shares()
        self._form, self._record = form, record
        self._engine, self._device = engine, None if device is None else checked_device(device)
        self.dataset = self._empty_dataset(options)
        self._start = 0
        self._next: int | None = None  # until an iteration has begun

    def _check_shares(self) -> None:
        ranks = self._num_ranks
        if self._batch_size % ranks:
            raise ValueError(
                f"batch_size: {self._batch_size} was given, but {ranks} ranks must share each batch evenly; give a "
                f"multiple of {ranks}."
            )
        if 0 < (last := self._end % self._batch_size) < ranks and self._length is not None:
            raise ValueError(
                f"length: {self._length} was given, but then the last batch has {counted(last, 'shower')} for {ranks} "
                f"ranks; give a multiple of batch_size ({self._batch_size}), or {ranks} or more above a multiple."
            )

    def _empty_dataset(self, options: dict[str, Any]) -> Any:
        """Create the dataset that makes the batches."""
        kind, options = dataset_class(self._form), checked_options(self._form, options)
        walker = self._walker()
        if isinstance(options.get("normalisation"), str) and options["normalisation"] == "fit":
            showers = walker.pieces(0, min(FITTED_SHOWERS, self._end))
            options["normalisation"] = kind(showers, fractions={"train": 1.0}, **options).normalisation
        dataset = kind(walker.pieces(0, 0), **options)
        # Now everything is compiled, before a thread or the workers of a DataLoader make batches.
        dataset.items_of(walker.walk(0, 0))
        return dataset

    def _walker(self) -> MixtureWalker:
        return MixtureWalker(self._configs, self._fractions, self._seed, self._first, self._record, self._engine)

    def __repr__(self) -> str:
        length = "endless" if self._length is None else counted(self._length, "shower")
        return f"<ShowerStream: {length} as {self._form}, {self._batch_size:,} per batch, seed {self._seed}>"

    def __len__(self) -> int:
        """Return the number of batches."""
        if self._length is None:
            raise TypeError("An endless stream has no length; give length=... for a stream that ends.")
        return self._num_batches

    @property
    def device(self) -> torch.device | None:
        """Device of the batches; None if they are made in the memory of the host when they are asked for."""
        return self._device

    @property
    def _num_batches(self) -> int:
        return -(-self._end // self._batch_size)

    def __iter__(self) -> Iterator[Any]:
        # Not a generator, which would begin with its first batch: a state may be asked for before.
        worker, workers = _worker()
        if get_worker_info() is not None and (self._engine == "cuda" or self._device is not None):
            raise ValueError(
                "A worker of a DataLoader needs a stream with engine='cpu' and device=None; with a GPU, iterate over "
                "the stream itself, whose batches are made by a thread."
            )
        self._next = self._start + worker
        return self._handed_out(self._next, workers)

    def _handed_out(self, batch: int, workers: int) -> Iterator[Any]:
        """Yield the batches, and count those that the training has taken, not those that are made ahead."""
        batches = self._simulated(batch, workers)
        if self._device is not None:
            batches = prefetched(batches, self._device)
        with closing(batches):
            for one in batches:
                batch = self._next = batch + workers
                yield one
                del one  # its memory can be used again
        self._start = 0
        if get_worker_info() is None:  # a worker that has finished keeps its state while the others continue
            self._next = None

    def _simulated(self, batch: int, workers: int) -> Generator[Any, None, None]:
        walker = self._walker()
        # One worker of one rank simulates several batches at once if they are small; those of others are not adjacent.
        at_once = max(1, walker.chunk_size // self._batch_size) if self._num_ranks * workers == 1 else 1
        on_gpu = self._engine == "cuda" and str(self._device).startswith("cuda") and is_made_on_gpu(self.dataset)
        while batch < self._num_batches:
            spans = [self._span(b) for b in range(batch, min(batch + at_once, self._num_batches))]
            batch += workers * len(spans)
            yield from self._collated_on_gpu(walker, spans) if on_gpu else self._collated(walker, spans)

    def _collated(self, walker: MixtureWalker, spans: Sequence[tuple[int, int]]) -> Iterator[Any]:
        """Simulate the showers of spans at once, and yield the batch of each span."""
        begin = spans[0][0]
        showers, part = walker.walk(begin, spans[-1][1])
        for start, stop in spans:
            own = slice(start - begin, stop - begin)
            yield self.dataset.collate(self.dataset.items_of(Sample(showers[own], part[own])))

    def _collated_on_gpu(self, walker: MixtureWalker, spans: Sequence[tuple[int, int]]) -> Iterator[Any]:
        """Do the same as `_collated` on the GPU of the batches."""
        begin = spans[0][0]
        sample = walker.walk_on_gpu(begin, spans[-1][1])
        try:
            for start, stop in spans:
                yield self.dataset.collate(items_on_gpu(self.dataset, sample.part(start - begin, stop - begin)))
        finally:
            if sample.offset.is_cuda:  # the engine will use the memory again
                torch.cuda.current_stream(sample.offset.device).synchronize()

    def _span(self, batch: int) -> tuple[int, int]:
        """Return the first position of this rank's part of a batch, and the position after its last one."""
        begin = batch * self._batch_size
        size = min(self._batch_size, self._end - begin)
        start, stop = (size * rank // self._num_ranks for rank in (self._rank, self._rank + 1))
        return begin + start, begin + stop

    def showers(self, number: int) -> list[Showers]:
        """Simulate the first showers of the stream, for example to fit a normalisation or for a validation.

        Args:
            number: Number of showers, at most the length.

        Returns:
            The showers of each config, in the order of their positions.

        Raises:
            ValueError: If the stream is shorter.
        """
        return self._walker().pieces(0, check_int(0, self._end, "number", number))

    def start_at(self, batch: int) -> None:
        """Set the batch at which the next iteration starts.

        Args:
            batch: Number of the batch, which is the number of batches that a training has used.

        Raises:
            ValueError: If the stream has fewer batches.
        """
        self._start, self._next = check_int(0, self._num_batches, "batch", batch), None

    def state_dict(self, batch: int | None = None) -> dict[str, Any]:
        """Return the position and a description of what is simulated, in plain values.

        The workers of a ``DataLoader`` have streams of their own, whose positions this stream does not contain. With
        workers, give the number of batches that the training has used.

        Args:
            batch: Number of the next batch. By default the one after the last batch of the latest iteration over this
                object.

        Returns:
            State for `load_state_dict`, which can be written as JSON or by ``torch.save``.

        Raises:
            ValueError: If the stream has fewer batches.
        """
        if batch is not None:
            batch = check_int(0, self._num_batches, "batch", batch)
        else:
            batch = self._start + _worker()[0] if self._next is None else self._next
        return {"batch": batch, "stream": self._description()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue where another stream stopped: start the next iteration at its next batch.

        The number of ranks, the number of workers, the length and the options of the dataset may differ.

        Args:
            state_dict: State from `state_dict`.

        Raises:
            ValueError: If the state belongs to other showers or other batches. The message names what differs.
        """
        if not isinstance(state_dict, Mapping) or not isinstance(state_dict.get("stream"), Mapping):
            raise ValueError(
                f"state_dict: {format_value(state_dict)} was given, but it must be a result of ShowerStream.state_dict."
            )
        if found := differences(state_dict["stream"], self._description()):
            raise ValueError(
                f"The state belongs to another stream. These settings differ: {'; '.join(found)}. Create the stream "
                "with the settings of the state, or start a new one."
            )
        worker, workers = _worker()
        batch = check_int(0, self._num_batches + workers, "batch", state_dict.get("batch"))
        # A StatefulDataLoader calls this method in each worker with the worker's own next batch.
        self._start, self._next = batch - worker, None

    def _description(self) -> dict[str, Any]:
        return {
            "version": _VERSION,
            "configs": [config.to_dict() for config in self._configs],
            "weights": list(self._fractions),
            "seed": self._seed,
            "first": self._first,
            "batch_size": self._batch_size,
            "form": self._form,
        }


def _worker() -> tuple[int, int]:
    """Return the number of this worker of a ``DataLoader``, and the number of workers."""
    info = get_worker_info()
    return (0, 1) if info is None else (info.id, info.num_workers)


def _process(rank: int | None, num_ranks: int | None) -> tuple[int, int]:
    if rank is None and num_ranks is None:
        initialised = distributed.is_available() and distributed.is_initialized()
        return (distributed.get_rank(), distributed.get_world_size()) if initialised else (0, 1)
    if rank is None or num_ranks is None:
        raise ValueError(f"Give both rank and num_ranks, or neither, got rank={rank} and num_ranks={num_ranks}.")
    num_ranks = check_int(1, _MOST_RANKS, "num_ranks", num_ranks)
    return check_int(0, num_ranks - 1, "rank", rank, "(num_ranks - 1)"), num_ranks


def _fractions(weights: Sequence[float] | None, configs: int) -> tuple[float, ...]:
    if weights is None:
        return (1 / configs,) * configs
    if not isinstance(weights, list | tuple) or len(weights) != configs:
        raise ValueError(
            f"weights: {format_value(weights)} was given, but it must be a list with one number for each config, of "
            f"which there {'is' if configs == 1 else 'are'} {configs}."
        )
    values = [check_real(lambda w: w > 0, "above 0", "weights", weight) for weight in weights]
    return tuple(value / sum(values) for value in values)
