"""Shared functions of the benchmarks: describe the machine, summarise repetitions, print results."""

import json
import os
import platform
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from supa.checks import counted


def machine() -> str:
    """Return a description of the machine."""
    return f"{platform.machine()}, {counted(os.cpu_count() or 1, 'processor')}, {platform.system()}"


def torch_facts() -> dict[str, Any]:
    """Return the machine, the versions of the packages and the date."""
    import torch

    import supa

    versions = {"supa": supa.__version__, "python": platform.python_version(), "torch": torch.__version__}
    return {"machine": machine(), "versions": versions, "date": time.strftime("%Y-%m-%d")}


def gpu_facts() -> dict[str, Any]:
    """Return the machine, its GPU, the versions of the packages and the date."""
    import torch
    import triton

    facts = torch_facts()
    facts["versions"] |= {"triton": triton.__version__, "cuda": torch.version.cuda}
    return {"device": torch.cuda.get_device_name(), **facts}


def best_and_median(rates: list[float]) -> dict[str, float]:
    """Summarise the rates of repetitions. Other work on a shared machine can only slow them down."""
    return {"best": max(rates), "median": statistics.median(rates)}


def note(text: str) -> None:
    """Print a line to the standard error, beside the results."""
    print(text, file=sys.stderr, flush=True)


def give(results: dict[str, Any], path: Path | None) -> None:
    """Print the results as JSON, and write them to a file if a path is given."""
    text = json.dumps(results, indent=2)
    print(text)
    if path:
        path.write_text(text + "\n")
