"""Trained runs side by side: what they were asked to do, and what came of it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tf_levelset.inference.evaluation import TRIMAP_WIDTHS
from tf_levelset.training.recipe import PLACES, Recipe
from tf_levelset.training.run_folder import (
    CLASSES_FILE,
    load_recipe,
    read_class_names,
    read_evaluation,
    read_history,
    read_versions,
    training_seconds,
)

NOTHING = "–"
"""Where there is no value."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """One loss of a run, as far as it is: a curve, and a column of the tables.

    Args:
        title: the run's name and the loss's, "RUN/LOSS".
        run: the run's name.
        folder: the loss's folder.
        loss: of `recipes.LOSSES`.
        recipe: of its run.
        history: a row an epoch, as in history.json; none before the first has ended.
        evaluation: as in evaluation.json, once it was judged.
        class_names: those of the model, once it is trained.
        versions: what the run's report was written with, once it was.
    """

    title: str
    run: str
    folder: Path
    loss: str
    recipe: Recipe
    history: tuple[dict[str, float], ...]
    evaluation: dict[str, Any] | None
    class_names: tuple[str, ...] | None
    versions: dict[str, str]

    @property
    def is_trained(self) -> bool:
        """Whether its net is trained to the end, and saved."""
        return (self.folder / "model.keras").exists()

    def state(self) -> str:
        """Returns how far it is, in words."""
        if self.evaluation is not None:
            return "finished"
        if self.is_trained:
            return "trained, not judged yet"
        last = self.history[-1] if self.history else {"epoch": 0, "step": 0}
        if self.recipe.iterations is not None:
            return f"not finished: {last['step']} of {self.recipe.iterations} steps"
        return f"not finished: {last['epoch']} of {self.recipe.epochs} epochs"


def read_entries(paths: Sequence[Path]) -> list[Entry]:
    """Reads runs, to be compared with each other.

    Args:
        paths: run folders, all losses of which are taken, and losses' folders in them.

    Returns:
        The entries, in the order of the paths and of the runs' losses, each once. At
        least one of them has a history.

    Raises:
        ValueError: if a path is neither, if nothing is trained yet, or if the runs are
            not of the same pictures and classes.
    """
    wanted: dict[Path, tuple[Path, str]] = {}
    for path in paths:
        run, losses = _run_of(path)
        for loss in losses:
            wanted.setdefault((run / loss).resolve(), (run, loss))
    names = _names(list(dict.fromkeys(run for run, _ in wanted.values())))
    entries = [_entry(names[run], run, loss) for run, loss in wanted.values()]
    if not any(entry.history for entry in entries):
        raise ValueError(
            "Expected a run with an epoch that has ended. Received: "
            f"{', '.join(map(str, paths))}"
        )
    _check_comparable(entries)
    return entries


def _run_of(path: Path) -> tuple[Path, Sequence[str]]:
    """The run folder of a path, and which of its losses the path names."""
    resolved = path.resolve()
    if (resolved / "config.json").exists():
        return resolved, load_recipe(resolved).losses
    if (resolved.parent / "config.json").exists():
        recipe = load_recipe(resolved.parent)
        if resolved.name in recipe.losses:
            return resolved.parent, (resolved.name,)
    raise ValueError(
        f"Expected a run folder, or a loss's folder in one. Received: {path}"
    )


def _names(runs: Sequence[Path]) -> dict[Path, str]:
    """What tells runs apart: their folders' names, with as many parents as needed."""
    depth = 1
    while len({run.parts[-depth:] for run in runs}) < len(runs):
        depth += 1
    return {run: Path(*run.parts[-depth:]).as_posix() for run in runs}


def _entry(name: str, run: Path, loss: str) -> Entry:
    folder = run / loss
    class_names = _read(folder / CLASSES_FILE, read_class_names, None)
    return Entry(
        title=f"{name}/{loss}",
        run=name,
        folder=folder,
        loss=loss,
        recipe=load_recipe(run),
        history=tuple(_read(folder / "history.json", read_history, [])),
        evaluation=_read(folder / "evaluation.json", read_evaluation, None),
        class_names=None if class_names is None else tuple(class_names),
        versions=_read(run / "report.json", read_versions, {}),
    )


def _read(path: Path, read: Callable[[Path], Any], default: Any) -> Any:
    return read(path) if path.exists() else default


def _check_comparable(entries: Sequence[Entry]) -> None:
    """Raises unless all were judged on the same pictures, by the same classes."""
    first = entries[0]
    for other in entries[1:]:
        for what, mine, theirs in (
            ("pictures", _pictures_of(first), _pictures_of(other)),
            ("classes", _classes_of(first, other), _classes_of(other, first)),
        ):
            if mine != theirs:
                raise ValueError(
                    f"Expected runs that are judged on the same {what}. Received: "
                    f"{first.title} on {mine}, {other.title} on {theirs}"
                )


