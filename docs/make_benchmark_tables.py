"""Write the tables of docs/explanation/benchmark_tasks.md: tasks, scores of simple models, calibration.

Run ``python docs/make_benchmark_tables.py`` after ``benchmarks/benchmark_tasks.py``, which writes the scores and the
calibration to ``docs/data``.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import supa
from supa.checks import counted
from supa.number_format import format_number, format_with_error
from supa_datasets import Score, benchmark_names, benchmark_task, rank_scores, read_scores

PAGE = Path(__file__).parent / "explanation" / "benchmark_tasks.md"
DATA = Path(__file__).parent / "data"


def page() -> str:
    """Return the page with new tables."""
    text = PAGE.read_text(encoding="utf-8")
    for name, lines in (("tasks", _tasks()), ("scores", _scores()), ("calibration", _calibration())):
        block = "\n".join(lines).strip()
        text = re.sub(
            rf"(<!-- {name} -->).*?(<!-- end of {name} -->)",
            lambda found, block=block: f"{found[1]}\n\n{block}\n\n{found[2]}",
            text,
            flags=re.DOTALL,
        )
    return text


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _header(*cells: str) -> Iterator[str]:
    yield _row(*cells)
    yield f"|{'---|' * len(cells)}"


def _tasks() -> Iterator[str]:
    yield from _header("task", "difficulty", "kind", "a model generates or predicts", "config", "showers")
    for name in benchmark_names():
        task = benchmark_task(name)
        yield _row(
            f"`{name}`", str(task.difficulty), task.kind, task.predicted, f"{_config(name)}", f"{task.num_showers:,}"
        )


def _config(name: str) -> str:
    """Return the preset with its changes."""
    config = benchmark_task(name).config.to_dict()
    found = []
    for preset in supa.PRESETS.values():
        base = preset.config.to_dict()
        changes = {key: value for key, value in config.items() if value != base[key]}
        found.append((len(changes), preset.name, changes))
    _, preset_name, changes = min(found, key=lambda entry: entry[0])
    texts = [f"`{key} = {value}`" for key, value in changes.items()]
    return ", ".join([f"`{preset_name}`", *texts])


def _scores() -> Iterator[str]:
    for (name, version, num), scores in rank_scores(read_scores([DATA / "benchmark_scores.json"])).items():
        metrics = [metric.name for metric in scores[0].metrics]
        yield f"**`{name}`**, version {version}, {counted(num, 'shower')}:\n"
        yield from _header("model", "p", *metrics)
        yield from (_row(score.label, _p(score), *(_cell(score, metric) for metric in metrics)) for score in scores)
        floors = (scores[0][metric] for metric in metrics)
        yield _row("*noise floor*", "", *(format_with_error(floor.floor, floor.spread) for floor in floors))
        yield ""


def _p(score: Score) -> str:
    return format_number(score.p_value, 2) if score.p_value >= 1e-4 else "< 0.0001"


def _cell(score: Score, name: str) -> str:
    return format_number(score[name].value)


def _calibration() -> Iterator[str]:
    found = json.loads((DATA / "benchmark_calibration.json").read_text(encoding="utf-8"))
    yield from _header(
        "task", "showers", "seeds", "p at most 0.05", "p at most 0.01", "pulls: mean ± standard deviation"
    )
    for name, facts in found["results"].items():
        pulls = [
            f"{metric} {values['mean']:+.2f} ± {values['std']:.2f}"
            for metric, values in facts["pulls"].items()
            if values["std"] > 0
        ]
        numbers = [str(facts[key]) for key in ("showers", "seeds", "p at most 0.05", "p at most 0.01")]
        yield _row(f"`{name}`", *numbers, "; ".join(pulls) or "always at the floor")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
