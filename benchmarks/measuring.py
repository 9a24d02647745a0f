"""What the benchmarks share: how they name the machine, sum repetitions up, and give their results."""

import json
import os
import platform
import statistics
import time
from pathlib import Path
from typing import Any

from supa.checks import counted


def machine() -> str:
    """Name the machine."""
    return f"{platform.machine()}, {counted(os.cpu_count() or 1, 'processor')}, {platform.system()}"


def gpu_facts() -> dict[str, Any]:
    """Name the machine with its GPU, the versions and the date."""
    import torch
    import triton

    import supa

    versions = {"supa": supa.__version__, "python": platform.python_version()}
    versions |= {"torch": torch.__version__, "triton": triton.__version__}
    device = torch.cuda.get_device_name()
    return {"machine": machine(), "device": device, "versions": versions, "date": time.strftime("%Y-%m-%d")}


def best_and_median(rates: list[float]) -> dict[str, float]:
    """Sum up the rates of repetitions: other work on a shared machine only ever slows."""
    return {"best": max(rates), "median": statistics.median(rates)}


def give(results: dict[str, Any], path: Path | None) -> None:
    """Print the results as JSON, and write them to a file if one is named."""
    text = json.dumps(results, indent=2)
    print(text)
    if path:
        path.write_text(text + "\n")
