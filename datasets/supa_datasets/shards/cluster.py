"""The connection to a dask scheduler, and to local workers that it starts."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from supa.checks import check_int, format_value
from supa.simulation_plan import MAX_THREADS, available_processors

_TIMEOUT = 30  # seconds to connect to a scheduler

# Preloaded by local workers: Ctrl-C reaches them as well, but the main process ends them.
_IGNORE_CTRL_C = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"


@contextmanager
def connected(scheduler: str, workers: int | None) -> Iterator[Any]:
    """Connect to a scheduler, or start one with local workers.

    Args:
        scheduler: ``"local"``, the address of a scheduler, or the path of a scheduler file.
        workers: Number of local workers; None for one per processor, and for a scheduler that exists.

    Returns:
        Context manager that returns a ``distributed.Client``.

    Raises:
        ImportError: If the package distributed is not installed.
        OSError: If the scheduler does not answer.
        ValueError: If an argument is not allowed.
    """
    address = scheduler_address(scheduler, workers)
    try:
        import dask
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise ImportError(f"Shards need the package {error.name}: pip install 'supa-showers[scale]'.") from None
    if address is not None:
        with _without_log_messages():
            try:
                client = Client(address, timeout=_TIMEOUT, set_as_default=False)
            except (OSError, ValueError) as error:
                raise OSError(f"{scheduler}: the scheduler does not answer ({error}).") from None
            with client:
                yield client
        return
    with (
        dask.config.set({"distributed.worker.preload": [_IGNORE_CTRL_C]}),
        LocalCluster(
            n_workers=available_processors() if workers is None else workers,
            threads_per_worker=1,
            memory_limit=0,
            dashboard_address="127.0.0.1:0",  # any free port, so that several runs do not compete for one
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


@contextmanager
def _without_log_messages() -> Iterator[None]:
    """Suppress the messages of distributed, such as tracebacks of a lost connection, which is reported as an error."""
    handlers = [(handler, handler.level) for handler in logging.getLogger("distributed").handlers]
    for handler, _ in handlers:
        handler.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for handler, level in handlers:
            handler.setLevel(level)


def scheduler_address(scheduler: str, workers: int | None) -> str | None:
    """Check the choice of a scheduler, without connecting to it.

    Args:
        scheduler: ``"local"``, the address of a scheduler, or the path of a scheduler file.
        workers: Number of local workers; None for one per processor, and for a scheduler that exists.

    Returns:
        Address of the scheduler; None for local workers.

    Raises:
        ValueError: If an argument is not allowed.
    """
    if workers is not None:
        check_int(1, MAX_THREADS, "workers", workers)
    if scheduler == "local":
        return None
    if workers is not None:
        raise ValueError(
            f"workers: {workers!r} was given, but only scheduler='local' starts workers; omit it, and start the "
            "workers of your scheduler yourself."
        )
    if "://" in scheduler:
        return scheduler
    path = Path(scheduler)
    if not path.is_file():
        raise ValueError(
            f"scheduler: {scheduler!r} was given, but it must be 'local', an address such as tcp://host:8786, or a "
            "scheduler file, and there is no such file."
        )
    try:
        address = json.loads(path.read_bytes())["address"]
    except (ValueError, KeyError, TypeError):
        address = None
    if not isinstance(address, str):
        raise ValueError(f"{scheduler}: it is not a scheduler file of dask; {format_value(address)} is not an address.")
    return address
