"""Tables of a sweep: each configuration against one of them, in pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.results import Row
from experiments.statistics import Difference, mean_with_interval, paired_difference
from tf_levelset.inference.score_table import table

Pair = tuple[str, int, str]
"""Fold, seed and the digest of the weights that a training began with."""

COLUMNS = {
    "mIoU": "mean_iou",
    "without bicyclist": "mean_iou_without_bicyclist",
    "trimap 3 px": "trimap_3_px",
    "small things": "small_things_recall",
    "boundary IoU": "boundary_iou",
    "accuracy": "pixel_accuracy",
}
"""Titles of the columns and the scores that they show, in percent."""

LEAST_FOR_INTERVAL = 3
"""Fewer pairs than these have no interval: that of two is useless."""


def pair_of(row: Row) -> Pair:
    """Returns what a training shares with those that it is compared with.

    A start that is trained again on another machine is not quite the same, hence the
    digest. A training from scratch has the weights of its seed.
    """
    began = "" if row["start"] is None else row["initial_weights"] or ""
    return row["fold"], row["seed"], began


def by_configuration(rows: Sequence[Row], score: str) -> dict[str, dict[Pair, float]]:
    """Returns one score in percent by configuration and pair.

    What a dense CRF makes of a configuration is one of its own, "NAME + CRF".
    """
    found: dict[str, dict[Pair, float]] = {}
    for row in rows:
        for suffix, key in {"": "scores", " + CRF": "crf_scores"}.items():
            scores: Mapping[str, Any] = row.get(key) or {}
            value = scores.get(score, scores.get("class_iou", {}).get(score))
            if value is not None:
                name = row["configuration"] + suffix
                found.setdefault(name, {})[pair_of(row)] = 100 * value
    return found


def paired_table(
    rows: Sequence[Row], baseline: str, columns: Mapping[str, str] = COLUMNS
) -> str:
    """Returns a table in Markdown with a row for each configuration.

    The first row has the means of the baseline; the others the mean difference to it
    over their common pairs, with the 95 % interval of Student's t.

    Args:
        rows: The rows of a sweep.
        baseline: The configuration to compare with.
        columns: Titles and scores; names of classes stand for their IoU.

    Raises:
        ValueError: If the sweep does not have the baseline.
    """
    scores = {title: by_configuration(rows, key) for title, key in columns.items()}
    first = next(iter(scores.values()))
    if baseline not in first:
        raise ValueError(
            f"Expected a configuration of {sorted(first)}. Received: {baseline!r}"
        )
    means = [mean_with_interval(list(s[baseline].values())) for s in scores.values()]
    lines: list[Sequence[str]] = [
        ("loss", "pairs", *columns),
        (baseline, str(len(first[baseline])), *(f"{m.mean:.2f}" for m in means)),
    ]
    for name in ordered(first, baseline):
        found = [paired_difference(s[name], s[baseline]) for s in scores.values()]
        lines.append((name, str(len(found[0].values)), *map(signed, found)))
    return table(lines)


def ordered(scores: Mapping[str, Mapping[Pair, float]], baseline: str) -> list[str]:
    """Returns the configurations with a common pair, the largest gain first."""
    gains = {
        name: paired_difference(values, scores[baseline]).mean
        for name, values in scores.items()
        if name != baseline and set(values) & set(scores[baseline])
    }
    return sorted(gains, key=lambda name: -gains[name])


def signed(difference: Difference) -> str:
    """Writes a difference, with its interval if there are enough pairs."""
    if len(difference.values) < LEAST_FOR_INTERVAL:
        return f"{difference.mean:+.2f}"
    low, high = difference.interval
    return f"{difference.mean:+.2f} [{low:+.2f}, {high:+.2f}]"
