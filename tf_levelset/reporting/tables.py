"""Fills the paper's tables with the results of run folders."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tf_levelset.checks import expect, is_number, is_whole, noting
from tf_levelset.inference.crf import PRESETS
from tf_levelset.inference.score_table import table
from tf_levelset.reporting.published import COLUMNS, TABLES, Row, Table
from tf_levelset.training.recipe import PLACES, Recipe
from tf_levelset.training.recipes import RECIPES
from tf_levelset.training.run_folder import (
    load_recipe,
    read_evaluation,
    read_evaluations,
)

NOT_RUN = "not run"
_NEEDED = ("seconds_per_image", "dataset", "flip", "scales")


@dataclasses.dataclass(frozen=True)
class MeasuredRun:
    """The results of a run folder.

    Args:
        folder: The run folder.
        recipe: The recipe that the run was started with.
        results: Evaluations by column, see `published.COLUMNS`.
    """

    folder: Path
    recipe: Recipe
    results: dict[str, dict[str, Any]]

    def changes(self) -> list[str]:
        """Lists how the run differs from the recipe of its name.

        The losses, the seed and the folders of the data may differ.
        """
        own, named = self.recipe.to_json(), RECIPES[self.recipe.name].to_json()
        for values in (own, named):
            for place in PLACES:
                values["dataset_options"].pop(place, None)
        return [
            f"{field}: {own[field]} instead of {named[field]}"
            for field in own
            if field not in ("losses", "seed") and own[field] != named[field]
        ]


def find_runs(paths: Sequence[Path], faults: list[str]) -> list[MeasuredRun]:
    """Finds the runs of named recipes in folders, at any depth.

    Args:
        paths: The folders.
        faults: Takes a sentence for each file of a run that cannot be read, or has no
            score; what else the run has is returned.

    Raises:
        FileNotFoundError: If a path is not a folder.
    """
    runs: dict[Path, MeasuredRun] = {}
    for path in paths:
        if not path.is_dir():
            raise FileNotFoundError(f"Expected a folder with runs. Received: {path}")
        for config in sorted(path.rglob("config.json")):
            folder = config.parent
            # Other programs write files of this name, too.
            of_run = any(folder.glob("*/history.json"))
            with noting(faults if of_run else []):
                recipe = load_recipe(folder)
                if recipe.name in RECIPES:
                    results = _results(folder, recipe, faults)
                    runs[config.resolve()] = MeasuredRun(folder, recipe, results)
    return list(runs.values())


def _results(
    folder: Path, recipe: Recipe, faults: list[str]
) -> dict[str, dict[str, Any]]:
    """Reads the evaluations of a run that belong to a column of the tables."""
    results: dict[str, dict[str, Any]] = {}
    for loss in recipe.losses:
        path = folder / loss / "evaluation.json"
        if path.exists():
            with noting(faults):
                results[loss] = _checked(path, read_evaluation(path))
    backbone = "resnet" if "resnet" in recipe.model else "vgg"
    for path in sorted(folder.glob("evaluation-*.json")):
        evaluations: dict[str, dict[str, Any]] = {}
        with noting(faults):
            evaluations = read_evaluations(path)
        for loss, result in evaluations.items():
            with noting(faults):
                iterations = _checked(path, result).get("crf") or {"iterations": 10}
                crf = dataclasses.replace(
                    PRESETS[f"{backbone}_10"], iterations=iterations["iterations"]
                )
                if (
                    not result["flip"]
                    and result["scales"] == [1.0]
                    and result["dataset"] == results.get(loss, {}).get("dataset")
                    and result.get("crf") == dataclasses.asdict(crf)
                ):
                    results[f"{loss}+crf{crf.iterations}"] = result
    return results


def _checked(path: Path, result: dict[str, Any]) -> dict[str, Any]:
    """Returns an evaluation, or raises `ValueError` if a table cannot show it."""
    seconds, crf = result.get("seconds_per_image"), result.get("crf")
    valid = (
        isinstance(seconds, dict)
        and all(map(is_number, [result.get("mean_iou"), *seconds.values()]))
        and set(_NEEDED) <= result.keys()
        and (crf is None or (isinstance(crf, dict) and is_whole(crf.get("iterations"))))
    )
    received = {name: result.get(name) for name in ("mean_iou", *_NEEDED, "crf")}
    expect(valid, f"{path} to hold an evaluation with its scores and times", received)
    return result


def tables(runs: Sequence[MeasuredRun]) -> list[dict[str, Any]]:
    """Returns the published and measured results as JSON types.

    Args:
        runs: See `find_runs`. Runs of one recipe, which differ in their seeds, are
            averaged. A run that differs from its recipe is listed with the differences
            and left out of the averages.

    Returns:
        For each table the number, title, columns and rows. For each row and column
        `published` (mIoU in %, or None), `measured` (the mean of `values`, or None),
        `seconds_published` and `seconds_measured` (for each image, or None).
    """
    return [
        {
            "table": entry.number,
            "title": entry.title,
            "columns": list(entry.columns),
            "rows": [_row(row, entry.columns, runs) for row in entry.rows],
        }
        for entry in TABLES
    ]


def _row(
    row: Row, columns: Sequence[str], runs: Sequence[MeasuredRun]
) -> dict[str, Any]:
    named = [run for run in runs if run.recipe.name == row.recipe]
    counted = [run for run in named if not run.changes()]
    return {
        "title": row.title,
        "recipe": row.recipe,
        "runs": [str(run.folder) for run in counted],
        "left_out": {str(r.folder): c for r in named if (c := r.changes())},
        "cells": {column: _cell(row, column, counted) for column in columns},
    }


def _cell(row: Row, column: str, runs: Sequence[MeasuredRun]) -> dict[str, Any]:
    results = [run.results[column] for run in runs if column in run.results]
    values = [100 * result["mean_iou"] for result in results]
    seconds = [sum(result["seconds_per_image"].values()) for result in results]
    return {
        "published": row.published.get(column),
        "measured": sum(values) / len(values) if values else None,
        "values": values,
        "seconds_published": (row.seconds or {}).get(column),
        "seconds_measured": sum(seconds) / len(seconds) if seconds else None,
    }


def markdown(runs: Sequence[MeasuredRun], faults: Sequence[str] = ()) -> str:
    """Returns the tables as Markdown, in the layout of the paper.

    Args:
        runs: See `find_runs`.
        faults: Sentences that are listed with the runs that are left out.
    """
    parts = [
        "mIoU in %, measured / published; – if the paper reports no number.",
        *map(_markdown, TABLES, tables(runs)),
    ]
    notes = [
        f"- Left out: {run.folder}, which differs from its recipe, {run.recipe.name}: "
        f"{'; '.join(changes)}"
        for run in runs
        if (changes := run.changes())
    ]
    notes += [f"- Left out: {fault}" for fault in faults]
    if notes:
        parts.append("\n".join(notes))
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def _markdown(entry: Table, filled: dict[str, Any]) -> str:
    heading = f"Table {entry.number}. {entry.title}" if entry.number else entry.title
    timed = any(row.seconds for row in entry.rows)
    rows = [
        ["Method", *(COLUMNS[column] for column in entry.columns)],
        *(
            [row["title"], *(_text(row["cells"][c], timed) for c in entry.columns)]
            for row in filled["rows"]
        ),
    ]
    if entry.by_method:
        rows = [list(column) for column in zip(*rows, strict=True)]
    return f"### {heading}\n\n{table(rows)}"


def _text(cell: dict[str, Any], timed: bool) -> str:
    """Formats a cell as "53.6 / 62.8", with seconds where the paper reports them."""

    def text(value: float | None, form: str, otherwise: str) -> str:
        return otherwise if value is None else form.format(value)

    runs = f" (n = {len(cell['values'])})" if len(cell["values"]) > 1 else ""
    measured = text(cell["measured"], "{:.1f}" + runs, NOT_RUN)
    shown = f"{measured} / {text(cell['published'], '{:.1f}', '–')}"
    if timed:
        seconds = text(cell["seconds_measured"], "{:.3f} s", NOT_RUN)
        shown += f"; {seconds} / {text(cell['seconds_published'], '{:.3f} s', '–')}"
    return shown
