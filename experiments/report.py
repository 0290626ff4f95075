"""Tables of a sweep, from its JSON files alone: arms against one of them, by pairs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.statistics import (
    Difference,
    mean_with_interval,
    paired_difference,
)
from experiments.sweeps import BORROWED
from tf_levelset.files import read_json
from tf_levelset.inference.evaluation import TRIMAP_WIDTHS
from tf_levelset.inference.score_table import table

Result = Mapping[str, Any]
Pair = tuple[str, int, str]
"""Fold, seed and the digest of the weights that a run began with."""

Figure = Callable[[Result], float | None]
"""What is reported of an evaluation, in [0, 1]."""


THINGS = ("pole", "sign", "car", "pedestrian", "bicyclist")
"""CamVid's classes of single objects. Most of what `evaluate` counts as small objects
are pieces of buildings, pavement and other ground."""

LEAST_FOR_INTERVAL = 3
"""Pairs. The interval of two is thirteen times as wide as they are apart."""


def _trimap(width: int) -> Figure:
    return lambda evaluation: evaluation["trimap_mean_iou"][str(width)]


def _small_things(evaluation: Result) -> float | None:
    recalls = [evaluation["class_small_object_recall"].get(name) for name in THINGS]
    known = [recall for recall in recalls if recall is not None]
    return sum(known) / len(known) if known else None


FIGURES: dict[str, Figure] = {
    "mIoU": lambda e: e["mean_iou"],
    "without bicyclist": lambda e: e["mean_iou_without"]["bicyclist"],
    **{f"trimap {width} px": _trimap(width) for width in TRIMAP_WIDTHS},
    "boundary IoU": lambda e: e["boundary_iou"],
    "small objects": lambda e: e["small_object_recall"],
    "small things": _small_things,
    "accuracy": lambda e: e["pixel_accuracy"],
}
"""The columns of tables, shown in percent."""


def read_results(folder: Path) -> list[Result]:
    """Reads the trials of a sweep.

    Raises:
        FileNotFoundError: if there is none.
    """
    results = _read(folder)
    if not results:
        raise FileNotFoundError(
            f"Expected a sweep's results. Received: none in {folder}"
        )
    return results


def _read(folder: Path) -> list[Result]:
    return [read_json(path) for path in sorted(folder.glob("*.json"))]


def read_sweep(folder: Path, name: str) -> list[Result]:
    """Reads a sweep of a folder of results, with what it borrows, see `BORROWED`.

    What is borrowed says so, as "borrowed". Nothing is of folds that the sweep does not
    have.

    Raises:
        FileNotFoundError: if there is none of the sweep's own.
    """
    runs = read_results(folder / name)
    folds = {run["fold"] for run in runs}
    return runs + [
        {**run, "arm": arm, "borrowed": sweep}
        for arm, sources in BORROWED.get(name, {}).items()
        for sweep, theirs in sources
        for run in _read(folder / sweep)
        if run["arm"] == theirs and run["fold"] in folds
    ]


def pair_of(result: Result) -> Pair:
    """What a run shares with those that it is compared with.

    A start that is trained again, on another machine or with more threads, is not quite
    the same. The first sweeps did not note what their runs began with. What begins
    without a start has the weights that its seed decides, and is a pair by its seed.
    """
    began = "" if result["start"] is None else result.get("initial_weights", "")
    return result["fold"], result["seed"], began


def by_arm(results: Sequence[Result], figure: Figure) -> dict[str, dict[Pair, float]]:
    """One figure of every trial, in percent, by arm and then by pair.

    What a CRF makes of an arm is an arm of its own, "ARM + CRF".
    """
    arms: dict[str, dict[Pair, float]] = {}
    for result in results:
        evaluations = {"": result["evaluation"], " + CRF": result.get("crf_evaluation")}
        for suffix, evaluation in evaluations.items():
            value = None if evaluation is None else figure(evaluation)
            if value is not None:
                pair = pair_of(result)
                arms.setdefault(result["arm"] + suffix, {})[pair] = 100 * value
    return arms


def class_figures(results: Sequence[Result]) -> dict[str, Figure]:
    """The IoU of each class, by its name."""

    def iou(name: str) -> Figure:
        return lambda evaluation: evaluation["class_iou"][name]

    return {name: iou(name) for name in results[0]["evaluation"]["class_iou"]}


def paired_table(
    results: Sequence[Result], baseline: str, figures: Mapping[str, Figure] = FIGURES
) -> str:
    """Markdown: a row an arm, its means of the pairs it shares with the baseline.

    The baseline's row has means; the others' the mean difference and its 95 % interval.

    Args:
        results: as `read_results` gives them.
        baseline: the arm to compare with.
        figures: the columns; the rows are sorted by the first.

    Raises:
        ValueError: if no trial is of the baseline.
    """
    columns = {title: by_arm(results, figure) for title, figure in figures.items()}
    arms = next(iter(columns.values()))
    if baseline not in arms:
        raise ValueError(f"Expected an arm of {sorted(arms)}. Received: {baseline!r}")
    rows: list[Sequence[str]] = [("arm", "pairs", *columns)]
    means = [
        f"{mean_with_interval(list(values[baseline].values())).mean:.2f}"
        for values in columns.values()
    ]
    rows.append((baseline, str(len(arms[baseline])), *means))
    others = [arm for arm in arms if arm != baseline]
    for arm in sorted(others, key=lambda arm: -difference(arms, arm, baseline).mean):
        differences = [difference(v, arm, baseline) for v in columns.values()]
        pairs = str(len(differences[0].values))
        rows.append((arm, pairs, *map(signed, differences)))
    return table(rows)


def difference(
    values: Mapping[str, Mapping[Pair, float]], arm: str, baseline: str
) -> Difference:
    """One arm's figures less the baseline's, of `by_arm`; see `paired_difference`."""
    return paired_difference(values[arm], values[baseline])


def signed(difference: Difference) -> str:
    """A difference with its interval, where there are pairs enough for one."""
    if len(difference.values) < LEAST_FOR_INTERVAL:
        return f"{difference.mean:+.2f}"
    low, high = difference.interval
    return f"{difference.mean:+.2f} [{low:+.2f}, {high:+.2f}]"