def _pictures_of(entry: Entry) -> str:
    """The split that a run is judged on, wherever its files lie."""
    recipe = entry.recipe
    options = {k: v for k, v in recipe.dataset_options.items() if k not in PLACES}
    name = f"{recipe.dataset}/{recipe.val_split}"
    return f"{name} with {json.dumps(options, sort_keys=True)}" if options else name


def _classes_of(entry: Entry, other: Entry) -> str:
    """Its classes; nothing where one of both does not know them yet."""
    known = entry.class_names is not None and other.class_names is not None
    return ", ".join(entry.class_names or ()) if known else ""


def configuration(
    entries: Sequence[Entry],
) -> tuple[dict[str, list[str]], dict[str, str]]:
    """What the runs were asked to do.

    Returns:
        By dotted path of the recipe's field, such as `level_set.epsilon`: a text a
        run where they differ, and the one text where they agree.
    """
    values = [flattened(e.recipe.to_json()) for e in one_a_run(entries)]
    differ: dict[str, list[str]] = {}
    common: dict[str, str] = {}
    # In the first run's order, which is the recipe's, then what only others have.
    for path in dict.fromkeys(path for run in values for path in run):
        texts = [_text(run[path]) if path in run else NOTHING for run in values]
        if len(set(texts)) > 1:
            differ[path] = texts
        else:
            common[path] = texts[0]
    return differ, common


def one_a_run(entries: Sequence[Entry]) -> list[Entry]:
    """Returns the first entry of every run."""
    return list({entry.run: entry for entry in reversed(entries)}.values())[::-1]


def flattened(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns a nested mapping's values by dotted path; empty mappings have none."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping):
            result.update(flattened(value, f"{path}."))
        else:
            result[path] = value
    return result


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


@dataclasses.dataclass(frozen=True)
class Cell:
    """A value of one entry.

    Args:
        value: as text.
        difference: to the reference's value, with its sign; empty for the reference
            itself, and where one of both has none.
        is_best: whether none is better, and some are worse.
    """

    value: str
    difference: str = ""
    is_best: bool = False


@dataclasses.dataclass(frozen=True)
class Quantity:
    """What is read off a run.

    Args:
        title: with its unit.
        of: from an entry to its value, None where it has none.
        digits: after the point.
        higher_is_better: or lower.
    """

    title: str
    of: Callable[[Entry], float | None]
    digits: int = 2
    higher_is_better: bool = True

    def cells(self, entries: Sequence[Entry]) -> list[Cell]:
        """Returns a cell an entry, compared with the first that was judged."""
        values = [self.of(entry) for entry in entries]
        compared = [
            value
            for value, entry in zip(values, entries, strict=True)
            if value is not None and entry.evaluation is not None
        ]
        best = (max if self.higher_is_better else min)(compared, default=None)
        reference = reference_of(entries)
        cells = []
        for entry, value in zip(entries, values, strict=True):
            if value is None:
                cells.append(Cell(NOTHING))
                continue
            text = f"{value:.{self.digits}f}"
            if entry.evaluation is None:
                cells.append(Cell(f"{text} so far"))
                continue
            difference = ""
            base = None if reference is None else self.of(reference)
            if base is not None and entry is not reference:
                difference = f"{value - base:+.{self.digits}f}".replace("-", "−")
            is_best = value == best and len(set(compared)) > 1
            cells.append(Cell(text, difference, is_best))
        return cells


def reference_of(entries: Sequence[Entry]) -> Entry | None:
    """Returns the first entry that was judged, which the others are compared with."""
    return next((e for e in entries if e.evaluation is not None), None)


def _judged(*keys: str, factor: float = 100) -> Callable[[Entry], float | None]:
    """Reads a number of an evaluation, in percent by default."""

    def of(entry: Entry) -> float | None:
        value: Any = entry.evaluation
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        return None if value is None else factor * value

    return of


def _seconds(entry: Entry) -> float | None:
    return training_seconds(entry.history) if entry.history else None


SUMMARY = (
    Quantity("mIoU %", _judged("mean_iou")),
    Quantity("pixel accuracy %", _judged("pixel_accuracy")),
    Quantity("boundary IoU %", _judged("boundary_iou")),
    *(
        Quantity(f"mIoU within {width} px %", _judged("trimap_mean_iou", str(width)))
        for width in TRIMAP_WIDTHS
    ),
    Quantity("small objects found %", _judged("small_object_recall")),
    Quantity("level set energy", _judged("level_set_energy", factor=1), 1, False),
    Quantity("training s", _seconds, 0, False),
)
"""What a run is summed up by."""


def by_class(key: str, entries: Sequence[Entry]) -> list[Quantity]:
    """Returns a quantity a class, in percent.

    Args:
        key: of an evaluation, such as `class_iou`.
        entries: those that were judged know the classes.
    """
    reference = reference_of(entries)
    if reference is None or reference.evaluation is None:
        return []
    names = reference.evaluation.get(key, {})
    return [Quantity(name, _judged(key, name)) for name in names]
