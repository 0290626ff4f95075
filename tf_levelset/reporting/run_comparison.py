"""Reads several training runs and compares their settings and scores."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tf_levelset.checks import noting
from tf_levelset.inference.evaluation import TRIMAP_WIDTHS
from tf_levelset.training.recipe import PLACES, Recipe, flat
from tf_levelset.training.run_folder import (
    CLASSES_FILE,
    load_recipe,
    read_class_names,
    read_evaluation,
    read_history,
    read_versions,
    training_seconds,
)

NO_VALUE, ENERGY = "–", "level_set_energy"


@dataclasses.dataclass(frozen=True)
class Entry:
    """One loss of a run: a curve of each plot and a column of each table.

    Args:
        title: Name of the run and of the loss, "RUN/LOSS".
        run: Name of the run.
        folder: Folder of the loss.
        loss: One of `recipe.LOSSES`.
        recipe: Recipe of the run.
        history: A row for each epoch, as in history.json; empty during the first.
        evaluation: Content of evaluation.json, or None before it is written.
        class_names: Classes of the model, or None before they are written.
        versions: Versions of the libraries that wrote the report of the run; empty
            before the run has finished.
        faults: Why files of the loss are left out, a sentence for each.
    """

    title: str
    run: str
    folder: Path
    loss: str
    recipe: Recipe
    history: Sequence[dict[str, float]]
    evaluation: dict[str, Any] | None
    class_names: Sequence[str] | None
    versions: dict[str, str]
    faults: Sequence[str]

    @property
    def is_trained(self) -> bool:
        """Whether the trained model has been saved."""
        return (self.folder / "model.keras").exists()

    def state(self) -> str:
        """Describes the progress in words."""
        if self.evaluation is not None:
            return f"finished after {training_seconds(self.history):.0f} s of training"
        if self.is_trained:
            return "trained, not yet evaluated"
        last = self.history[-1] if self.history else {"epoch": 0, "step": 0}
        if self.recipe.iterations is not None:
            return f"not finished: {last['step']} of {self.recipe.iterations} steps"
        return f"not finished: {last['epoch']} of {self.recipe.epochs} epochs"


def read_entries(paths: Sequence[Path]) -> list[Entry]:
    """Reads runs that are to be compared with each other.

    Args:
        paths: Run folders, which stand for all their losses, and folders of single
            losses in them.

    Returns:
        Each loss once, in the order of the paths and of the recipes. At least one has a
        history.

    Raises:
        ValueError: If a path is neither, if no epoch has finished yet, or if the runs
            are evaluated on different images or classes.
    """
    wanted = list(dict.fromkeys(found for path in paths for found in _losses_in(path)))
    names = _unique_names(list(dict.fromkeys(run for run, _ in wanted)))
    entries = [_read_entry(names[run], run, loss) for run, loss in wanted]
    if not any(entry.history for entry in entries):
        raise ValueError(
            "Expected a run in which an epoch has finished. Received: "
            f"{', '.join(map(str, paths))}"
        )
    _check_comparable(entries)
    return entries


def _losses_in(path: Path) -> list[tuple[Path, str]]:
    """Returns the run folder and the name of each loss that a path stands for."""
    resolved = path.resolve()
    if (resolved / "config.json").exists():
        return [(resolved, loss) for loss in load_recipe(resolved).losses]
    run, loss = resolved.parent, resolved.name
    if (run / "config.json").exists() and loss in load_recipe(run).losses:
        return [(run, loss)]
    raise ValueError(
        f"Expected a run folder, or the folder of a loss in one. Received: {path}"
    )


def _unique_names(runs: Sequence[Path]) -> dict[Path, str]:
    """Names each run after its folder, with as many parents as make it unique."""
    depth = 1
    while len({run.parts[-depth:] for run in runs}) < len(runs):
        depth += 1
    return {run: Path(*run.parts[-depth:]).as_posix() for run in runs}


def _read_entry(name: str, run: Path, loss: str) -> Entry:
    def read(path: Path, reader: Callable[[Path], Any], default: Any) -> Any:
        with noting(faults):
            return reader(path) if path.exists() else default
        return default

    faults: list[str] = []
    folder = run / loss
    return Entry(
        title=f"{name}/{loss}",
        run=name,
        folder=folder,
        loss=loss,
        recipe=load_recipe(run),
        history=read(folder / "history.json", read_history, []),
        evaluation=read(folder / "evaluation.json", read_evaluation, None),
        class_names=read(folder / CLASSES_FILE, read_class_names, None),
        versions=read(run / "report.json", read_versions, {}),
        faults=faults,
    )


def _check_comparable(entries: Sequence[Entry]) -> None:
    """Raises `ValueError` unless all are evaluated on the same images and classes."""
    for subject, values in (
        ("images", {entry.title: _images_of(entry) for entry in entries}),
        (
            "classes",
            {e.title: ", ".join(e.class_names) for e in entries if e.class_names},
        ),
    ):
        (first, expected), *others = [*values.items()] or [("", "")]
        for title, value in others:
            if value != expected:
                raise ValueError(
                    f"Expected runs that are evaluated on the same {subject}. "
                    f"Received: {first} on {expected}, {title} on {value}"
                )


def _images_of(entry: Entry) -> str:
    """Names the split that a run is evaluated on, wherever its files are."""
    recipe = entry.recipe
    options = {k: v for k, v in recipe.dataset_options.items() if k not in PLACES}
    name = f"{recipe.dataset}/{recipe.val_split}"
    return f"{name} with {json.dumps(options, sort_keys=True)}" if options else name


def settings(entries: Sequence[Entry]) -> dict[str, list[str]]:
    """Returns the settings of the runs as texts.

    Args:
        entries: See `read_entries`.

    Returns:
        For each field of the recipes, such as `level_set.epsilon`, and each version,
        such as `versions.keras`, a text for each run.
    """
    runs = {entry.run: entry for entry in entries}.values()
    values = [flat({**e.recipe.to_json(), "versions": e.versions}) for e in runs]
    fields = dict.fromkeys(field for run in values for field in run)
    return {field: [run.get(field, NO_VALUE) for run in values] for field in fields}


SUMMARY = {
    "mIoU %": ("mean_iou",),
    "pixel accuracy %": ("pixel_accuracy",),
    "boundary IoU %": ("boundary_iou",),
    **{f"mIoU within {w} px %": ("trimap_mean_iou", str(w)) for w in TRIMAP_WIDTHS},
    "small objects found %": ("small_object_recall",),
    "level set energy": (ENERGY,),
}
"""The scores that summarize a run, and where an evaluation has them."""


def score_tables(entries: Sequence[Entry]) -> dict[str, dict[str, list[str]]]:
    """Returns the scores of the entries as texts.

    Args:
        entries: See `read_entries`.

    Returns:
        Tables by their captions; in a table, by the name of a score, a text for each
        entry, with the difference to the first evaluated entry, and whether it is the
        best. No table before an entry is evaluated.
    """
    evaluations = [entry.evaluation or {} for entry in entries]
    tables: dict[str, dict[str, tuple[str, ...]]] = {"Summary": SUMMARY}
    for caption, key in (
        ("IoU of each class, %", "class_iou"),
        ("Boundary IoU of each class, %", "class_boundary_iou"),
    ):
        found = [evaluation[key] for evaluation in evaluations if key in evaluation]
        tables[caption] = {name: (key, name) for name in (found or [{}])[0]}
    return {
        caption: {name: _texts(evaluations, keys) for name, keys in rows.items()}
        for caption, rows in tables.items()
        if rows and any(evaluations)
    }


def _texts(evaluations: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> list[str]:
    """Returns one score of each evaluation as text."""
    factor, digits, best_of = (1, 1, min) if keys == (ENERGY,) else (100, 2, max)

    def score(evaluation: Mapping[str, Any]) -> float | None:
        value: Any = evaluation
        for key in keys:
            value = value.get(key) if value else None
        return None if value is None else factor * value

    first = next(evaluation for evaluation in evaluations if evaluation)
    known = {number for e in evaluations if (number := score(e)) is not None}

    def text(evaluation: Mapping[str, Any]) -> str:
        number, reference = score(evaluation), score(first)
        if number is None:
            return NO_VALUE
        shown = f"{number:.{digits}f}"
        if reference is not None and evaluation is not first:
            difference = f"{number - reference:+.{digits}f}"
            shown += f" ({difference.replace('-', '−')})"
        is_best = len(known) > 1 and number == best_of(known)
        return f"{shown}, best" if is_best else shown

    return [text(evaluation) for evaluation in evaluations]
