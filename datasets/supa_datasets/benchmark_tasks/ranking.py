"""Files of scores, one JSON object in each line, and their order in a table."""

import json
from collections import defaultdict
from collections.abc import Iterable
from os import PathLike
from pathlib import Path

from supa.atomic_file import atomic_write
from supa.texts import printable, read_json
from supa_datasets.benchmark_tasks.definitions import benchmark_names, definitions
from supa_datasets.benchmark_tasks.score import Score

_SMALLER_IS_BETTER = ("Frechet distance", "error of ln E")


def add_score(path: str | PathLike[str], score: Score) -> None:
    """Append a score to a file, one JSON object in each line. The file is created if it does not exist.

    Args:
        path: Path of the file; its folder must exist.
        score: The score.

    Raises:
        FileNotFoundError: If the folder does not exist.
        ValueError: If the file contains anything other than scores.

    Example:
        >>> from supa_datasets import Score, add_score, read_scores
        >>> add_score("scores.json", Score("energy-graphs", 1, 2000, "a", 0.5, (), (), 0, "", "0.1.0", "2026-11-29"))
        >>> add_score("scores.json", Score("energy-graphs", 1, 2000, "b", 0.1, (), (), 0, "", "0.1.0", "2026-11-29"))
        >>> [score.label for score in read_scores(["scores.json"])]
        ['a', 'b']
    """
    with atomic_write(path) as file:  # which locks the file until it is complete
        before = read_scores([path]) if Path(path).exists() else []
        lines = (json.dumps(one.to_dict(), allow_nan=False) for one in (*before, score))
        file.write("".join(f"{line}\n" for line in lines).encode())


def read_scores(paths: Iterable[str | PathLike[str]]) -> list[Score]:
    """Read the scores of several files.

    Args:
        paths: Paths of files of `add_score`.

    Returns:
        The scores in order, without repetitions.

    Raises:
        FileNotFoundError: If a file does not exist.
        ValueError: If a line is not a score. The message states the file and the line.

    Example:
        See `add_score`.

        >>> from supa_datasets import read_scores
        >>> read_scores([])
        []
    """
    scores: dict[Score, None] = {}  # a set that keeps the order
    for path in map(Path, paths):
        name = printable(str(path))
        if not path.is_file():
            raise FileNotFoundError(f"{name}: there is no such file.")
        for number, line in enumerate(path.read_bytes().splitlines(), 1):
            if not line.strip():
                continue
            try:
                values = read_json(line)
                if not isinstance(values, dict):
                    raise ValueError("it is not a JSON object")
                scores[Score.from_dict(values)] = None
            except ValueError as error:
                raise ValueError(
                    f"{name}: line {number} is not a score of supa score --json ({printable(str(error)).rstrip('.')})."
                ) from None
    return list(scores)


def rank_scores(scores: Iterable[Score]) -> dict[tuple[str, int, int], list[Score]]:
    """Group comparable scores and sort each group, the best score first.

    Args:
        scores: Scores of any tasks.

    Returns:
        Dictionary from (task, version of the task, number of showers) to the sorted scores. Scores of different
        groups are not comparable. Scores with p-values above 0.05 come first. The metric ``rank_by`` of the task
        orders them, and the others. Scores of unknown tasks are sorted by label.

    Example:
        >>> from supa_datasets import Score, ScoreMetric, rank_scores
        >>> def score(label, value):
        ...     metric = ScoreMetric("accuracy", value, 0.9, 0.01, 0.0)
        ...     return Score("energy-graphs", 1, 2000, label, 0.5, (metric,), (), 0, "", "0.1.0", "2026-11-29")
        >>> ranked = rank_scores([score("worse", 0.7), score("better", 0.8)])
        >>> [one.label for one in ranked["energy-graphs", 1, 2000]]
        ['better', 'worse']
    """
    groups: dict[tuple[str, int, int], list[Score]] = defaultdict(list)
    for score in scores:
        groups[score.task, score.task_version, score.num_showers].append(score)
    names = benchmark_names()
    known = {name: place for place, name in enumerate(names)}
    ordered = sorted(groups, key=lambda group: (known.get(group[0], len(names)), group[0], -group[1], -group[2]))
    return {group: sorted(groups[group], key=_place) for group in ordered}


def _place(score: Score) -> tuple[bool, float, str]:
    if score.task not in definitions():
        return score.differs, 0.0, score.label
    name = definitions()[score.task]["rank_by"]
    value = next((metric.value for metric in score.metrics if metric.name == name), None)
    if value is None:
        return score.differs, float("inf"), score.label
    return score.differs, (value if name in _SMALLER_IS_BETTER else -value), score.label
