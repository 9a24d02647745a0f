"""Fixtures of the tests of files."""

import pytest

from supa_datasets.layout import HITS, PARTICLES, PRIMARIES


@pytest.fixture
def small_chunks(monkeypatch):
    """Make chunks, batches and queues so small that 300 showers fill many of them."""
    for table, rows in ((HITS, 512), (PRIMARIES, 32), (PARTICLES, 1024)):
        monkeypatch.setitem(vars(table), "chunk", rows)
    for module in ("hdf5_create", "shower_buffer"):
        monkeypatch.setattr(f"supa_datasets.{module}.SHOWER_CHUNK", 16)
    monkeypatch.setattr("supa_datasets.shower_buffer.BATCH_ROWS", 3000)
    monkeypatch.setattr("supa_datasets.shower_buffer.BATCH_SHOWERS", 13)
    monkeypatch.setattr("supa_datasets.writer._SAVE_BATCHES", 2)
    monkeypatch.setattr("supa_datasets.writer._SYNC_SAVES", 1)
    monkeypatch.setattr("supa_datasets.chunk_queue._PIECES_PER_THREAD", 3)
