"""The run of showers as JSON, for formats that can store it."""

import dataclasses
import json
from typing import Any

from supa import Refinement, Run, ShowerConfig
from supa.checks import check_int, format_value
from supa.texts import read_json

RUN = "supa_run"
CONFIG = "supa_config"


def run_to_text(run: Run) -> str:
    """Return a run as JSON.

    Args:
        run: Run of the showers.

    Returns:
        String with one JSON object.
    """
    fields = {field.name: getattr(run, field.name) for field in dataclasses.fields(run)}
    refinement = fields.pop("refinement")
    if refinement is not None:
        fields["refinement"] = refinement.to_dict()
    return json.dumps({**fields, "config": run.config.to_dict()})


def run_from_text(text: str | bytes) -> Run:
    """Return a run from JSON.

    Args:
        text: Result of ``run_to_text``.

    Returns:
        The run.

    Raises:
        ValueError: If the text is not the JSON of a run.
    """
    try:
        fields = read_json(text)
    except ValueError as error:
        raise ValueError(f"its {RUN} is invalid: {format_value(text)} ({error})") from None
    names = {field.name for field in dataclasses.fields(Run)}
    # Older files have no model, and most files no refinement.
    if not isinstance(fields, dict) or fields.keys() | {"model", "refinement"} != names:
        raise ValueError(f"its {RUN} is invalid: {format_value(text)}")
    engine, keep = fields["engine"], fields["keep"]
    if keep not in ("all", "complete") or engine not in ("cpu", "reference", "several", "imported"):
        raise ValueError(f"its {RUN} has invalid values of keep and engine: {format_value((keep, engine))}")
    return Run(
        config=ShowerConfig.from_dict(fields["config"]),
        seed=_number("seed", fields["seed"], 2**64 - 1),
        first=check_int(0, 2**63 - 1, f"first in {RUN}", fields["first"]),
        engine=engine,
        keep=keep,
        attempts=_number("attempts", fields["attempts"], 2**63 - 1),
        model=_model(fields.get("model")),
        refinement=Refinement.from_dict(fields["refinement"]) if "refinement" in fields else None,
    )


def imported(config: ShowerConfig, total: int) -> Run:
    """Return the run of showers from another program.

    Args:
        config: Physics of the showers.
        total: Number of showers.

    Returns:
        Run with the engine ``"imported"``.
    """
    return Run(config=config, seed=None, first=0, engine="imported", keep="all", attempts=total)


def _model(value: Any) -> str | None:
    if not isinstance(value, str | None):
        raise ValueError(f"its {RUN} has an invalid model: {format_value(value)}")
    return value


def _number(name: str, value: Any, largest: int) -> int | None:
    return None if value is None else check_int(0, largest, f"{name} in {RUN}", value)
