"""Tables 1 to 5 of Kim et al. 2019 from run folders, measured beside published."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tf_levelset.checks import is_number, is_whole
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

# A run differs from its recipe by none of these, nor by where its files lie.
_OWN = ("losses", "seed")


@dataclasses.dataclass(frozen=True)
class MeasuredRun:
    """What a run folder holds.

    Args:
        folder: the run folder.
        recipe: as the run was begun with.
        results: evaluations by column, see `published.COLUMNS`.
    """

    folder: Path
    recipe: Recipe
    results: dict[str, dict[str, Any]]

    def changes(self) -> list[str]:
        """Returns what the run does otherwise than the recipe of its name."""
        mine, named = self.recipe.to_json(), RECIPES[self.recipe.name].to_json()
        for values in (mine, named):
            for place in PLACES:
                values["dataset_options"].pop(place, None)
        return [
            f"{key}: {mine[key]} for {named[key]}"
            for key in mine
            if key not in _OWN and mine[key] != named[key]
        ]


def find_runs(paths: Sequence[Path]) -> list[MeasuredRun]:
    """Finds the run folders in folders, at any depth, that have a recipe's name.

    Raises:
        FileNotFoundError: if a path is no folder.
    """
    runs: dict[Path, MeasuredRun] = {}
    for path in paths:
        if not path.is_dir():
            raise FileNotFoundError(f"Expected a folder with runs. Received: {path}")
        for config in sorted(path.rglob("config.json")):
            try:
                recipe = load_recipe(config.parent)
            except ValueError:
                continue  # another program's
            if recipe.name in RECIPES:
                results = _results(config.parent, recipe)
                runs[config.resolve()] = MeasuredRun(config.parent, recipe, results)
    return list(runs.values())


def tables(runs: Sequence[MeasuredRun]) -> list[dict[str, Any]]:
    """Returns the tables as JSON's types, measured beside published.

    Args:
        runs: see `find_runs`. Of several runs of a recipe (its seeds), the mean is
            shown. Runs that are not what their recipe says are listed with what they
            changed, and counted nowhere.

    Returns:
        For each table its number, title, columns and rows; for each row and column
        `published` (mIoU in %, None where the paper has none), `measured` (the mean of
        the `values`, None where not run), and `seconds_published`, `seconds_measured`
        a picture.
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


def markdown(runs: Sequence[MeasuredRun]) -> str:
    """Returns the tables in the paper's layout, as Markdown."""
    filled = tables(runs)
    parts = [
        "mIoU in %, measured / published; – where the paper has no number.",
        *(_markdown(t, f) for t, f in zip(TABLES, filled, strict=True)),
    ]
    notes = [
        f"- Left out: {run.folder}, which is not its recipe, {run.recipe.name}: "
        f"{'; '.join(changes)}"
        for run in runs
        if (changes := run.changes())
    ]
    if notes:
        parts.append("\n".join(notes) + "\n")
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def _results(folder: Path, recipe: Recipe) -> dict[str, dict[str, Any]]:
    """Evaluations of a run by column: the plain ones, and those with a CRF."""
    results = {}
    for loss in recipe.losses:
        path = folder / loss / "evaluation.json"
        if path.exists():
            results[loss] = _checked(path, read_evaluation(path))
    for path in sorted(folder.glob("evaluation-*.json")):
        for loss, result in read_evaluations(path).items():
            _checked(path, result)
            plain = not result["flip"] and result["scales"] == [1.0]
            same = results.get(loss, {}).get("dataset") == result["dataset"]
            if plain and same and result.get("crf") == _crf(recipe, result):
                results[f"{loss}+crf{result['crf']['iterations']}"] = result
    return results


def _checked(path: Path, result: dict[str, Any]) -> dict[str, Any]:
    """Returns an evaluation that has what a table shows, or raises `ValueError`."""
    seconds, crf = result.get("seconds_per_image"), result.get("crf")
    sound = (
        isinstance(seconds, dict)
        and all(map(is_number, [result.get("mean_iou"), *seconds.values()]))
        and {"dataset", "flip", "scales"} <= result.keys()
        and (crf is None or (isinstance(crf, dict) and is_whole(crf.get("iterations"))))
    )
    if not sound:
        raise ValueError(
            f"Expected an evaluation in {path}, with its numbers. Received: "
            f"{result!r:.200}"
        )
    return result


def _crf(recipe: Recipe, result: dict[str, Any]) -> dict[str, Any]:
    """The CRF that belongs to a recipe's net, with a result's iterations."""
    net = "resnet" if "resnet" in recipe.model else "vgg"
    iterations = (result.get("crf") or {}).get("iterations", 10)
    return dataclasses.asdict(
        dataclasses.replace(PRESETS[f"{net}_10"], iterations=iterations)
    )


def _row(
    row: Row, columns: Sequence[str], runs: Sequence[MeasuredRun]
) -> dict[str, Any]:
    named = [run for run in runs if run.recipe.name == row.recipe]
    mine = [run for run in named if not run.changes()]
    return {
        "title": row.title,
        "recipe": row.recipe,
        "runs": [str(run.folder) for run in mine],
        "left_out": {str(r.folder): c for r in named if (c := r.changes())},
        "cells": {column: _cell(row, column, mine) for column in columns},
    }


def _cell(row: Row, column: str, runs: Sequence[MeasuredRun]) -> dict[str, Any]:
    results = [run.results[column] for run in runs if column in run.results]
    values = [100 * result["mean_iou"] for result in results]
    seconds = [sum(result["seconds_per_image"].values()) for result in results]
    return {
        "published": row.published.get(column),
        "measured": _mean(values),
        "values": values,
        "seconds_published": (row.seconds or {}).get(column),
        "seconds_measured": _mean(seconds),
    }


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _markdown(entry: Table, filled: dict[str, Any]) -> str:
    heading = f"Table {entry.number}. {entry.title}" if entry.number else entry.title
    titles = [COLUMNS[column] for column in entry.columns]
    timed = any(row.seconds for row in entry.rows)
    cells = [
        [row["title"], *(_text(row["cells"][c], timed) for c in entry.columns)]
        for row in filled["rows"]
    ]
    rows = [["Method", *titles], *cells]
    if entry.by_method:
        rows = [list(column) for column in zip(*rows, strict=True)]
    return f"### {heading}\n\n{table(rows)}"


def _text(cell: dict[str, Any], timed: bool) -> str:
    """A cell, as "53.6 / 62.8", and with seconds where the paper has them."""
    measured, published = cell["measured"], cell["published"]
    runs = len(cell["values"])
    shown = NOT_RUN if measured is None else f"{measured:.1f}"
    if runs > 1:
        shown += f" (n = {runs})"
    shown += " / –" if published is None else f" / {published:.1f}"
    if timed:
        seconds, paper = cell["seconds_measured"], cell["seconds_published"]
        shown += f"; {NOT_RUN if seconds is None else f'{seconds:.3f} s'}"
        shown += " / –" if paper is None else f" / {paper:.3f} s"
    return shown
